"""What a scorecard's numbers are said to mean."""

from __future__ import annotations

import math
from typing import Any

import pytest

from sft_app.evaluation.forgetting.sentences import forgetting_sentence
from sft_app.evaluation.verdicts import (
    METRICS,
    UNJUDGED,
    computed_note,
    judgeable_answers,
    note_before_numbers,
    rows_note,
    scorecard_lines,
    summary_sentence,
)
from sft_app.runs.scorecard import AnswerScores, PredictedScores, Scorecard, Scores

NAN = math.nan


def scores(values: dict[str, Any]) -> Scores:
    """The part of a scorecard with these values: of predicted answers where it has a loss, else of generated ones."""
    if "loss" in values.get("base", {}):
        return Scorecard.model_validate(values)
    return AnswerScores.model_validate({"prompts": values.get("heldout", {}).get("conversations"), **values})


def forgetting(general: Scores) -> str:
    part = PredictedScores.model_validate(general.model_dump(include=set(PredictedScores.model_fields)))
    return forgetting_sentence(Scorecard(base={"loss": 1.0}, tuned={"loss": 1.0}, general=part))


def card(low: float | None, value: float, high: float | None, name: str = "loss", rows: int = 20) -> dict[str, Any]:
    return {
        "heldout": {"conversations": rows, "trained_tokens": 400},
        "base": {name: 4.0},
        "tuned": {name: 4.0 + value},
        "difference": {
            name: {"value": value, "low": low, "high": high, **({} if name == "loss" else {"p_holm": 0.01})}
        },
        "rows": {"better": 15, "worse": 5, "equal": 0},
    }


@pytest.mark.parametrize(
    ("name", "low", "value", "high", "verdict"),
    [
        ("loss", -2.0, -1.0, -0.5, "better"),
        ("loss", 0.5, 1.0, 2.0, "worse"),
        ("loss", -1.0, -0.5, 0.1, "not enough rows to tell"),
        ("rouge_l", 0.1, 0.2, 0.3, "better"),
        ("repetition", 0.1, 0.2, 0.3, "worse"),
        ("length_ratio", 0.1, 0.2, 0.3, "changed"),
        ("exact_match", 0.0, 0.0, 0.0, ""),
    ],
)
def test_a_verdict_needs_an_interval_without_zero(
    name: str, low: float, value: float, high: float, verdict: str
) -> None:
    (line,) = scorecard_lines(scores(card(low, value, high, name)))
    assert (line.name, line.label, line.verdict) == (name, METRICS[name].label, verdict)


def test_numbers_are_written_with_sign_and_interval() -> None:
    (line,) = scorecard_lines(scores(card(-2.0, -1.0, -0.5)))
    assert (line.base, line.tuned, line.difference) == ("4.000", "3.000", "−1.000")
    assert line.interval == "−2.000 … −0.500"


def test_a_number_without_an_interval_has_no_verdict() -> None:
    told = card(-2.0, -1.0, -0.5)
    told["base"]["perplexity"], told["tuned"]["perplexity"] = 54.6, 20.1
    line = scorecard_lines(scores(told))[1]
    assert (line.name, line.interval, line.verdict) == ("perplexity", "", "")


def test_the_sentence_says_when_there_is_nothing_to_say() -> None:
    assert summary_sentence(scores(card(-2.0, -1.0, -0.5))).startswith(
        "The model predicts the held-out answers better than before: loss −25%"
    )
    assert "15 of 20" in summary_sentence(scores(card(-2.0, -1.0, -0.5)))
    assert summary_sentence(scores(card(-1.0, -0.5, 0.1))).startswith("Not enough rows to tell")
    assert summary_sentence(scores(card(0.0, 0.0, 0.0))).startswith(
        "The model predicts the held-out answers as well as before: 15 of 20"
    )


@pytest.mark.parametrize(
    ("low", "value", "high", "told"),
    [
        (0.1, 0.4, 0.6, "Something was forgotten: the model predicts the answers to 20 general questions worse"),
        (-0.6, -0.4, -0.1, "No sign of forgetting: the model predicts the answers to 20 general questions better"),
        (-0.1, 0.1, 0.4, "Not enough rows to tell"),
        (0.0, 0.0, 0.0, "The model predicts the answers to 20 general questions as well as before."),
    ],
)
def test_forgetting_is_told_only_where_the_interval_says_so(low: float, value: float, high: float, told: str) -> None:
    assert forgetting(scores(card(low, value, high))).startswith(told)


