"""The held-out set is chosen once, by the seed, and never trained on."""

from __future__ import annotations

import pytest

from sft_app.data.split import heldout_size, split_heldout
from sft_app.errors import DataError


@pytest.mark.parametrize(
    ("total", "fraction", "minimum", "maximum", "expected"),
    [
        (1000, 0.1, 8, 200, 100),
        (24, 0.1, 8, 200, 8),
        (50_000, 0.1, 8, 200, 200),
        (100, 0.0, 8, 200, 8),
        (100, 0.5, 1, 1000, 50),
        (252, 0.1, 8, 200, 25),
        (9, 0.1, 8, 200, 8),
        (2, 0.1, 1, 200, 1),
    ],
)
def test_size_is_the_fraction_between_minimum_and_maximum(
    total: int, fraction: float, minimum: int, maximum: int, expected: int
):
    assert heldout_size(total, fraction, minimum, maximum) == expected


@pytest.mark.parametrize(("total", "minimum"), [(0, 1), (1, 1), (8, 8), (3, 8)])
def test_too_few_conversations_are_told(total: int, minimum: int):
    expected = f"^{total} conversations are too few: {minimum} are held out to measure on, so none is left"
    with pytest.raises(DataError, match=expected):
        heldout_size(total, 0.1, minimum, 200)


@pytest.mark.parametrize(("total", "size"), [(1, 0), (10, 0), (10, 3), (10, 9), (10, 10), (1000, 100)])
def test_every_item_is_on_one_side_in_the_order_it_came(total: int, size: int):
    train, heldout = split_heldout(range(total), size, seed=42)
    assert (len(train), len(heldout)) == (total - size, size)
    assert sorted(train + heldout) == list(range(total))
    assert (train, heldout) == (sorted(train), sorted(heldout))


def test_equal_items_are_told_apart_by_their_place():
    train, heldout = split_heldout(["a"] * 10, 3, seed=1)
    assert (len(train), len(heldout)) == (7, 3)


def test_same_seed_chooses_the_same():
    assert split_heldout(range(100), 10, seed=7) == split_heldout(range(100), 10, seed=7)


def test_choice_depends_on_the_seed_and_the_place_alone():
    """So that a run can be repeated elsewhere: written down from one machine."""
    assert split_heldout(range(100), 5, seed=42)[1] == [3, 14, 35, 81, 94]
    assert split_heldout([str(i) for i in range(100)], 5, seed=42)[1] == ["3", "14", "35", "81", "94"]


def test_another_seed_chooses_others():
    assert len({tuple(split_heldout(range(100), 10, seed)[1]) for seed in range(20)}) == 20


def test_every_place_is_held_out_now_and_then():
    chosen = {item for seed in range(200) for item in split_heldout(range(20), 2, seed)[1]}
    assert chosen == set(range(20))
