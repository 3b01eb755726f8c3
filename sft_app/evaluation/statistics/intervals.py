"""Estimate how certain a difference between two sides is, if both were measured on the same rows."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

import numpy as np

from sft_app.runs.scorecard import Interval

SAMPLES = 2000
# The true mean of three rows lies outside their range in a quarter of all cases, and resampling never leaves it.
FEWEST_ROWS = 4
# Resamples are drawn in blocks of a few tens of MiB, whatever the number of rows.
ROWS_AT_ONCE = 1_000_000
Statistic = Callable[[np.ndarray], np.ndarray]


def paired_intervals(
    base: np.ndarray, tuned: np.ndarray, statistic: Statistic, seed: int = 0, groups: np.ndarray | None = None
) -> list[Interval]:
    """Return the difference, with its 95 % interval, of each number that `statistic` computes from `(rows, columns)`.

    `statistic` maps tables `(..., rows, columns)` to `(..., numbers)`, so that many resamples take one call. Both sides
    are resampled together, row by row, so that hard and easy rows do not count as a difference. Rows with the same
    number in `groups` `(rows,)` share a cause and count as one; `statistic` must then be made of sums over rows.
    Source: Efron & Tibshirani 1993, "An Introduction to the Bootstrap", percentile interval; expanded for few rows as
    in Hesterberg 2015, "What Teachers Should Know About the Bootstrap", arXiv 1411.5279.
    """
    if groups is not None:
        base, tuned = sum_groups(base, groups), sum_groups(tuned, groups)
    values = (statistic(tuned) - statistic(base)).tolist()
    rows = len(base)
    if rows < FEWEST_ROWS:
        return [Interval(value=value, low=None, high=None) for value in values]
    random, drawn = np.random.default_rng(seed), np.empty((SAMPLES, len(values)))
    at_once = max(1, ROWS_AT_ONCE // rows)
    for begin in range(0, SAMPLES, at_once):
        chosen = random.integers(rows, size=(min(at_once, SAMPLES - begin), rows))
        drawn[begin : begin + len(chosen)] = statistic(tuned[chosen]) - statistic(base[chosen])
    tail = expanded_tail(rows)
    lows, highs = np.quantile(drawn, [tail, 1 - tail], axis=0).tolist()
    return [Interval(value=value, low=low, high=high) for value, low, high in zip(values, lows, highs, strict=True)]


def sum_groups(table: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Sum the rows of each group, `(groups, columns)`, in the order in which the groups begin."""
    _, first, index = np.unique(groups, return_index=True, return_inverse=True)
    sums = np.zeros((len(first), table.shape[1]))
    np.add.at(sums, np.argsort(np.argsort(first))[index], table)
    return sums


def expanded_tail(rows: int) -> float:
    """Return the share of draws to leave out at each end: Φ(−√(n/(n−1)) · t₀.₉₇₅,ₙ₋₁), less than 2.5 %.

    Resamples of n rows spread √((n−1)/n) times as much as means of n rows, and have the tails of a normal distribution
    instead of Student's.
    """
    return NormalDist().cdf(-math.sqrt(rows / (rows - 1)) * student_limit(rows - 1))


def student_limit(freedom: int, share: float = 0.95) -> float:
    """Return x such that Student's t with `freedom` degrees of freedom lies in ±x with probability `share`."""
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if _student_share(middle, freedom) > share else (middle, high)
    return math.sqrt(freedom) * math.tan((low + high) / 2)


def _student_share(angle: float, freedom: int) -> float:
    """Return P(|t| < √freedom · tan(angle)). Source: Abramowitz & Stegun 1964, 26.7.3 and 26.7.4."""
    sine, cosine, odd = math.sin(angle), math.cos(angle), freedom % 2
    if freedom == 1:
        return 2 * angle / math.pi
    term, total = cosine if odd else 1.0, 0.0
    for power in range(odd, freedom - 1, 2):
        total += term
        term *= cosine * cosine * (power + 1) / (power + 2)
    return 2 / math.pi * (angle + sine * total) if odd else sine * total