def test_few_rows_have_no_verdict_whatever_they_show() -> None:
    for rows, verdict in ((5, "not enough rows to tell"), (6, "better")):
        (line,) = scorecard_lines(scores(card(-2.0, -1.0, -0.5, rows=rows)))
        assert line.verdict == verdict
    assert "at least 6 rows" in summary_sentence(scores(card(-2.0, -1.0, -0.5, rows=5)))
    assert "at least 6 rows" in forgetting(scores(card(-2.0, -1.0, -0.5, rows=3)))


@pytest.mark.parametrize(("low", "value", "high"), [(None, -1.0, None), (-1.0, -1.0, -1.0), (0.0, 0.0, 0.0)])
def test_one_row_is_no_certainty(low: float | None, value: float, high: float | None) -> None:
    (line,) = scorecard_lines(scores(card(low, value, high, rows=1)))
    assert (line.interval, line.verdict) == ("", "not enough rows to tell")


def test_the_same_difference_in_every_row_has_no_interval() -> None:
    """A bootstrap of equal rows has no width, which says nothing of other rows."""
    for rows, verdict in ((4, "not enough rows to tell"), (16, "better")):
        (line,) = scorecard_lines(scores(card(1.0, 1.0, 1.0, "stopped", rows)))
        assert (line.interval, line.verdict, line.low, line.high) == ("", verdict, 0, 0)


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (1, "With 1 row, even"),
        (5, "there is no verdict"),
        (8, "up to 1 in 5"),
        (20, "up to 1 in 7"),
        (40, ""),
        (500, ""),
    ],
)
def test_a_note_says_what_few_rows_mean(rows: int, told: str) -> None:
    note = rows_note(scores(card(-2.0, -1.0, -0.5, rows=rows)))
    assert told in note and bool(note) == bool(told)
    assert rows_note(scores({"prompts": rows})) == note


def broken(base: float | None, tuned: float | None) -> dict[str, Any]:
    value = None if base is None or tuned is None else tuned - base
    difference = {"loss": {"value": value, "low": value, "high": value}}
    sides = {"base": {"loss": base, "perplexity": NAN}, "tuned": {"loss": tuned, "perplexity": NAN}}
    return {**card(0, 0, 0), **sides, "difference": difference}


@pytest.mark.parametrize(
    ("base", "tuned", "told"),
    [
        (4.0, NAN, "The fine-tuned model cannot be judged: its loss"),
        (4.0, None, "The fine-tuned model cannot be judged: its loss"),
        (4.0, math.inf, "The fine-tuned model cannot be judged: its loss"),
        (NAN, 4.0, "Nothing can be judged: the base model's loss"),
        (NAN, NAN, "Nothing can be judged: the base model's loss"),
        (None, None, "Nothing can be judged: the base model's loss"),
    ],
)
def test_what_is_not_a_number_is_never_better(base: float | None, tuned: float | None, told: str) -> None:
    found = broken(base, tuned)
    for line in scorecard_lines(scores(found)):
        assert line.verdict in ("not a number: cannot be judged", "") and line.difference == "–"
        assert "nan" not in str(line).lower().replace("not a number", "")
    assert scorecard_lines(scores(found))[0].verdict == "not a number: cannot be judged"
    for sentence in (summary_sentence(scores(found)), forgetting(scores(found))):
        assert sentence.startswith(told) and "better" not in sentence and "nan" not in sentence


def test_a_share_of_zero_is_told_as_it_is() -> None:
    found = {**card(0.1, 0.2, 0.3), "base": {"loss": 0.0}, "tuned": {"loss": 0.2}}
    assert summary_sentence(scores(found)).startswith(
        "The model predicts the held-out answers worse than before: loss +0.200;"
    )


def test_a_perplexity_beyond_every_float_is_said_to_be() -> None:
    found = card(300.0, 796.0, 900.0)
    found["base"]["perplexity"], found["tuned"]["perplexity"] = 54.6, 1e304  # as it was cut once
    line = scorecard_lines(scores(found))[1]
    assert (line.base, line.tuned, line.difference, line.verdict) == ("54.60", "too large to display", "–", "")


