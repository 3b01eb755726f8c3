"""Look at the first rows of a file, from which its layout and the columns that mark bad answers are found out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from sft_app.data.formats.row_filters import ValueCounts
from sft_app.data.formats.usable_rows import usable_rows
from sft_app.data.rows import JsonObject, Rejected, Row
from sft_app.data.sources.data_files import holds_parquet, read_rows
from sft_app.runtime.progress import ProgressCallback

ROWS_TO_DETECT_LAYOUT = 200
ROWS_COUNTED = 20_000
"""How many first rows decide which columns mark bad answers; a column that is empty there is judged cell by cell."""


@dataclass
class FirstRows:
    """The rows to detect the layout from, the first unreadable one, the counted words, and the notes on the file.

    `late` has the columns that are empty in the rows of the layout, and filled in a later one, with their first value.
    `filled` are the columns that any of these rows fills.
    """

    readable: list[JsonObject] = field(default_factory=list)
    refused: Rejected | None = None
    counts: ValueCounts = field(default_factory=ValueCounts)
    notes: list[str] = field(default_factory=list)
    late: JsonObject = field(default_factory=dict)
    filled: frozenset[str] = frozenset()


def first_rows(path: Path, sheet: str | None) -> FirstRows:
    """Read the first `ROWS_COUNTED` rows.

    The result is cached until the file changes, because the file is opened again for each choice of columns.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        stat = path.stat()
    except OSError:  # reading reports what is wrong
        return _first_rows.__wrapped__(path, sheet)
    return _first_rows(path, sheet, stat.st_mtime_ns, stat.st_size)


def rows_of(
    path: Path, sheet: str | None, on_progress: ProgressCallback | None = None, notes: list[str] | None = None
) -> Iterator[Row | Rejected]:
    """Read every row of a file; rows with pictures or sound as `Rejected`. Raises: DataError, as `read_rows`."""
    return usable_rows(read_rows(path, on_progress, notes, sheet), holds_parquet(path))


@lru_cache(maxsize=2)
def _first_rows(path: Path, sheet: str | None, *_stamp: int) -> FirstRows:
    first, most = FirstRows(), ROWS_COUNTED
    filled: set[str] = set()
    for row in rows_of(path, sheet, notes=first.notes):
        if isinstance(row, Row):
            new = {name: value for name, value in row.values.items() if name not in filled and is_filled(value)}
            filled |= new.keys()
            if len(first.readable) < ROWS_TO_DETECT_LAYOUT:
                first.readable.append(row.values)
            else:
                first.late |= new
            first.counts.add(row.values)
            most -= 1
        else:
            first.refused = first.refused or row
        if most == 0:
            break
    first.filled = frozenset(filled)
    return first


def is_filled(value: Any) -> bool:
    """Return whether a cell holds something."""
    return value not in (None, "", [], {}) and value == value
