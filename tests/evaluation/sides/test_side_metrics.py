"""How sides compare with reference answers, and whether one is not worse than another by more than a margin."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from sft_app.errors import SettingsError
from sft_app.evaluation.prompt_sets import PromptResult
from sft_app.evaluation.sides.more_sides import RecordedSide, SideText
from sft_app.evaluation.sides.side_metrics import not_worse_than, side_metrics

GOOD, BAD, NAMES = "The parcel arrives tomorrow.", "I do not know.", ("base", "tuned", "old.csv")
BROKEN = "The right side produced NaN or infinite values, so there is no complete answer."


def results(tuned: list[str], other: list[str], reference: str = "The parcel arrives tomorrow.") -> list[PromptResult]:
    recorded = RecordedSide("old.csv", {f"Q{at}": text for at, text in enumerate(other)})
    return [
        PromptResult(at, f"Q{at}", reference, "No.", text, 1.0, more=(recorded.answer(f"Q{at}"),))
        for at, text in enumerate(tuned)
    ]


@pytest.mark.parametrize(
    ("tuned", "other", "metric", "verdict"),
    [
        ([GOOD, GOOD[:24]] * 20, [GOOD[:24], GOOD] * 20, "chrf", "not worse"),
        ([BAD] * 20, [GOOD] * 20, "chrf", "worse"),
        ([GOOD] * 3, [GOOD] * 3, "chrf", "not enough rows to tell"),
        ([GOOD, BAD] * 5, [BAD, GOOD] * 5, "exact_match", "not enough rows to tell"),
        ([GOOD] * 8, [GOOD] * 8, "exact_match", "not enough rows to tell"),
        ([GOOD] * 8, [GOOD] * 8, "chrf", "not enough rows to tell"),
        ([GOOD] * 24, [GOOD] * 24, "chrf", "not worse"),
        ([GOOD] * 60, [GOOD] * 60, "exact_match", "not worse"),
    ],
)
def test_not_worse_by_more_than_a_margin(tuned: list[str], other: list[str], metric: str, verdict: str) -> None:
    """Eight equal rows prove little: a model that is worse on every tenth question answers eight alike quite often."""
    found = not_worse_than(results(tuned, other), NAMES, "old.csv", 0.15, metric)
    assert found.verdict == verdict and found.prompts == len(tuned) and "more than 15 percentage" in found.sentence
    assert json.dumps(found.as_record())


@pytest.mark.parametrize(
    ("metric", "margin", "fewest"),
    [("chrf", 0.02, 183), ("chrf", 0.05, 72), ("chrf", 0.1, 36), ("chrf", 0.15, 23)]
    + [("exact_match", 0.02, 217), ("exact_match", 0.05, 86), ("exact_match", 0.1, 42), ("exact_match", 0.15, 27)],
)
def test_the_number_of_prompts_that_is_named_is_enough(metric: str, margin: float, fewest: int) -> None:
    one_less, enough = (
        not_worse_than(results([GOOD] * rows, [GOOD] * rows), NAMES, "old.csv", margin, metric)
        for rows in (fewest - 1, fewest)
    )
    assert one_less.verdict == "not enough rows to tell"
    assert f"At least {fewest} different prompts are needed if the answers are equally good" in one_less.sentence
    assert enough.verdict == "not worse"


def test_questions_that_cannot_be_asked_are_refused() -> None:
    found = results([GOOD] * 8, [GOOD] * 8)
    for against, margin, metric, message in (
        ("new.csv", 0.1, "chrf", "not one of the other sides. Choose one of: base, old.csv"),
        ("old.csv", 0.0, "chrf", "margin must be between 0 and 1"),
        ("old.csv", 0.1, "length_ratio", "no metric 'length_ratio' to judge by"),
        ("old.csv", 0.1, "stopped", "Whether recorded answers were ended by their model is unknown"),
    ):
        with pytest.raises(SettingsError, match=message):
            not_worse_than(found, NAMES, against, margin, metric)


def test_prompts_without_a_recorded_answer_do_not_count() -> None:
    found = not_worse_than(results([GOOD] * 9, [GOOD] * 7), NAMES, "old.csv", 0.1)
    assert found.prompts == 7
    assert not_worse_than([], NAMES, "old.csv", 0.1).difference is None
    assert "2 prompts are left out: no answer of “old.csv”." in found.sentence


@pytest.mark.parametrize("metric", ["chrf", "rouge_l", "exact_match"])
@pytest.mark.parametrize("rows", [6, 12, 40])
@pytest.mark.parametrize(("tuned", "other"), [(f"{GOOD[:-1]}!", GOOD), (GOOD, BAD), (GOOD, GOOD)])
def test_the_interval_contains_the_difference_it_belongs_to(tuned: str, other: str, rows: int, metric: str) -> None:
    """Also where every row changes by the same, so that no spread is seen."""
    found = not_worse_than(results([tuned] * rows, [other] * rows), NAMES, "old.csv", 0.05, metric)
    assert found.low is not None and found.high is not None and found.difference is not None
    assert found.low <= found.difference <= found.high
    assert found.verdict != "worse" or found.high < -0.05


def test_one_changed_letter_in_every_answer_is_not_called_worse() -> None:
    found = not_worse_than(results([f"{GOOD[:-1]}!"] * 12, [GOOD] * 12), NAMES, "old.csv", 0.05)
    assert found.verdict == "not enough rows to tell"
    assert "At least 72 different prompts are needed if the answers are equally good." in found.sentence


def test_one_small_change_among_equal_rows_does_not_make_it_certain() -> None:
    equal = not_worse_than(results([GOOD] * 6, [GOOD] * 6), NAMES, "old.csv", 0.15)
    nearly = not_worse_than(results([*[GOOD] * 5, f"{GOOD[:-1]}!"], [GOOD] * 6), NAMES, "old.csv", 0.15)
    assert equal.verdict == nearly.verdict == "not enough rows to tell"
    assert nearly.low == pytest.approx(equal.low, abs=0.03)


def test_copies_of_a_prompt_are_no_evidence_of_their_own() -> None:
    rows = results([GOOD, *[f"{GOOD[:-1]}!"] * 11], [GOOD] * 12)
    copied = [rows[0], *(replace(row, prompt=" Q1\n") for row in rows[1:])]
    found = not_worse_than(copied, NAMES, "old.csv", 0.05)
    once = not_worse_than(rows[:2], NAMES, "old.csv", 0.05)
    assert (found.prompts, found.copies, found.verdict) == (2, 10, "not enough rows to tell")
    assert (found.difference, found.low, found.high) == (once.difference, once.low, once.high)
    assert "10 copies of prompts do not count again." in found.sentence
    tables = [side_metrics(each, NAMES, NAMES) for each in (copied, rows[:2])]
    assert [side.metrics["chrf"] for side in tables[0]] == pytest.approx([side.metrics["chrf"] for side in tables[1]])
    assert {side.prompts for side in tables[0]} == {2}


def test_one_prompt_asked_many_times_is_one_prompt() -> None:
    found = not_worse_than([replace(one, prompt="Q") for one in results([GOOD] * 12, [GOOD] * 12)], NAMES, "base", 0.05)
    assert (found.prompts, found.copies, found.verdict) == (1, 11, "not enough rows to tell")
    assert "1 prompt with a reference and both answers" in found.sentence


def test_copies_with_different_references_are_no_yes_or_no() -> None:
    rows = [replace(one, prompt="Q0") for one in results([GOOD, BAD], [BAD, BAD])]
    found = not_worse_than(rows, NAMES, "old.csv", 0.05, "exact_match")
    assert found.difference == 0.5 and found.low is not None and found.low < 0.5


def broken(rows: list[PromptResult], base_text: str = "No.") -> list[PromptResult]:
    return [replace(row, tuned="", base=base_text, change=None, problem=BROKEN, problems=("", BROKEN)) for row in rows]


def test_broken_answers_of_the_right_side_count_against_it() -> None:
    rows = results([GOOD] * 60, [GOOD] * 60)
    found = not_worse_than([*rows[:10], *broken(rows[10:])], NAMES, "old.csv", 0.05)
    assert (found.prompts, found.failed, found.left_out, found.verdict) == (60, 50, 0, "worse")
    assert "50 prompts were not answered by the right side and got the worst score." in found.sentence
    other = not_worse_than([*rows[:10], *broken(rows[10:])], NAMES, "base", 0.05, "repetition")
    assert other.verdict == "worse", "the worst repetition is 1"
    useless_base = not_worse_than([*rows[:59], *broken(rows[59:])], NAMES, "base", 0.05)
    assert useless_base.low is not None and useless_base.low > 0 and useless_base.verdict == "answers missing"


def test_a_side_is_charged_only_with_its_own_missing_answers() -> None:
    rows = results([GOOD] * 12, [GOOD] * 12)
    sides = side_metrics([*rows[:4], *broken(rows[4:])], NAMES, NAMES)
    assert [side.missing for side in sides] == [0, 8, 0]
    assert broken(rows)[0].sides()[0] == SideText("No.", finished=True)
    shared = replace(rows[0], base="", tuned="", change=None, problem="too long")
    assert [side.missing for side in side_metrics([*rows[1:], shared], NAMES, NAMES)] == [1, 1, 0]
    assert not_worse_than([shared], NAMES, "base", 0.05).left_out == 1
