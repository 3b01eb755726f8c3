"""What a source yields: numbered rows, and the rows that cannot be used, with the reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Progress = Callable[[float], None]
"""Is told the share of a source, 0 to 1, that has been read."""


@dataclass(frozen=True, slots=True)
class Row:
    """`number` counts from 1 as in the file; `note` says what had to be guessed to read it, "" if nothing."""

    number: int
    values: dict[str, Any]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row left out: because it cannot be used, or `by_choice` of the settings (a language filter, say)."""

    row: int
    reason: str
    by_choice: bool = False
