"""Define the numbered rows that a source yields, and the rejected rows with the reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

JsonObject = dict[str, Any]
"""A row, or an object in one of its cells: any JSON values, under the names used in the file."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a source. `number` counts from 1, as in the file; `note` says what had to be guessed to read it."""

    number: int
    values: JsonObject
    note: str = ""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A skipped row: it cannot be used, or the settings exclude it (`by_choice`, such as a language filter)."""

    row: int
    reason: str
    by_choice: bool = False
