"""Numbered rows as a source yields them, and the rows that cannot be used, with the reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

JsonObject = dict[str, Any]
"""A row, or an object in one of its cells: whatever JSON can hold, under names that the file chose."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a source. `number` counts from 1 as in the file; `note` says what had to be guessed to read it."""

    number: int
    values: JsonObject
    note: str = ""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row left out because it cannot be used, or `by_choice` of the settings (a language filter, for example)."""

    row: int
    reason: str
    by_choice: bool = False
