"""The interval of bounded differences: by simulation, how often it holds the truth, and how it behaves at the ends."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sft_app.evaluation.statistics import bounded
from sft_app.evaluation.statistics.bounded import bounded_mean_intervals, fewest_equal_rows
from sft_app.evaluation.statistics.exact import clopper_pearson

TRIALS = 1000
ROUNDING = 1e-9


def differences(kind: str, rows: int, random: np.random.Generator) -> tuple[np.ndarray, float]:
    """Return differences between -1 and 1, `(rows, TRIALS)`, and their true mean."""
    size = (rows, TRIALS)
    if kind == "normal":
        return random.normal(scale=0.15, size=size).clip(-1, 1), 0.0
    if kind == "skewed":  # most rows gain a little, few lose much
        return 0.1 - random.exponential(scale=0.15, size=size).clip(max=1.1), 0.1 - 0.15 * (1 - math.exp(-1.1 / 0.15))
    if kind == "binary":
        return random.choice([-1.0, 1.0], p=[0.4, 0.6], size=size), 0.2
    return np.where(random.random(size) < 0.05, -1.0, 0.0), -0.05


# The expanded bootstrap interval of the same trials holds the truth in 88, 93, 94 and 95 % (normal), 81, 91, 92 and
# 93 % (skewed), 84, 97, 97 and 98 % (binary) and 18, 33, 55 and 85 % (nearly all zero) of cases.
@pytest.mark.parametrize("rows", [4, 8, 16, 40])
@pytest.mark.parametrize(
    ("kind", "at_least"), [("normal", 0.99), ("skewed", 0.99), ("binary", 0.95), ("nearly all zero", 0.99)]
)
def test_the_interval_holds_the_truth_at_least_as_often_as_it_says(
    kind: str, at_least: float, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded, "DRAWS", 3000)
    drawn, truth = differences(kind, rows, np.random.default_rng(7))
    low, high = bounded_mean_intervals(drawn).T
    assert np.mean((low <= truth + ROUNDING) & (high >= truth - ROUNDING)) >= at_least


@pytest.mark.parametrize(("rows", "width"), [(4, 1.21), (8, 0.75), (16, 0.43), (40, 0.20), (200, 0.057)])
def test_the_price_is_width_that_rows_bring_down(rows: int, width: float) -> None:
    """Of 100 normal samples with a spread of 0.15; the bootstrap's is 0.29, 0.22, 0.15, 0.09 and 0.04."""
    drawn = differences("normal", rows, np.random.default_rng(7))[0][:, :100]
    low, high = bounded_mean_intervals(drawn).T
    assert np.median(high - low) == pytest.approx(width, rel=0.05)


def test_the_interval_contains_its_own_estimate() -> None:
    random = np.random.default_rng(5)
    for rows in (1, 2, 5, 12, 40):
        scales = random.uniform(0, 1, size=60)
        drawn = (random.uniform(-1, 1, size=60) + scales * random.normal(size=(rows, 60))).clip(-1, 1)
        low, high = bounded_mean_intervals(drawn).T
        assert (low <= drawn.mean(axis=0)).all() and (drawn.mean(axis=0) <= high).all()
        assert (low >= -1 - ROUNDING).all() and (high <= 1 + ROUNDING).all()
    for bound in (-1.0, 1.0, 0.3):
        ((low, high),) = bounded_mean_intervals(np.full((7, 1), bound))
        assert low <= bound <= high


def test_the_interval_does_not_jump_as_the_spread_goes_to_zero() -> None:
    equal, noise = np.full((6, 1), -0.027), np.random.default_rng(1).normal(size=(6, 1))
    ((low, high),) = bounded_mean_intervals(equal)
    assert low < -0.4 and high > 0.4, "six equal rows prove little"
    for spread in (1e-2, 1e-4, 1e-8):
        assert bounded_mean_intervals(equal + spread * noise)[0] == pytest.approx([low, high], abs=2 * spread)


def test_values_at_the_bounds_give_the_interval_of_a_share() -> None:
    for ones, rows in ((3, 8), (0, 12), (20, 25)):
        values = np.array([1.0] * ones + [-1.0] * (rows - ones))[:, None]
        ((low, high),) = bounded_mean_intervals(values)
        assert [(low + 1) / 2, (high + 1) / 2] == pytest.approx(clopper_pearson(ones, rows), abs=0.01)


def test_values_in_another_order_give_the_same_interval() -> None:
    values = np.random.default_rng(3).uniform(-1, 1, size=(9, 1))
    assert bounded_mean_intervals(values) == pytest.approx(bounded_mean_intervals(values[::-1]))


@pytest.mark.parametrize(("margin", "rows"), [(0.02, 183), (0.05, 72), (0.1, 36), (0.15, 23), (0.5, 6)])
def test_the_fewest_rows_are_those_whose_interval_excludes_the_margin(margin: float, rows: int) -> None:
    assert fewest_equal_rows(margin) == rows
    for seed in range(3):
        assert -bounded_mean_intervals(np.zeros((rows, 1)), seed)[0, 0] < margin
        assert -bounded_mean_intervals(np.zeros((rows - 1, 1)), seed)[0, 0] > margin


def test_equal_rows_have_the_exact_interval() -> None:
    for rows in (1, 6, 72):
        exact = 1 - 0.025 ** (1 / rows)
        assert bounded_mean_intervals(np.zeros((rows, 1)))[0] == pytest.approx([-exact, exact], abs=1e-5)


@pytest.mark.parametrize("values", [[], [0.1, 1.2], [0.1, math.nan]])
def test_values_outside_the_bounds_are_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="all between -1 and 1"):
        bounded_mean_intervals(np.array(values)[:, None])
