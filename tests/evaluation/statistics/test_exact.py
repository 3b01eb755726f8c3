"""Exact intervals and tests: tables from the literature, and by simulation how often they are wrong."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sft_app.evaluation.statistics.exact import clopper_pearson, holm, mcnemar, paired_share_interval, sign_flip_test

ROWS = [4, 8, 16, 40, 200]


@pytest.mark.parametrize(
    ("successes", "total", "low", "high"),
    [
        (0, 10, 0.0, 0.3085),
        (10, 10, 0.6915, 1.0),
        (5, 10, 0.1871, 0.8129),
        (1, 8, 0.0032, 0.5265),
        (81, 263, 0.2527, 0.3676),
    ],
)
def test_intervals_of_shares_are_those_of_the_tables(successes: int, total: int, low: float, high: float) -> None:
    assert clopper_pearson(successes, total) == (pytest.approx(low, abs=2e-4), pytest.approx(high, abs=2e-4))


@pytest.mark.parametrize("total", ROWS)
@pytest.mark.parametrize("share", [0.02, 0.2, 0.5, 0.9])
def test_intervals_of_shares_hold_the_truth_at_least_as_often_as_they_say(total: int, share: float) -> None:
    """Summed over all outcomes, so without chance."""
    held = 0.0
    for wins in range(total + 1):
        low, high = clopper_pearson(wins, total)
        if low <= share <= high:
            held += math.comb(total, wins) * share**wins * (1 - share) ** (total - wins)
    assert held >= 0.95 - 1e-9


def test_a_share_of_more_than_all_is_refused() -> None:
    with pytest.raises(ValueError, match="9 of 8 is not a share"):
        clopper_pearson(9, 8)


@pytest.mark.parametrize(
    ("one", "other", "p"), [(0, 0, 1.0), (5, 0, 0.0625), (6, 0, 0.03125), (9, 1, 0.02148), (3, 3, 1.0)]
)
def test_the_paired_test_is_the_exact_one(one: int, other: int, p: float) -> None:
    assert mcnemar(one, other) == mcnemar(other, one) == pytest.approx(p, abs=1e-5)


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize(("lost", "gained"), [(0.0, 0.1), (0.1, 0.1), (0.05, 0.4)])
def test_intervals_of_a_change_of_shares_hold_it_at_least_as_often_as_they_say(
    rows: int, lost: float, gained: float
) -> None:
    drawn = np.random.default_rng(3).multinomial(rows, [lost, gained, 1 - lost - gained], size=1500)
    outcomes, times = np.unique(drawn[:, :2], axis=0, return_counts=True)
    ends = [paired_share_interval(int(one), int(other), rows) for one, other in outcomes]
    held = sum(count for (low, high), count in zip(ends, times, strict=True) if low <= gained - lost <= high)
    assert held / len(drawn) >= 0.95 - 0.012


@pytest.mark.parametrize("kind", ["normal", "heavy-tailed", "binary"])
@pytest.mark.parametrize("rows", ROWS)
def test_signs_are_wrong_no_more_often_than_they_say(kind: str, rows: int) -> None:
    random, size = np.random.default_rng(5), (rows, 500)
    drawn = {
        "normal": lambda: random.normal(size=size),
        "heavy-tailed": lambda: random.standard_t(2, size=size),
        "binary": lambda: random.choice([-1.0, 0.0, 1.0], size=size, p=[0.2, 0.6, 0.2]),
    }[kind]()
    assert (sign_flip_test(drawn) < 0.05).mean() <= 0.05 + 0.02


def test_signs_find_a_real_change_and_know_how_little_few_rows_can_show() -> None:
    random = np.random.default_rng(5)
    assert (sign_flip_test(random.normal(size=(40, 500)) + 0.6) < 0.05).mean() > 0.9
    assert sign_flip_test(np.ones((5, 1)))[0] == pytest.approx(2 / 32, abs=0.01)
    assert sign_flip_test(np.ones((8, 1)))[0] == pytest.approx(2 / 256, abs=0.004)


def test_a_column_that_is_not_a_number_has_no_p_value() -> None:
    differences = np.ones((8, 2))
    differences[3, 1] = math.nan
    first, second = sign_flip_test(differences)
    assert first < 0.05
    assert math.isnan(second)


def test_several_measures_are_corrected_step_by_step() -> None:
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == {
        "a": pytest.approx(0.03),
        "b": pytest.approx(0.06),
        "c": pytest.approx(0.06),
    }
    assert holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}
    corrected = holm({"a": 0.01, "b": math.nan})
    assert corrected["a"] == 0.01
    assert math.isnan(corrected["b"])


def test_one_of_seven_measures_without_an_effect_is_rarely_called_a_change() -> None:
    """Uncorrected, one of seven independent measures is called so in 30 % of cases."""
    p_values = sign_flip_test(np.random.default_rng(8).normal(size=(16, 7 * 400))).reshape(400, 7)
    uncorrected = (p_values < 0.05).any(axis=1).mean()
    corrected = np.mean([min(holm(dict(enumerate(map(float, trial)))).values()) < 0.05 for trial in p_values])  # type: ignore[arg-type]
    assert uncorrected > 0.2
    assert corrected <= 0.05 + 0.025
