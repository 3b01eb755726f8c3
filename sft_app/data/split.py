"""Which conversations are held out: kept from training, so that what was learnt can be measured on them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

from sft_app.errors import DataError

T = TypeVar("T")


def heldout_size(total: int, fraction: float, minimum: int, maximum: int) -> int:
    """How many to hold out. Raises: DataError when that would leave nothing to train on."""
    size = min(max(round(total * fraction), minimum), maximum)
    if size >= total:
        raise DataError(f"{total} conversations are too few: {size} are held out to measure on, so none is left.")
    return size


def split_heldout(items: Sequence[T], size: int, seed: int) -> tuple[list[T], list[T]]:
    """Training and held-out items, each in the order they came; the same seed chooses the same."""
    chosen = set(random.Random(seed).sample(range(len(items)), size))
    train = [item for position, item in enumerate(items) if position not in chosen]
    return train, [items[position] for position in sorted(chosen)]
