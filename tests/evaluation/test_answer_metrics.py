"""Generated answers against references: the libraries' own examples, and what is counted by hand."""

from __future__ import annotations

import math

import pytest

from sft_app.evaluation.answer_metrics import ANSWER_METRICS, repetition, score_answer, summarise_answers
from sft_app.evaluation.verdicts import note_before_numbers, scorecard_lines
from sft_app.inference.generation import Answer
from sft_app.runs.scorecard import SideScores


def scored(text: str, reference: str, finished: bool = True) -> SideScores:
    return score_answer(Answer(text, len(text), finished), reference)


def test_rouge_l_is_that_of_the_librarys_example() -> None:
    """rouge-score's README: 'The quick brown fox jumps over the lazy dog' against the same fox on logs."""
    score = scored("The quick brown dog jumps on the log.", "The quick brown fox jumps over the lazy dog")
    assert score["rouge_l"] == pytest.approx(2 * (5 / 8) * (5 / 9) / (5 / 8 + 5 / 9))


def test_chrf_is_that_of_the_librarys_own_corpus_score() -> None:
    from sacrebleu import sentence_chrf

    text, reference = "the cat sat on a mat", "the cat is on the mat"
    assert scored(text, reference)["chrf"] == pytest.approx(sentence_chrf(text, [reference]).score / 100)


@pytest.mark.parametrize("text", ["Where is it?", "Wo ist es? Größe 5", "Где он? 不知道 吗"])
def test_the_reference_itself_is_perfect_in_any_script(text: str) -> None:
    score = scored(f" {text}\n", text)
    assert (score["exact_match"], score["length_ratio"], score["stopped"], score["repetition"]) == (1, 1, 1, 0)
    assert score["rouge_l"] == pytest.approx(1) and score["chrf"] > 0.9


def test_an_answer_of_nothing_is_no_error() -> None:
    score = scored("", "Something", finished=False)
    assert (score["rouge_l"], score["exact_match"], score["length_ratio"], score["stopped"]) == (0, 0, 0, 0)
    assert scored("Something", "")["rouge_l"] == 0


def test_repetition_is_the_share_of_runs_of_four_words_said_before() -> None:
    assert repetition(["a", "b", "c", "d"]) == 0
    assert repetition(["a", "b", "c", "d", "a", "b", "c", "d"]) == pytest.approx(1 / 5)
    assert repetition(["na"] * 10) == pytest.approx(6 / 7)
    assert repetition(["na"] * 3) == 0


def test_scripts_without_spaces_are_measured_by_their_characters() -> None:
    score = scored("谢谢" * 200, "谢谢您")
    assert score["length_ratio"] == pytest.approx(400 / 3) and score["repetition"] == pytest.approx(1 - 1 / 393)
    assert scored("请提供您的订单号", "请提供你的订单号")["rouge_l"] == pytest.approx(7 / 8)
    assert scored("ขอบคุณครับ", "ขอบคุณค่ะ")["length_ratio"] == pytest.approx(8 / 7)
    assert repetition(list("我们会尽快处理我们会尽快")) == 0


def test_both_sides_are_summed_up_with_their_difference() -> None:
    references = ["one two three four"] * 4
    base = [scored("five six", reference, finished=False) for reference in references]
    tuned = [scored(reference, reference) for reference in references]
    card = summarise_answers(base, tuned)
    assert card.prompts == 4
    assert (card.base["exact_match"], card.tuned["exact_match"]) == (0, 1)
    stopped = card.difference["stopped"]
    assert (stopped.value, stopped.high, stopped.p_value) == (1, 1, pytest.approx(2 / 16))
    assert stopped.low == pytest.approx(2 * 0.0125 ** (1 / 4) - 1)  # exact: four rows cannot show more


@pytest.mark.parametrize("broken", [1, 8])
@pytest.mark.parametrize("side", ["base", "tuned"])
def test_nothing_is_measured_on_answers_that_broke_off(side: str, broken: int) -> None:
    """An answer of no words repeats none, which is no merit; and the other answers are those that survived."""
    given = "Your parcel will arrive on Monday, thank you for waiting."
    whole = [score_answer(Answer("Your parcel will arrive soon, thank you.", finished=True), given)] * 8
    parted = [score_answer(Answer("Your", broken=True), given)] * broken + whole[broken:]
    card = summarise_answers(*((parted, whole) if side == "base" else (whole, parted)))
    assert card.broken.as_record() == {"base": 0, "tuned": 0, side: broken}
    assert all(math.isnan(value) for value in getattr(card, side).values())
    for line in scorecard_lines(card):
        assert (line.difference, line.interval, line.verdict) == ("–", "", "not a number: cannot be judged")
    assert f"{broken} of 8 from the {'base' if side == 'base' else 'fine-tuned'} model" in note_before_numbers(card)


def test_a_metric_needs_one_record_to_be_measured_and_shown() -> None:
    """Its name in the scorecard, its label and format on the page, in the report and on the command line."""
    card = summarise_answers([scored("a b", "a b")] * 8, [scored("a b", "a b c")] * 8)
    lines = {line.name: line.label for line in scorecard_lines(card)}
    assert lines == {name: metric.label for name, metric in ANSWER_METRICS.items()}
    assert list(card.base) == list(card.tuned) == list(card.difference) == list(ANSWER_METRICS)
