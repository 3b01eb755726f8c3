"""Exact intervals and tests for counts and for paired differences, and the correction for several measures."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

SIGN_FLIPS = 10_000


def clopper_pearson(successes: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the interval of a share that holds the truth at least as often as `confidence`, for any number of trials.

    Source: Clopper & Pearson 1934, "The use of confidence or fiducial limits illustrated in the case of the binomial".

    Raises:
        ValueError: `successes` is not between 0 and `total`.
    """
    if not 0 <= successes <= total:
        raise ValueError(f"{successes} of {total} is not a share")
    tail = (1 - confidence) / 2
    low = 0.0 if successes == 0 else _solve(lambda share: _at_least(successes, total, share), tail)
    high = 1.0 if successes == total else 1 - _solve(lambda share: _at_least(total - successes, total, share), tail)
    return low, high


def mcnemar(only_one: int, only_other: int) -> float:
    """Return the two-sided p-value of a paired test of pass and fail: how often fair coins are at least as uneven.

    Only the pairs that differ count: `only_one` passed on one side alone, `only_other` on the other alone.
    Source: McNemar 1947, "Note on the sampling error of the difference between correlated proportions"; exact form.
    """
    total, most = only_one + only_other, max(only_one, only_other)
    return min(1.0, 2 * _at_least(most, total, 0.5))


def paired_share_interval(only_base: int, only_tuned: int, total: int) -> tuple[float, float]:
    """Return a 95 % interval of the change of a share between two sides of the same rows, tuned minus base.

    The shares of rows that only one side has are each given their exact interval at 97.5 %, so that both hold at once
    in at least 95 % of cases (Bonferroni), whatever the number of rows.
    """
    lost, gained = (clopper_pearson(count, total, 0.975) for count in (only_base, only_tuned))
    return gained[0] - lost[1], gained[1] - lost[0]


def sign_flip_test(differences: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return the two-sided p-value of each column of paired differences `(rows, columns)`, NaN where one is NaN.

    If neither side is better, each row's difference might as well have had the other sign; the p-value is the share of
    random signs whose sum is at least as far from zero. It is valid for any number of rows. Rows that share a cause
    must be summed first. Source: Fisher 1935, "The Design of Experiments", §21; drawn as in Phipson & Smyth 2010,
    "Permutation p-values should never be zero".
    """
    rows = len(differences)
    signs = np.random.default_rng(seed).integers(0, 2, size=(SIGN_FLIPS, rows), dtype=np.int8) * 2.0 - 1
    observed = np.abs(differences.sum(axis=0))
    rounding = 1e-9 * np.abs(differences).sum(axis=0)
    further = (np.abs(signs @ differences) >= observed - rounding).sum(axis=0)
    p_values: np.ndarray = np.where(np.isfinite(observed), (further + 1) / (SIGN_FLIPS + 1), math.nan)
    return p_values


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Correct the p-values of several measures, so that all of them together have the error rate of one.

    Measures without a p-value (NaN) are not counted and stay NaN.
    Source: Holm 1979, "A simple sequentially rejective multiple test procedure".
    """
    known = sorted((p, name) for name, p in p_values.items() if math.isfinite(p))
    corrected, largest = dict(p_values), 0.0
    for rank, (p, name) in enumerate(known):
        largest = max(largest, min(1.0, p * (len(known) - rank)))
        corrected[name] = largest
    return corrected


def _at_least(successes: int, total: int, share: float) -> float:
    """Return the probability of at least this many successes."""
    if successes <= 0:
        return 1.0
    if share <= 0.0:
        return 0.0
    if share >= 1.0:
        return 1.0
    one, none = math.log(share), math.log1p(-share)
    return min(
        1.0, sum(math.exp(_log_choose(total, k) + k * one + (total - k) * none) for k in range(successes, total + 1))
    )


def _log_choose(total: int, chosen: int) -> float:
    return math.lgamma(total + 1) - math.lgamma(chosen + 1) - math.lgamma(total - chosen + 1)


def _solve(rising: Callable[[float], float], target: float) -> float:
    """Return the share at which a rising function reaches `target`."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if rising(middle) > target else (middle, high)
    return (low + high) / 2
