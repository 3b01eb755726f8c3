"""The callbacks that report how far a piece of work is."""

from __future__ import annotations

from collections.abc import Callable

ProgressCallback = Callable[[float], None]
"""Called with the share of the work that is done, from 0 to 1."""
StageCallback = Callable[[float, str], None]
"""Called with the share of the work that is done and the name of the current stage, such as "Merging"."""


def part_of(on_progress: ProgressCallback, begin: float, end: float) -> ProgressCallback:
    """Return a callback for a part of the work that spans `begin` to `end` of the whole."""
    return lambda share: on_progress(begin + (end - begin) * share)
