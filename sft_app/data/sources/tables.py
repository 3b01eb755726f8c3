"""Turn records of cells into rows: find the header, which may be missing or below titles, and name the columns."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, count

from sft_app.data.rows import Rejected, Row
from sft_app.data.sources.lines import UnreadableFileError

RECORDS_EXAMINED = 30
"""The header is looked for in this many first records."""
_SENTENCE_END = re.compile(r"[.!。！](?:[\"'”’)]|\s)*$")
_NUMBER_OR_DATE = re.compile(r"[-+\d.,:/ TZ%€$£]*\d[-+\d.,:/ TZ%€$£]*")
_TOTAL = re.compile(
    r"(grand |sub)?total(s|e)?\b.{0,20}|sum|summe|gesamt|insgesamt|suma|somme|totale|totaal|итого|合计|合計|总计",
    re.IGNORECASE,
)
_WIDE = re.compile(r"[぀-ヿ㐀-鿿가-힯]")


@dataclass(frozen=True, slots=True)
class Record:
    """The cells of a record, or the `reason` it cannot be read; `note` says what was guessed."""

    cells: list[str]
    note: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class TableHead:
    """What stands above the rows: `skipped` records of titles, and a header unless the table has none."""

    skipped: int = 0
    has_header: bool = True


def read_table(records: Iterator[Record], head: TableHead, notes: list[str]) -> Iterator[Row | Rejected]:
    """Read rows under the names in the header, and add a note if it is missing or not in the first record.

    Raises:
        UnreadableFileError: there is no header or nothing below it.
    """
    titles = [cell for _ in range(head.skipped) for cell in next(records, Record([])).cells if cell.strip()]
    header = next(records, Record([]))
    if header.reason:
        raise UnreadableFileError(f"the header cannot be read: {header.reason}")
    names = unique_names(header.cells)
    if titles:
        shown = ", ".join(f"“{title.strip()[:40]}”" for title in titles[:3])
        notes.append(f"The lines above the header are left out: {shown}.")
    if not head.has_header:
        names = _names_without_header(header.cells)
        records = chain([header], records)
        notes.append(
            "The table has no header: its first line is read as data, its first column as the question and its "
            "second as the answer. If that is wrong, add a first line with the names of the columns."
        )
    number = 0
    for number, record, is_last in _numbered(records):
        if head.has_header and record.cells == header.cells:
            yield Rejected(number, "it repeats the header", by_choice=True)
        elif is_last and number > 1 and _is_total(record.cells):
            yield Rejected(number, "it is the total below the table", by_choice=True)
        else:
            yield _as_row(number, names, record)
    if not number:
        raise UnreadableFileError(
            "there are no rows below its header" if names else "there is no header, only blank lines"
        )


def _numbered(records: Iterator[Record]) -> Iterator[tuple[int, Record, bool]]:
    """Number the records, and say of each whether it is the last; one before a fault in the file is not."""
    number, waiting = 0, next(records, None)
    while waiting is not None:
        record, fault = waiting, None
        try:
            waiting = next(records, None)
        except UnreadableFileError as error:
            fault = error
        number += 1
        yield number, record, waiting is None
        if fault:
            raise fault


def _is_total(cells: list[str]) -> bool:
    """Return whether a record is a total: its first cell says so, and the others are numbers or empty."""
    filled = [cell.strip() for cell in cells if cell.strip()]
    return (
        bool(filled)
        and _TOTAL.fullmatch(filled[0]) is not None
        and all(_NUMBER_OR_DATE.fullmatch(cell) for cell in filled[1:])
    )


def examine_head(records: list[list[str]]) -> TableHead:
    """Decide from the first records, without blank ones, where the header is and whether there is one."""
    if not records:
        return TableHead()
    filled = [sum(1 for cell in cells if cell.strip()) for cells in records]
    width = max(filled)
    skipped = 0
    while skipped < len(records) - 1 and _is_title(filled, skipped, width, records[skipped]):
        skipped += 1
    if filled[skipped] * 2 < width:  # no header follows, so these are not titles
        skipped = 0
    return TableHead(skipped, not _is_data(records[skipped]))


def unique_names(header: list[str]) -> list[str]:
    """Give every column a unique name: an unnamed third column becomes "column 3", a second `a` becomes "a (2)"."""
    names: dict[str, None] = {}
    next_number: dict[str, Iterator[int]] = {}
    for position, cell in enumerate(header, start=1):
        name = cell.strip() or f"column {position}"
        numbers = next_number.setdefault(name, count(2))
        unique = name
        while unique in names:
            unique = f"{name} ({next(numbers)})"
        names[unique] = None
    return list(names)


def _is_title(filled: list[int], index: int, width: int, cells: list[str]) -> bool:
    """Return whether a record is a title: one phrase, or few cells above a wide table."""
    if filled[index] == 0:
        return True
    if filled[index] == 1 and width >= 2:
        phrase = "".join(cells).strip()
        return index > 0 or filled[index + 1] <= 1 or any(mark in phrase for mark in " _:")
    return filled[index] == 2 and width >= 5


def _is_data(cells: list[str]) -> bool:
    """Return whether a record that should be the header reads like a row: only phrases and numbers, one a sentence."""
    filled = [cell.strip() for cell in cells if cell.strip()]
    return (
        len(filled) >= 2
        and len(filled) == len(cells)
        and all(_is_phrase(cell) or _NUMBER_OR_DATE.fullmatch(cell) for cell in filled)
        and any(_is_phrase(cell) and (_SENTENCE_END.search(cell) or len(cell) > 100) for cell in filled)
    )


def _is_phrase(cell: str) -> bool:
    return len(cell.split()) >= 3 or len(_WIDE.findall(cell)) >= 6


def _names_without_header(cells: list[str]) -> list[str]:
    if len(cells) != 2:
        raise UnreadableFileError(
            f"the table has no header: its first line reads like data (“{cells[0].strip()[:40]}”); "
            "add a first line with a name for each column, such as question and answer"
        )
    return ["question", "answer"]


def _as_row(number: int, names: list[str], record: Record) -> Row | Rejected:
    if record.reason:
        return Rejected(number, record.reason)
    cells = record.cells
    if len(cells) > len(names):
        return Rejected(number, f"more cells than the {len(names)} columns in the header")
    values: dict[str, str | None] = dict(zip(names, cells, strict=False))
    values.update(dict.fromkeys(names[len(cells) :]))
    return Row(number, values, record.note)
