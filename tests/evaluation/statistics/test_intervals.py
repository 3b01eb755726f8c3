"""The intervals: by simulation, how often they hold the truth, and what few rows can and cannot have."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sft_app.evaluation.statistics import intervals
from sft_app.evaluation.statistics.intervals import expanded_tail, paired_intervals, student_limit
from sft_app.evaluation.verdicts import FEWEST_TO_JUDGE, MISSED_ONE_IN, rows_note
from sft_app.runs.scorecard import AnswerScores

TRIALS = 1000
ROUNDING = 1e-9


def mean(tables: np.ndarray) -> np.ndarray:
    return tables.mean(axis=-2)


def differences(kind: str, rows: int, random: np.random.Generator) -> np.ndarray:
    """`(rows, TRIALS)` with a true mean of 0."""
    size = (rows, TRIALS)
    if kind == "normal":
        return random.normal(size=size)
    if kind == "t3":
        return random.standard_t(3, size=size)
    if kind == "exponential":
        return random.exponential(size=size) - 1
    if kind == "long tail":
        return random.lognormal(sigma=1.5, size=size) - math.exp(1.125)
    if kind == "rare rows":
        return np.where(random.random(size) < 0.05, 20.0, -0.5) - 0.525
    return random.lognormal(size=size) - math.exp(0.5)


def coverage(kind: str, rows: int) -> float:
    """In which share of trials the interval holds the true mean; each column is a trial."""
    change = differences(kind, rows, np.random.default_rng(7))
    intervals = paired_intervals(np.zeros_like(change), change, mean)
    return sum(found.low <= ROUNDING and found.high >= -ROUNDING for found in intervals) / TRIALS


# The plain percentile interval of the same trials holds it in 78, 87, 92 and 94 % (normal), 80, 87, 90 and 93 % (t3),
# 75, 85, 89 and 92 % (exponential) and 66, 77, 84 and 88 % (lognormal) of cases.
@pytest.mark.parametrize(
    ("kind", "rows", "stated"),
    [
        *(("normal", 4, 0.86), ("normal", 8, 0.93), ("normal", 16, 0.95), ("normal", 40, 0.95)),
        *(("t3", 4, 0.87), ("t3", 8, 0.93), ("t3", 16, 0.94), ("t3", 40, 0.94)),
        *(("exponential", 4, 0.81), ("exponential", 8, 0.89), ("exponential", 16, 0.92), ("exponential", 40, 0.93)),
        *(("lognormal", 4, 0.73), ("lognormal", 8, 0.82), ("lognormal", 16, 0.86), ("lognormal", 40, 0.89)),
        ("lognormal", 6, 0.79),
        *(("normal", 200, 0.94), ("t3", 200, 0.945), ("exponential", 200, 0.94), ("lognormal", 200, 0.92)),
    ],
)
def test_intervals_of_few_rows_hold_the_truth_as_often_as_stated(
    kind: str, rows: int, stated: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`verdicts.MISSED_ONE_IN` tells people of the worst of these."""
    monkeypatch.setattr(intervals, "SAMPLES", 600)
    assert coverage(kind, rows) == pytest.approx(stated, abs=0.025)


# Lognormal with sigma 1.5; and 5 % of rows that change by +20 where all others change by -0.5: the mean rises, and in
# most samples of 8 every row falls.
@pytest.mark.parametrize(
    ("kind", "rows", "held"),
    [
        *(("long tail", 8, 0.70), ("long tail", 16, 0.75), ("long tail", 40, 0.81), ("long tail", 200, 0.87)),
        *(("rare rows", 8, 0.33), ("rare rows", 16, 0.55), ("rare rows", 40, 0.85), ("rare rows", 200, 0.955)),
    ],
)
def test_no_interval_sees_the_rare_rows_that_were_not_drawn(
    kind: str, rows: int, held: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What no number in a note can promise, so `verdicts.rows_note` says it in words."""
    monkeypatch.setattr(intervals, "SAMPLES", 600)
    assert coverage(kind, rows) == pytest.approx(held, abs=0.025)


@pytest.mark.parametrize(("limit", "missed"), MISSED_ONE_IN.items())
def test_a_note_states_no_fewer_misses_than_were_measured(
    limit: int, missed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the fewest rows that it is said of, of the longest tail that counts as ordinary."""
    monkeypatch.setattr(intervals, "SAMPLES", 600)
    rows = max((fewer for fewer in MISSED_ONE_IN if fewer < limit), default=FEWEST_TO_JUDGE)
    assert f"up to 1 in {missed} cases" in rows_note(AnswerScores(prompts=rows))
    assert coverage("lognormal", rows) >= 1 - 1 / missed - 0.025


@pytest.mark.parametrize("rows", [30, 100])
def test_intervals_hold_the_true_difference_as_often_as_they_say(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intervals, "SAMPLES", 400)
    random = np.random.default_rng(7)
    hardness = random.normal(size=(rows, TRIALS))
    base = hardness + random.normal(size=(rows, TRIALS))
    tuned = hardness + random.normal(size=(rows, TRIALS)) - 0.3
    held = sum(found.low <= -0.3 <= found.high for found in paired_intervals(base, tuned, mean))
    assert 0.92 <= held / TRIALS <= 0.985


@pytest.mark.parametrize(("freedom", "limit"), [(1, 12.7062), (2, 4.3027), (3, 3.1824), (7, 2.3646), (30, 2.0423)])
def test_student_limits_are_those_of_the_tables(freedom: int, limit: float) -> None:
    assert student_limit(freedom) == pytest.approx(limit, abs=1e-4)


def test_many_rows_need_no_wider_tail() -> None:
    assert expanded_tail(8) == pytest.approx(0.00574, abs=1e-5)
    assert 0.0247 < expanded_tail(1000) < expanded_tail(5000) < 0.025


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_too_few_rows_have_no_interval(rows: int) -> None:
    table = np.arange(rows, dtype=float)[:, None]
    (found,) = paired_intervals(np.zeros_like(table), table, mean)
    assert (found.value, found.low, found.high) == ((rows - 1) / 2, None, None)


def test_pairing_takes_out_what_is_hard_for_both_sides() -> None:
    random = np.random.default_rng(1)
    hardness = 10 * random.normal(size=(60, 1))
    base, tuned = hardness, hardness - 0.2 + 0.1 * random.normal(size=(60, 1))
    (interval,) = paired_intervals(base, tuned, mean)
    assert interval.high - interval.low < 0.1 and interval.high < 0


def test_no_difference_is_not_one() -> None:
    table = np.random.default_rng(2).normal(size=(20, 2))
    for interval in paired_intervals(table, table, mean):
        assert (interval.value, interval.low, interval.high) == (0, 0, 0)


def test_the_same_rows_give_the_same_interval() -> None:
    random = np.random.default_rng(3)
    base, tuned = random.normal(size=(20, 1)), random.normal(size=(20, 1))
    assert paired_intervals(base, tuned, mean) == paired_intervals(base, tuned, mean)