@pytest.mark.parametrize("side", ["base", "tuned"])
@pytest.mark.parametrize("loss", [None, NAN, math.inf])
def test_no_line_of_a_part_without_a_loss_has_a_verdict(side: str, loss: float | None) -> None:
    """As older versions wrote it: what was counted from logits that are NaN has numbers, and even an interval."""
    found = card(0.1, 0.3, 0.5, "token_accuracy")
    found["difference"]["loss"] = {"value": -1.0, "low": -2.0, "high": -0.5}
    for name, value in (("base", 4.0), ("tuned", 3.0)):
        found[name] |= {"loss": loss if name == side else value, "perplexity": 20.0}
    for line in scorecard_lines(scores(found)):
        assert (line.difference, line.interval, line.verdict) == ("–", "", UNJUDGED)
    accuracy = next(line for line in scorecard_lines(scores(found)) if line.name == "token_accuracy")
    assert getattr(accuracy, side) == "not a number" != getattr(accuracy, "base" if side == "tuned" else "tuned")
    assert "cannot be judged" in summary_sentence(scores(found)) or "Nothing can be judged" in summary_sentence(
        scores(found)
    )
    assert note_before_numbers(scores(found)) == ""


def test_uncounted_answers_of_a_side_without_a_loss_are_not_judged() -> None:
    part = {key: value for key, value in card(-0.5, -0.3, -0.1, "repetition").items() if key != "heldout"}
    answers = {**part, "prompts": 20}
    assert judgeable_answers(scores(card(0, 0, 0))) is None
    for whole, told in (
        ({**card(-2.0, -1.0, -0.5), "answers": answers}, "better"),
        ({**broken(4.0, None), "answers": answers}, UNJUDGED),
        ({**broken(NAN, 4.0), "answers": answers}, UNJUDGED),
        ({**broken(4.0, None), "answers": {**answers, "broken": {"base": 0, "tuned": 0}}}, "better"),
    ):
        found = judgeable_answers(scores(whole))
        assert found is not None and [line.verdict for line in scorecard_lines(found)] == [told]


@pytest.mark.parametrize("rows", [6, 8, 16, 39])
def test_a_note_promises_nothing_about_rows_that_were_not_drawn(rows: int) -> None:
    note = rows_note(scores({"prompts": rows}))
    assert "ordinary differences" in note and "no interval can show them" in note


def test_only_the_measure_named_before_training_is_judged_by_its_own_interval() -> None:
    told = card(0.1, 0.2, 0.3, "rouge_l")
    for p_holm, verdict in ((0.04, "better"), (0.2, "not enough rows to tell"), (None, "")):
        told["difference"]["rouge_l"]["p_holm"] = p_holm
        assert scorecard_lines(scores(told))[0].verdict == verdict
    by_tests = {**card(-2.0, -1.0, -0.5), "primary": "tests"}
    assert scorecard_lines(scores(by_tests))[0].verdict == ""
    by_tests["difference"]["loss"]["p_holm"] = 0.03
    assert scorecard_lines(scores(by_tests))[0].verdict == "better"


def test_related_rows_do_not_make_a_verdict() -> None:
    told = card(-2.0, -1.0, -0.5)
    told["heldout"]["groups"] = 5
    assert scorecard_lines(scores(told))[0].verdict == "not enough rows to tell"
    assert rows_note(scores(told)).startswith("With 5 rows")


def test_the_sentence_takes_the_change_that_was_corrected_for_the_choice() -> None:
    told = card(-2.0, -1.0, -0.5)
    told["tuned"]["loss"] = 2.5  # flattered
    assert "loss −25%" in summary_sentence(scores(told))


@pytest.mark.parametrize(
    ("rows", "said"), [("other", "these only judge"), ("same", "from 4 evaluations on these same")]
)
def test_it_is_said_who_chose_the_weights_and_what_decides(rows: str, said: str) -> None:
    told = {**card(-2.0, -1.0, -0.5), "selection": {"rows": rows, "evaluations": 4}}
    told["difference"]["token_accuracy"] = {"value": 0.1, "low": 0.0, "high": 0.2, "p_value": 0.1, "p_holm": 0.1}
    note = computed_note(Scorecard.model_validate(told))
    assert said in note
    assert note.startswith("The loss decides, as set before training")
    assert computed_note(Scorecard.model_validate(card(-2.0, -1.0, -0.5))) == ""
