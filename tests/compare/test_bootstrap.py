"""The intervals: by simulation, whether they hold the truth as often as they say."""

from __future__ import annotations

import numpy as np
import pytest

from sft_app.compare import bootstrap
from sft_app.compare.bootstrap import paired_intervals


def mean(table: np.ndarray) -> np.ndarray:
    return table.mean(axis=0)


@pytest.mark.parametrize("rows", [30, 100])
def test_intervals_hold_the_true_difference_as_often_as_they_say(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """95 % is the promise; a percentile interval of few rows keeps a little less."""
    monkeypatch.setattr(bootstrap, "SAMPLES", 400)
    random, held = np.random.default_rng(7), 0
    for trial in range(300):
        hardness = random.normal(size=(rows, 1))
        base = hardness + random.normal(size=(rows, 1))
        tuned = hardness + random.normal(size=(rows, 1)) - 0.3
        (interval,) = paired_intervals(base, tuned, mean, seed=trial)
        held += interval.low <= -0.3 <= interval.high
    assert 0.91 <= held / 300 <= 0.985


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
