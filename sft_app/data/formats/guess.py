"""A reading of a file, and how sure it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Certainty = Literal["chosen", "certain", "guess"]
"""Chosen by a person; told by the rows themselves; or the likeliest of several, which a person has to confirm."""

COLUMNS_NAMED = 8
NAME_SHOWN = 40


@dataclass(frozen=True)
class Guess:
    """One reading of a file: the settings `format` and `columns`, and why."""

    format: str
    why: str
    columns: tuple[str, ...] = ()
    is_certain: bool = True


def in_backticks(names: Sequence[str], most: int = COLUMNS_NAMED) -> str:
    """Columns in a sentence; a file without headings has its first row as names, so they are shortened."""
    shown = ", ".join(f"`{one_line(name)}`" for name in names[:most]) or "(none)"
    return shown if len(names) <= most else f"{shown} and {len(names) - most:,} more"


def one_line(name: str) -> str:
    """A name that may be a whole paragraph."""
    name = " ".join(name.split())
    return name if len(name) <= NAME_SHOWN else f"{name[:NAME_SHOWN]}…"
