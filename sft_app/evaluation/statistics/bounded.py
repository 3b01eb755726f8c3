"""Estimate the mean of paired differences that are known to lie between -1 and 1, whatever their distribution."""

from __future__ import annotations

import math

import numpy as np

DRAWS = 10_000
# Weights are drawn in blocks of a few tens of MiB, whatever the number of rows.
WEIGHTS_AT_ONCE = 2_000_000
TAIL = 0.025


def bounded_mean_intervals(values: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return the 95 % interval of the mean of each column, `(columns, 2)`; `values` `(rows, columns)` are in [-1, 1].

    The rows are reweighted at random, with one further row at -1 for the low end and at 1 for the high end. So equal
    rows leave as much doubt as a row that was not drawn can cause, and the width does not jump as the spread goes to
    zero. For values that are only at the two bounds this is Clopper and Pearson's interval.
    Sources: Gaffke 2005, "Three test statistics for a nonparametric one-sided hypothesis on the mean of a nonnegative
    variable"; Learned-Miller & Thomas 2019, "A New Confidence Interval for the Mean of a Bounded Random Variable",
    arXiv 1905.06208, which conjectures that it always holds the mean in at least 95 % of cases.

    Raises:
        ValueError: there is no row, or a value is outside the bounds or not a number.
    """
    if not len(values) or not (np.abs(values) <= 1).all():
        raise ValueError("an interval needs rows, all between -1 and 1")
    drawn, unseen = _reweighted_means(np.sort(values, axis=0), seed)
    low = np.quantile(drawn - unseen, TAIL, axis=0, method="hazen")  # for draws in the middle of equal parts
    high = np.quantile(drawn + unseen, 1 - TAIL, axis=0, method="hazen")
    means = values.mean(axis=0)
    return np.stack([np.minimum(low, means), np.maximum(high, means)], axis=1)  # only rounding puts a mean outside


def fewest_equal_rows(margin: float, tail: float = TAIL) -> int:
    """Return how many equal rows without a difference exclude a mean change of `margin`."""
    return math.ceil(math.log(tail) / math.log1p(-margin))


def _reweighted_means(values: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the part of each weighted mean that the rows have, `(draws, columns)`, and the weight left, `(draws, 1)`.

    The weights of all rows and the further one are uniform among those that add up to 1. So the further one has a
    Beta(1, rows) distribution, whatever the others are among themselves. It is drawn once from each of `DRAWS` equally
    likely parts, as equal rows depend on it alone: their interval is then exact, as `fewest_equal_rows` is.
    """
    random, rows = np.random.default_rng(seed), len(values)
    part_of_each = (random.permutation(DRAWS) + 0.5) / DRAWS
    unseen = (1 - (1 - part_of_each) ** (1 / rows))[:, None]
    parts = []
    at_once = max(1, WEIGHTS_AT_ONCE // rows)
    for begin in range(0, DRAWS, at_once):
        left = 1 - unseen[begin : begin + at_once]
        weights = random.exponential(size=(len(left), rows))
        weights /= weights.sum(axis=1, keepdims=True)
        parts.append((weights @ values) * left)
    return np.concatenate(parts), unseen
