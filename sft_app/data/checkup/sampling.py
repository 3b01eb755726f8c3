"""Draw a random sample from a stream of unknown length."""

from __future__ import annotations

import random
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Sample(Generic[Item]):
    """A reservoir sample: keeps `size` of the offered items, each with the same chance, reproducibly.

    Source: Vitter (1985), "Random sampling with a reservoir", algorithm R.
    """

    def __init__(self, size: int) -> None:
        self.size, self.offered = size, 0
        self.items: list[Item] = []
        self._random = random.Random(0)

    def offer(self, item: Item) -> None:
        """Offer the next item of the stream."""
        self.offered += 1
        if len(self.items) < self.size:
            self.items.append(item)
        elif (index := self._random.randrange(self.offered)) < self.size:
            self.items[index] = item

    def is_whole(self) -> bool:
        """Return whether the sample contains every offered item."""
        return self.offered <= self.size
