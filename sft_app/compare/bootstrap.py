"""How sure a difference between two sides is, when both were measured on the same rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

SAMPLES = 2000
Statistic = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Interval:
    """A difference, tuned minus base, with its 95 % interval."""

    value: float
    low: float
    high: float


def paired_intervals(base: np.ndarray, tuned: np.ndarray, statistic: Statistic, seed: int = 0) -> list[Interval]:
    """The difference of each number that `statistic` makes of a table, `(rows, columns)`, drawn over rows.

    Both sides are drawn together, row by row, so that hard and easy rows do not count as a difference.
    Source: Efron & Tibshirani 1993, "An Introduction to the Bootstrap", percentile interval.
    """
    random = np.random.default_rng(seed)
    drawn = []
    for _ in range(SAMPLES):
        rows = random.integers(len(base), size=len(base))
        drawn.append(statistic(tuned[rows]) - statistic(base[rows]))
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    value = statistic(tuned) - statistic(base)
    return [Interval(float(v), float(a), float(b)) for v, a, b in zip(value, low, high, strict=True)]
