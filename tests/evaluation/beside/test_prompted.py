"""A prompt instead of training, against plain forward passes, and the sentence for each outcome."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from sft_app.data.tokens import render_conversation, render_last_prompt, stop_ids
from sft_app.evaluation.answer_metrics import score_answer, summarise_answers
from sft_app.evaluation.beside.prompted_verdicts import prompt_verdict, prompted_lines, prompted_note, prompted_sentence
from sft_app.evaluation.results.headline import headline
from sft_app.evaluation.scorable_rows import read_scorable_rows
from sft_app.evaluation.score_run import score_run
from sft_app.evaluation.scorecard import RowScore, correct_for_several, make_scorecard
from sft_app.evaluation.sides.examples import NearestExamples, with_examples
from sft_app.inference.generation import Answer, Sampling, answer_prompts
from sft_app.inference.pair import LoadedPair, load_pair
from sft_app.inference.sides import BASE, find_sides
from sft_app.runs.folder import Run
from sft_app.runs.scorecard import PromptedScores, Scorecard
from tests.made_runs import randomise_adapter

Make = Callable[..., Any]
TOPICS = ["shoes", "parcels", "invoices", "refunds", "gloves", "scarves", "vouchers", "lamps"]
HELDOUT = ["Where is it?", "Hi", "Do you ship to Spain?", "Thanks!", "Who are you?", "When?"]


def rows(pairs: Sequence[tuple[str, str]], first: int = 1, more: Sequence[Any] = ()) -> str:
    return "".join(
        json.dumps(
            {
                "row": number,
                "messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": told}, *more],
            }
        )
        + "\n"
        for number, (asked, told) in enumerate(pairs, start=first)
    )


@pytest.fixture(scope="module")
def made(make_run: Make) -> Any:
    """A run with six held-out conversations; the last of them has two turns."""
    made = make_run(
        change=lambda model: randomise_adapter(model, 3, 0.2), dtype="float32", max_length=480, max_new_tokens=6
    )
    made.run.train_file.write_text(rows([(f"What about {topic}?", f"We sell {topic}.") for topic in TOPICS]))
    more = [{"role": "user", "content": "And?"}, {"role": "assistant", "content": "That is all."}]
    pairs = [(asked, f"Answer {number}.") for number, asked in enumerate(HELDOUT)]
    made.run.heldout_file.write_text(rows(pairs[:-1], 50) + rows(pairs[-1:], 60, more))
    return made


@pytest.fixture(scope="module")
def pair(made: Any) -> LoadedPair:
    return load_pair(find_sides(BASE, made.run.id, made.home), made.home)


@torch.no_grad()
def plain_loss(model: Any, rendered: Any) -> tuple[float, int]:
    ids, labels = torch.tensor([rendered.input_ids]), torch.tensor([rendered.labels])
    tokens = int((labels[0, 1:] != -100).sum())
    return float(model(input_ids=ids, labels=labels).loss) * tokens, tokens


def test_losses_and_answers_are_those_of_the_base_with_a_longer_prompt(
    made: Any, pair: LoadedPair, load_untouched: Make
) -> None:
    """The examples are prompted into a model that has never seen an adapter."""
    card, _ = score_run(made.run, pair, prompts=6)
    found, base = card.prompted, load_untouched(made)
    assert found.examples == 3 and found.left_out == 0 and 1 <= found.used <= 3
    index, losses, scores = NearestExamples(made.run.train_file), [], []
    for row in read_scorable_rows(made.run.heldout_file, pair.tokenizer, 480):
        (examples,) = index.find([row.conversation], 3)
        prompted = with_examples(pair.tokenizer, row.conversation, examples, "", 512 - row.rendered.trained)
        rendered = render_conversation(pair.tokenizer, prompted.conversation, 512)
        losses.append(plain_loss(base, rendered))
        prompt = render_last_prompt(pair.tokenizer, prompted.conversation)
        (answer,) = answer_prompts(base, pair.tokenizer, [prompt], Sampling(max_new_tokens=6), stop_ids(pair.tokenizer))
        scores.append(score_answer(answer, row.conversation.messages[-1].content))
    total, tokens = map(sum, zip(*losses, strict=True))
    assert found.predicted.base["loss"] == pytest.approx(total / tokens, abs=1e-3)
    assert found.predicted.heldout.trained_tokens == tokens, "only the last answer of each conversation"
    assert found.predicted.row_count == 6 and found.answers.prompts == 6
    assert found.answers.base["chrf"] == pytest.approx(sum(one["chrf"] for one in scores) / 6)
    assert found.answers.tuned == card.answers.tuned
    assert {name: found.base[name] for name in card.answers.base} == card.answers.base
    assert Scorecard.model_validate(json.loads(json.dumps(card.as_record()))).as_record() == card.as_record()
    assert {"loss", "chrf"} <= {one.line.name for one in prompted_lines(found)}


def test_the_fine_tuned_side_is_measured_on_the_same_last_answers(made: Any, pair: LoadedPair) -> None:
    card, _ = score_run(made.run, pair, prompts=5)  # those with one turn, whose scores are known
    single, _ = score_run(made.run, pair, prompts=6)
    assert card.prompted.predicted.row_count == 5 and single.prompted.predicted.row_count == 6
    assert single.prompted.predicted.heldout.trained_tokens < single.heldout.trained_tokens
    assert single.prompted.predicted.tuned["loss"] != single.tuned["loss"]


def with_settings(monkeypatch: pytest.MonkeyPatch, run: Run, **changes: Any) -> None:
    record = run.record()
    changed = record.model_copy(update={"settings": record.settings.model_copy(update=changes)})
    monkeypatch.setattr(type(run), "record", lambda run: changed)


def test_it_can_be_switched_off(made: Any, pair: LoadedPair, monkeypatch: pytest.MonkeyPatch) -> None:
    with_settings(monkeypatch, made.run, scorecard_prompted=0)
    card, _ = score_run(made.run, pair, prompts=2)
    assert card.prompted is None and card.answers is not None
    assert score_run(made.run, pair, prompts=0)[0].prompted is None


def test_the_system_prompt_of_the_run_is_part_of_the_prompt(
    made: Any, pair: LoadedPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = score_run(made.run, pair, prompts=6)[0].prompted
    with_settings(monkeypatch, made.run, system_prompt="Sell.")
    found = score_run(made.run, pair, prompts=6)[0].prompted
    assert found.has_system and "the run's system prompt" in prompted_note(found)
    assert found.predicted.base["loss"] != without.predicted.base["loss"]
    assert found.predicted.tuned == without.predicted.tuned, "the fine-tuned model is asked as before"


@pytest.mark.starter
def test_a_prompt_that_wins_is_said_to_win(make_run: Make, starter_home: Path, tmp_path: Path) -> None:
    """A run that has learned nothing, against examples that show the model a form that it cannot guess."""
    home = tmp_path / "home"
    (home / "models").mkdir(parents=True)
    (home / "models" / "starter").symlink_to(starter_home / "models" / "starter")
    made = make_run(change=lambda model: model, home=home, model="starter", max_new_tokens=8, general_prompts=1)
    asked = "Is the sea salty|Do cats sleep|Can I swim|Who wrote it|What is rain|Is tea hot"
    said = "Zanzibar quokka seventeen, madam."
    made.run.train_file.write_text(rows([(f"Tell me about {topic} now", said) for topic in TOPICS]))
    made.run.heldout_file.write_text(rows([(question, said) for question in asked.split("|")]))
    card, _ = score_run(made.run, load_pair(find_sides(BASE, made.run.id, home), home), prompts=6)
    assert prompt_verdict(card.prompted) == "prompt"
    assert card.prompted.answers.base["rouge_l"] > 0.5 > card.prompted.answers.tuned["rouge_l"]
    assert headline(card).sentence.endswith("A prompt with a few of your examples does better.")
    assert "A prompt with" in prompted_sentence(card.prompted) and "does better" in prompted_sentence(card.prompted)


def scores(losses: Sequence[float]) -> list[RowScore]:
    return [RowScore(10 * loss, 10, 5) for loss in losses]


def outcome(prompt: Sequence[float], tuned: Sequence[float]) -> PromptedScores:
    return PromptedScores(examples=3, used=3.0, predicted=make_scorecard(scores(prompt), scores(tuned)))


SPREAD = [1.0, 1.2, 0.9, 1.1, 1.0, 1.3, 0.8, 1.05]


@pytest.mark.parametrize(
    ("tuned", "verdict", "words"),
    [
        (
            [loss - 0.4 for loss in SPREAD],
            "fine-tuned",
            "Fine-tuning does better than a prompt with 3 of your examples",
        ),
        ([loss + 0.4 for loss in SPREAD], "prompt", "A prompt with 3 of your examples does better than this"),
        (SPREAD, "as well", "A prompt with 3 of your examples does as well as this"),
        (
            [loss + 0.01 * (-1) ** at for at, loss in enumerate(SPREAD)],
            "as well",
            "Fine-tuning only makes the prompt shorter",
        ),
        ([loss + 0.5 * (-1) ** at for at, loss in enumerate(SPREAD)], "too few", "Not enough rows to tell whether"),
        ([*SPREAD[:-1], float("nan")], "not judged", "cannot be compared: a loss is not a number"),
    ],
)
def test_each_outcome_has_its_sentence(tuned: Sequence[float], verdict: str, words: str) -> None:
    found = outcome(SPREAD, tuned)
    assert prompt_verdict(found) == verdict and words in prompted_sentence(found)


def test_three_rows_that_agree_are_too_few() -> None:
    found = outcome(SPREAD[:3], SPREAD[:3])
    assert prompt_verdict(found) in ("too few", "as well")
    found = outcome(SPREAD[:3], [loss + 0.001 for loss in SPREAD[:3]])
    assert prompt_verdict(found) == "too few"


def corrected(found: PromptedScores) -> PromptedScores:
    """As in a scorecard, where verdicts are corrected for the number of measures."""
    scores = [RowScore(2.0, 1, 0)] * 8
    card = correct_for_several(make_scorecard(scores, scores).model_copy(update={"prompted": found}))
    assert card.prompted is not None
    return card.prompted


def test_answers_that_say_the_opposite_are_mentioned() -> None:
    reference = "The parcel is on its way to you and will arrive tomorrow."
    near, far = (
        [score_answer(Answer(text, finished=True), reference) for _ in range(12)]
        for text in (reference[:50], "No idea.")
    )
    found = outcome(SPREAD, [loss - 0.4 for loss in SPREAD])
    found = corrected(found.model_copy(update={"answers": summarise_answers(near, far)}))
    assert "But the answers with the prompt are closer to the reference answers" in prompted_sentence(found)
    found = corrected(found.model_copy(update={"answers": summarise_answers(far, near)}))
    assert "But" not in prompted_sentence(found)


def test_a_run_without_examples_says_so() -> None:
    found = PromptedScores(examples=3, note="The training data has no questions.")
    assert prompted_sentence(found) == "Prompt or fine-tune? Not compared. The training data has no questions."
    assert prompted_lines(found) == []
