"""Further sides on a scorecard: other runs against plain models, recorded answers, and what is said about them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sft_app.cli.terminal import print_scorecard
from sft_app.data.tokens import render_last_prompt, stop_ids
from sft_app.errors import ModelError, SettingsError
from sft_app.evaluation.answer_metrics import ANSWER_METRICS, score_answer, summarise_answers
from sft_app.evaluation.beside.side_scores import NO_ANSWERS, NO_QUESTIONS, PROMPT_FORM, UNKNOWN_DATA
from sft_app.evaluation.beside.side_verdicts import compare_sides, side_sentence
from sft_app.evaluation.scorable_rows import read_scorable_rows
from sft_app.evaluation.score_run import keep_score
from sft_app.evaluation.scorecard import RowScore, correct_for_several, make_scorecard
from sft_app.evaluation.sides.more_sides import ModelSide, SideText, side_notes
from sft_app.evaluation.sides.scored_sides import find_scored_sides
from sft_app.export.report import report_html, report_markdown
from sft_app.inference.generation import Answer, Sampling, answer_prompts
from sft_app.inference.pair import load_pair
from sft_app.inference.sides import BASE, find_all_sides, find_sides
from sft_app.runs.scorecard import Scorecard, SideAnswers, SideScores
from sft_app.ui.compare.scorecard_views import scorecard_view
from tests.made_runs import randomise_adapter

Make = Callable[..., Any]
QUESTIONS = ["Where is it?", "Hi", "Do you ship to Spain? I need it by Friday.", "Thanks!", "Who?", "When?", "How?"]


def lines(questions: list[str]) -> str:
    pairs = [(question, f"Answer {number}.") for number, question in enumerate(questions)]
    rows = [[{"role": "user", "content": asked}, {"role": "assistant", "content": told}] for asked, told in pairs]
    return "".join(json.dumps({"row": number, "messages": row}) + "\n" for number, row in enumerate(rows, start=5))


@pytest.fixture(scope="module")
def made(make_run: Make) -> Any:
    """A run with seven held-out questions, and another one that was trained on two of them."""
    common: dict[str, Any] = {"dtype": "float32", "max_length": 256, "max_new_tokens": 6, "general_prompts": 3}
    made = make_run(change=lambda model: randomise_adapter(model, 3, 0.2), **common)
    made.other = make_run(change=lambda model: randomise_adapter(model, 4, 0.3), home=made.home, **common)
    made.run.heldout_file.write_text(lines(QUESTIONS))
    made.other.run.train_file.write_text(lines([*QUESTIONS[:2], "Something else?"]))
    made.recorded = made.home / "hosted.jsonl"
    answers = [
        {"prompt": asked, "answer": f"Answer {number}." if number else "No."} for number, asked in enumerate(QUESTIONS)
    ]
    made.recorded.write_text("".join(json.dumps(row) + "\n" for row in answers[:-1]))
    return made


@pytest.fixture(scope="module")
def card(made: Any) -> Scorecard:
    names = [made.other.run.id, str(made.recorded)]
    sides, more = find_scored_sides(made.run.id, names, made.home)
    told: list[float] = []
    keep_score(made.run, load_pair(sides, made.home), 20, told.append, more=more)
    assert told == sorted(told) and told[-1] == 1.0
    found = made.run.scorecard()
    assert found is not None
    return found


def test_another_run_answers_as_it_does_alone(made: Any, card: Scorecard, load_untouched: Make) -> None:
    from peft import PeftModel

    model = PeftModel.from_pretrained(load_untouched(made), str(made.other.run.adapter_dir)).merge_and_unload().eval()
    side, scores = card.sides[0], []
    tokenizer = load_pair(find_sides(BASE, made.run.id, made.home), made.home).tokenizer
    for row in read_scorable_rows(made.run.heldout_file, tokenizer, 256):
        prompt = render_last_prompt(tokenizer, row.conversation)
        (answer,) = answer_prompts(model, tokenizer, [prompt], Sampling(max_new_tokens=6), stop_ids(tokenizer))
        scores.append(score_answer(answer, row.conversation.messages[-1].content))
    assert side.name == made.other.run.id and side.answers is not None and side.answers.prompts == 7
    for name in ANSWER_METRICS:
        assert side.answers.base[name] == pytest.approx(np.mean([score[name] for score in scores])), name
        assert card.answers is not None and side.answers.tuned[name] == pytest.approx(card.answers.tuned[name]), name
    assert side.answers.base != side.answers.tuned


def test_recorded_answers_are_compared_where_there_are_any(card: Scorecard) -> None:
    side = card.sides[1]
    assert side.label == "Recorded: hosted.jsonl" and side.unanswered == 1
    assert side.answers is not None and side.answers.prompts == 6
    assert side.answers.base["exact_match"] == pytest.approx(5 / 6), "the first recorded answer is another one"
    assert "stopped" not in side.answers.base and "stopped" not in side.answers.difference
    note = compare_sides(card.sides)[1].note
    assert "which are left out: 1." in note and UNKNOWN_DATA in note and PROMPT_FORM in note


def test_a_run_that_learned_the_questions_is_not_called_better(card: Scorecard) -> None:
    side = card.sides[0]
    assert side.trained_on == 2 and UNKNOWN_DATA not in side.note
    assert "2 of these questions, or nearly the same ones, trained it" in compare_sides([side])[0].note
    ahead = made_side(0.9, 0.1, trained_on=2)
    assert "No verdict" in side_sentence(ahead)
    assert {line.verdict for line in compare_sides([ahead])[0].lines if line.name in ("chrf", "rouge_l")} == {""}
    assert "fine-tuned model's answers are closer" in side_sentence(made_side(0.1, 0.9, trained_on=2))


def test_all_sides_are_shown_on_page_terminal_and_reports(
    made: Any, card: Scorecard, capsys: pytest.CaptureFixture[str]
) -> None:
    print_scorecard(card)
    printed = " ".join(capsys.readouterr().out.split())
    page = scorecard_view(card)
    reports = [report_html(made.run), report_markdown(made.run)]
    for one in compare_sides(card.sides):
        assert one.lines and one.sentence.split(" (")[0] in printed
        for text in (page, *reports):
            assert one.label in text and one.lines[0].base in text, text


def test_a_side_that_cannot_answer_costs_only_its_part(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*given: Any) -> None:
        raise ModelError("The adapter is gone.")

    monkeypatch.setattr("sft_app.evaluation.sides.more_sides._answer", fail)
    sides, more = find_scored_sides(made.run.id, [made.other.run.id, str(made.recorded)], made.home)
    card = keep_score(made.run, load_pair(sides, made.home), 3, more=more)
    assert card.answers is not None and card.sides[0].answers is None
    assert side_sentence(card.sides[0]) == "Not compared. The adapter is gone."
    assert card.sides[1].answers is not None


def made_side(theirs: float, tuned: float, rows: int = 20, **values: Any) -> SideAnswers:
    """A side whose answers score about `theirs` next to `tuned`, as a scorecard that was corrected has it."""
    spread = np.linspace(-0.05, 0.05, rows)

    def scores(mean: float, order: int) -> list[SideScores]:
        return [dict.fromkeys(ANSWER_METRICS, mean + change) for change in spread[::order]]

    answers = summarise_answers(scores(theirs, 1), scores(tuned, -1))
    side = SideAnswers(name="x", label="X", answers=answers, **values)
    losses = [RowScore(10.0, 10, 5)] * rows
    return correct_for_several(make_scorecard(losses, losses).model_copy(update={"sides": [side]})).sides[0]


@pytest.mark.parametrize(
    ("side", "said"),
    [
        (made_side(0.2, 0.6), "The fine-tuned model's answers are closer to the reference answers (chrF"),
        (made_side(0.6, 0.2), "Its answers are closer to the reference answers than the fine-tuned model's"),
        (made_side(0.4, 0.401), "Not enough rows to tell"),
        (made_side(0.6, 0.2, rows=4), "Not enough rows to tell"),
        (made_side(0.2, 0.6, is_flattered=True), "No verdict, because the same conversations chose the fine-tuned"),
        (SideAnswers(name="x", label="X", note="No file."), "Not compared. No file."),
    ],
)
def test_each_outcome_has_its_sentence(side: SideAnswers, said: str) -> None:
    assert said in side_sentence(side)


def test_equal_answers_and_broken_ones_are_told_apart() -> None:
    same = [dict.fromkeys(ANSWER_METRICS, 0.5)] * 8
    assert "as close" in side_sentence(SideAnswers(name="x", label="X", answers=summarise_answers(same, same)))
    broken = [score_answer(Answer("", broken=True), "Hi"), *same[1:]]
    found = side_sentence(SideAnswers(name="x", label="X", answers=summarise_answers(same, broken)))
    assert found == "The answers cannot be compared, because a model produced NaN or infinite values."


def test_more_sides_make_each_verdict_harder() -> None:
    """With one side in twenty better by chance alone, asking twenty must not find one."""
    alone = made_side(0.4, 0.46, rows=8)
    losses = [RowScore(10.0, 10, 5)] * 8
    many = make_scorecard(losses, losses).model_copy(
        update={"sides": [alone.model_copy(update={"name": f"side {number}"}) for number in range(20)]}
    )
    one, other = alone.answers, correct_for_several(many).sides[0].answers
    assert one is not None and other is not None
    before, after = one.difference["chrf"], other.difference["chrf"]
    assert before.p_value == after.p_value and before.p_holm is not None and after.p_holm is not None
    assert after.p_holm > before.p_holm


def test_broken_answers_of_a_side_leave_it_without_a_verdict(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = SideText(problem="NaN", broken=True)
    monkeypatch.setattr("sft_app.evaluation.sides.more_sides._side_text", lambda answer: broken)
    sides, more = find_scored_sides(made.run.id, [made.other.run.id], made.home)
    (side,) = keep_score(made.run, load_pair(sides, made.home), 7, more=more).sides
    assert side.unanswered == 0 and "cannot be compared" in side_sentence(side)
    assert "7 of 7 from the other side" in compare_sides([side])[0].note


def test_a_further_side_never_changes_the_precision_of_the_scorecard(made: Any, make_run: Make) -> None:
    other = make_run(change=lambda model: randomise_adapter(model, 5, 0.3), home=made.home, dtype="bfloat16")
    alone = find_sides(BASE, made.run.id, made.home)
    assert find_all_sides((BASE, made.run.id, other.run.id), made.home)[0].dtype != alone[0].dtype, "as in a comparison"
    pair, (side,) = find_scored_sides(made.run.id, [other.run.id], made.home)
    assert pair == alone
    assert isinstance(side, ModelSide) and side.side.dtype == alone[0].dtype
    assert "another precision" in " ".join(side_notes(pair, [side]))


def test_what_cannot_be_asked_or_answered_is_said(made: Any, tmp_path: Any) -> None:
    (tmp_path / "other.csv").write_text("prompt,answer\nSomething else,Yes.\n")
    sides, more = find_scored_sides(made.run.id, [str(tmp_path / "other.csv")], made.home)
    pair = load_pair(sides, made.home)
    (side,) = keep_score(made.run, pair, 3, more=more).sides
    assert side.unanswered == 3 and NO_ANSWERS in side_sentence(side) and PROMPT_FORM in side_sentence(side)
    (side,) = keep_score(made.run, pair, 0, more=more).sides
    assert side_sentence(side) == f"Not compared. {NO_QUESTIONS}"
    again = keep_score(made.run, pair, 1)
    assert again.sides == [] and again.note.endswith("that were not asked this time: Recorded: other.csv")
    assert "not asked this time" not in keep_score(made.run, pair, 1).note
    with pytest.raises(SettingsError, match="part of every scorecard already"):
        find_scored_sides(made.run.id, ["prompted"], made.home)


def test_a_run_is_known_by_its_folder_and_its_path_is_not_published(made: Any) -> None:
    folder = str(made.other.run.adapter_dir)
    sides, more = find_scored_sides(made.run.id, [folder], made.home)
    (side,) = keep_score(made.run, load_pair(sides, made.home), 7, more=more).sides
    assert side.trained_on == 2 and "/" not in side.name


def test_sides_with_the_same_name_are_told_apart(made: Any) -> None:
    sides, more = find_scored_sides(made.run.id, [made.other.run.id], made.home)
    assert isinstance(more[0], ModelSide)
    same = [replace(one, side=replace(one.side, label=sides[1].label)) for one in more if isinstance(one, ModelSide)]
    (side,) = keep_score(made.run, load_pair(sides, made.home), 1, more=same).sides
    assert side.label == f"{sides[1].label} · {made.other.run.id}"
