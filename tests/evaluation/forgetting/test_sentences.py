"""What is said of models that really lost something, and of those that lost nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sft_app.cli.terminal import print_scorecard
from sft_app.data.tokens import render_prompt
from sft_app.evaluation.forgetting.general_questions import (
    asking_instead,
    keep_general_questions,
    read_general_questions,
)
from sft_app.evaluation.forgetting.known import ANSWER_TOKENS
from sft_app.evaluation.forgetting.sentences import describe_known, forgetting_sentence, known_sentence
from sft_app.evaluation.results.findings import situation
from sft_app.evaluation.score_run import keep_score, score_run
from sft_app.export.model_card import model_card
from sft_app.export.report import report_html, report_markdown
from sft_app.inference.batch_generation import answer_both
from sft_app.inference.generation import Sampling
from sft_app.inference.pair import LoadedPair, load_pair
from sft_app.inference.sides import BASE, find_sides
from sft_app.runs.known import Known
from sft_app.runs.scorecard import Scorecard
from sft_app.ui.compare.scorecard_views import scorecard_view
from tests.made_runs import randomise_adapter

Make = Callable[..., Any]
KNOWN = 12


def own_questions(pair: LoadedPair, file: Path) -> None:
    """Questions whose checks are what the base itself answers, so that it knows them all."""
    asked = [[{"role": "user", "content": f"Question {number}?"}] for number in range(KNOWN)]
    prompts = [render_prompt(pair.tokenizer, messages) for messages in asked]
    base, _ = answer_both(pair, prompts, Sampling(max_new_tokens=ANSWER_TOKENS))
    rows = [
        {
            "kind": ("facts", "refusing")[number % 2],
            "messages": [*messages, {"role": "assistant", "content": "Yes."}],
            "checks": [{"contains": answer.text}],
        }
        for number, (messages, answer) in enumerate(zip(asked, base, strict=True))
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def made_with_questions(make_run: Make, **made_as: Any) -> tuple[Any, LoadedPair]:
    made = make_run(dtype="float32", max_length=256, max_new_tokens=4, **made_as)
    pair = load_pair(find_sides(BASE, made.run.id, made.home), made.home)
    file = made.home / "own.jsonl"
    own_questions(pair, file)
    keep_general_questions(made.run.general_file, read_general_questions(file))
    return made, pair


def measure(made: Any, pair: LoadedPair, prompts: int = 1) -> Known:
    known = score_run(made.run, pair, prompts)[0].known
    assert known is not None
    return known


def said_of(known: Known) -> str:
    return known_sentence(Scorecard(base={"loss": 1.0}, tuned={"loss": 1.0}, known=known))


def words(text: str) -> str:
    return " ".join(text.split())


def test_an_adapter_without_effect_has_lost_nothing(make_run: Make) -> None:
    known = measure(*made_with_questions(make_run, change=lambda model: model))
    assert known.by_answer is not None and known.by_loss is not None
    assert (known.by_answer.asked, known.by_answer.known, known.by_answer.lost) == (KNOWN, KNOWN, 0)
    assert (known.by_loss.lost, known.by_loss.gained, known.lost) == (0, 0, [])
    assert said_of(known).startswith("No general question was lost: the fine-tuned model still knows all 12")


def test_a_damaged_model_is_told_everywhere_in_the_same_words(
    make_run: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    made, pair = made_with_questions(make_run, change=lambda model: randomise_adapter(model, 3, 2.0))
    card = keep_score(made.run, pair, prompts=1)
    text = describe_known(made.run.scorecard())
    assert text is not None and text.is_worse and len(text.lost) == KNOWN
    assert text.sentence.startswith(
        "The fine-tuned model forgot something: of 12 general questions that the base model answered correctly"
    )
    assert "it answers 12 wrongly (100%, 95% interval 74% to 100%; facts 6, refusing 6)" in text.sentence
    assert card.known is not None and card.known.file == "general.jsonl"
    print_scorecard(card)
    printed = words(capsys.readouterr().out)
    for shown in (
        scorecard_view(card),
        report_html(made.run),
        report_markdown(made.run),
        model_card(made.run, "me/it"),
    ):
        assert "model forgot something: of 12 general questions that the base model answered correctly" in words(shown)
        assert "Known before, lost now" in shown and "use fewer" not in shown
    assert text.sentence in printed
    assert "Question 3?" in printed and "Question 3?" in scorecard_view(card)
    assert "Question 3?" not in model_card(made.run, "me/it"), "questions of your own may be private"


def test_copies_of_a_general_question_are_one_observation(make_run: Make) -> None:
    """Eight copies that got worse in the same way are no evidence of eight."""
    made, pair = made_with_questions(make_run, change=lambda model: randomise_adapter(model, 3, 2.0))
    question = read_general_questions(made.run.general_file)[0]
    keep_general_questions(made.run.general_file, [question] * 8)
    card, _ = score_run(made.run, pair, 1)
    assert card.general is not None and card.general.row_count == 8 and card.general.independent_rows == 1
    assert forgetting_sentence(card).startswith("Not enough rows to tell from 8 general questions")
    assert card.known is not None and card.known.by_answer is not None
    assert (card.known.by_answer.known, card.known.by_answer.lost, len(card.known.lost)) == (1, 1, 1)


def test_nothing_is_answered_without_prompts_or_with_thoughts(make_run: Make) -> None:
    made, pair = made_with_questions(make_run)
    known = measure(made, pair, prompts=0)
    assert known.by_answer is None and known.by_loss is not None and known.by_loss.asked == KNOWN


def test_score_asks_the_questions_of_a_file_and_keeps_them_with_the_run(
    make_run: Make, cli: Callable[..., Any], home: Path, tmp_path: Path
) -> None:
    home.mkdir(exist_ok=True)
    made = make_run(home=home, dtype="float32", max_length=256, max_new_tokens=4)
    made.run.update_status(state="finished")
    own = tmp_path / "own.yaml"
    own.write_text("- messages: [{role: user, content: 'Is it?'}, {role: assistant, content: 'Yes.'}]\n  checks: 7\n")
    refused = cli("score", made.run.id, "--general", own)
    assert refused.status != 0 and "own.yaml, question 1" in refused.err and not made.run.general_file.exists()
    own.write_text(own.read_text().replace("7", "[{contains: 'Yes'}]"))
    for extra in (["--general", own], []):
        done = cli("score", made.run.id, "--prompts", "1", "--json", *extra)
        assert done.status == 0, done.err
        known = json.loads(done.out)["known"]
        assert (known["file"], known["by_answer"]["asked"]) == ("general.jsonl", 1)


def test_questions_of_a_file_are_kept_only_with_what_they_measured(make_run: Make, tmp_path: Path) -> None:
    """Interrupted halfway, the old scorecard would stand beside questions that it never asked."""
    run = make_run().run
    before = json.dumps({"messages": [{"role": "user", "content": "Is it?"}, {"role": "assistant", "content": "Yes."}]})
    run.general_file.write_text(before)
    own = tmp_path / "own.jsonl"
    own.write_text(before.replace("Is it?", "Or not?"))
    with pytest.raises(KeyboardInterrupt), asking_instead(run, read_general_questions(own)) as asked:
        assert "Or not?" in asked.read_text() and run.general_file.read_text() == before
        raise KeyboardInterrupt
    assert run.general_file.read_text() == before and not asked.exists()
    with asking_instead(run, []) as asked:
        assert asked == run.general_file


def test_a_new_run_holds_its_own_copy_of_the_questions(make_run: Make, tmp_path: Path) -> None:
    own = tmp_path / "own.json"
    row = {"messages": [{"role": "user", "content": "Is it?"}, {"role": "assistant", "content": "Yes."}]}
    own.write_text(json.dumps([row] * 3))
    made = make_run(general_questions=str(own))
    own.unlink()
    assert len(read_general_questions(made.run.general_file)) == 3
    assert str(tmp_path) not in report_html(made.run)


@pytest.mark.starter
def test_the_starter_knows_enough_of_our_questions_to_tell_when_it_is_damaged(
    make_run: Make, give_starter: Callable[[Path], None], tmp_path: Path
) -> None:
    give_starter(tmp_path)
    chosen = {"model": "starter", "general_prompts": 40, "general_answers": 8, "max_new_tokens": 2}
    made = make_run(change=lambda model: randomise_adapter(model, 1, 0.3), home=tmp_path, dtype="float32", **chosen)
    pair = load_pair(find_sides(BASE, made.run.id, made.home), made.home)
    known = measure(made, pair)
    assert situation(known) == "some lost" and said_of(known).startswith("The fine-tuned model forgot something")
    by_loss, by_answer = known.by_loss, known.by_answer
    assert by_loss is not None and by_loss.known >= 10 and by_loss.lost == by_loss.known
    # Checks of small talk are weak, so that an answer may pass one by accident.
    assert by_answer is not None and by_answer.known >= 3 and 2 * by_answer.lost > by_answer.known
