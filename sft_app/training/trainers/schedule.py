"""The learning rate at each optimizer step."""

from __future__ import annotations

import math
from typing import Any

from torch.optim.lr_scheduler import LambdaLR


def make_schedule(optimizer: Any, kind: str, warmup: int, total: int) -> LambdaLR:
    """A schedule of `total` optimizer steps; at least the last one is at or past the full rate."""
    rising = min(warmup, total - 1)
    return LambdaLR(optimizer, lambda step: share_of_rate(step, kind, rising, total))


def share_of_rate(step: int, kind: str, warmup: int, total: int) -> float:
    """At step 0 … `total` - 1, of the learning rate asked for; never 0, since such a step would learn nothing.

    After the warm-up it is transformers' own schedule of this name, which begins its warm-up with a step at rate 0.
    """
    if kind == "constant":
        return 1.0
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if kind == "constant_with_warmup":
        return 1.0
    left = max(0, total - step) / (total - warmup)
    return left if kind == "linear" else 0.5 * (1 + math.cos(math.pi * (1 - left)))
