"""Draws a random sample from a stream whose length is not known."""

from __future__ import annotations

import random
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Sample(Generic[Item]):
    """A reservoir sample: keeps `size` of the items offered, each with the same chance, and the same ones every time.

    Source: Vitter (1985), "Random sampling with a reservoir", algorithm R.
    """

    def __init__(self, size: int) -> None:
        self.size, self.offered = size, 0
        self.items: list[Item] = []
        self._random = random.Random(0)

    def offer(self, item: Item) -> None:
        """Offers one more item of the stream."""
        self.offered += 1
        if len(self.items) < self.size:
            self.items.append(item)
        elif (index := self._random.randrange(self.offered)) < self.size:
            self.items[index] = item

    def is_whole(self) -> bool:
        """Tells whether the sample has every item that was offered."""
        return self.offered <= self.size
