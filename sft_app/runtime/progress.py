"""The types of the callbacks that report how far a piece of work is."""

from __future__ import annotations

from collections.abc import Callable

ProgressCallback = Callable[[float], None]
"""Called with the share of the work that is done, from 0 to 1."""
StageCallback = Callable[[float, str], None]
"""Called with the share of the work that is done and the name of the current stage, such as "Merging"."""
