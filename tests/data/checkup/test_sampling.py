"""A sample is fair, of the right size, and the same every time."""

from __future__ import annotations

from collections import Counter

import pytest

from sft_app.data.checkup.sampling import Sample


def sample_of(total: int, size: int) -> Sample[int]:
    sample: Sample[int] = Sample(size)
    for item in range(total):
        sample.offer(item)
    return sample


@pytest.mark.parametrize(("total", "size"), [(0, 3), (1, 3), (3, 3)])
def test_all_items_are_kept_in_order_while_there_is_room(total: int, size: int):
    sample = sample_of(total, size)
    assert sample.items == list(range(total))
    assert sample.is_whole()


@pytest.mark.parametrize("total", [4, 5, 100])
def test_no_more_than_the_size_is_kept_and_no_item_twice(total: int):
    sample = sample_of(total, 3)
    assert len(set(sample.items)) == 3
    assert set(sample.items) <= set(range(total))
    assert not sample.is_whole()


def test_same_stream_gives_the_same_sample():
    assert sample_of(1000, 20).items == sample_of(1000, 20).items


def test_every_part_of_the_stream_is_as_likely():
    """1,000 of 10,000: each tenth is expected 100 times; five standard deviations (9.5) are 47."""
    tenths = Counter(item // 1000 for item in sample_of(10_000, 1000).items)
    assert all(abs(tenths[tenth] - 100) < 47 for tenth in range(10))
