"""Reads the rows of CSV and TSV files, which Excel and others write with several delimiters."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from itertools import count

from sft_app.data.rows import Rejected, Row
from sft_app.data.sources.lines import (
    MAX_ROW_BYTES,
    TooLong,
    UndecodableError,
    UnreadableFileError,
    decode_line,
    split_lines,
    take_head,
)

_DELIMITERS = (b",", b";", b"\t", b"|")
_QUOTED = re.compile(rb'"[^"]*("|$)')


def read_csv_rows(blocks: Iterator[bytes], delimiter: str | None = None) -> Iterator[Row | Rejected]:
    """Read rows under the names in the header. The default `delimiter` is the most frequent one in the header.

    Raises:
        UnreadableFileError: there is no header or nothing below it, or a quote is never closed.
    """
    head, blocks = take_head(blocks)
    lines = _CsvLines(blocks)
    records = _read_records(lines, delimiter or _find_delimiter(head))
    header = next(records, [])
    if isinstance(header, str):
        raise UnreadableFileError(f"the header cannot be read: {header}")
    names = unique_names(header)
    number = 0
    for number, cells in enumerate(records, start=1):
        yield _as_row(number, names, cells, lines.note)
    if not number:
        raise UnreadableFileError(
            "there are no rows below its header" if names else "there is no header, only blank lines"
        )


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


def _find_delimiter(head: bytes) -> str:
    header = _QUOTED.sub(b"", head.lstrip().partition(b"\n")[0])
    return max(_DELIMITERS, key=header.count).decode()


def _as_row(number: int, names: list[str], cells: list[str] | str, note: str) -> Row | Rejected:
    if isinstance(cells, str):
        return Rejected(number, cells)
    if len(cells) > len(names):
        return Rejected(number, f"more cells than the {len(names)} columns in the header")
    values: dict[str, str | None] = dict(zip(names, cells, strict=False))
    values.update(dict.fromkeys(names[len(cells) :]))
    return Row(number, values, note)


def _read_records(lines: _CsvLines, delimiter: str) -> Iterator[list[str] | str]:
    """Yield the cells of each record that is not blank, or the reason it cannot be read."""
    csv.field_size_limit(MAX_ROW_BYTES)  # applies to the whole process; the default of 128 kB is too small
    # Without `strict`, an unclosed quote would turn the rest of the file into one cell.
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        lines.begin_record()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except _RecordTooLongError:
            yield lines.skip_record()
        except csv.Error as error:
            if lines.has_ended:
                raise UnreadableFileError(_never_closed(lines.begins)) from error
            yield lines.reason or f"line {lines.number} is not valid CSV: {error}"
        else:
            if lines.reason or cells:
                yield lines.reason or cells


def _never_closed(begins: int) -> str:
    return (
        f"a quote in the row that starts on line {begins} is never closed, so that row and all rows after "
        f"it were skipped; "
        'close the quote, or write a quote inside a cell as ""'
    )


class _RecordTooLongError(Exception):
    """Raised if a record has more bytes than a row may have."""


class _CsvLines:
    """Feeds lines to `csv.reader` and tracks the position, size and faults of the current record."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self.lines = split_lines(blocks)
        self.number = 0
        self.has_ended = False
        self.begin_record()

    def begin_record(self) -> None:
        """Start a new record at the next line."""
        self.begins = self.number + 1
        self.size, self.quotes = 0, 0
        self.note, self.reason = "", ""

    def __iter__(self) -> _CsvLines:
        return self

    def __next__(self) -> str:
        line = self._next_line()
        if isinstance(line, TooLong) or self.size > MAX_ROW_BYTES:
            raise _RecordTooLongError
        try:
            text = line.decode()
        except UnicodeDecodeError:
            text = self._decode_guessing(line)
        if "\0" in text:
            self.reason = f"line {self.number} contains zero bytes; the file is damaged or not text"
        return text + "\n"

    def _decode_guessing(self, line: bytes) -> str:
        try:
            text, self.note = decode_line(line)
            return text
        except UndecodableError as error:
            self.reason = f"on line {self.number} of the file, {error}"
            # The record is still read to its end; otherwise the reader would continue in the middle of it.
            return line.decode(errors="replace")

    def skip_record(self) -> str:
        """Skip to the line that closes the record's quote, and return why the record is skipped: its size.

        Raises:
            UnreadableFileError: no line closes it.
        """
        try:
            while self.quotes % 2:
                self._next_line()
        except StopIteration as error:
            raise UnreadableFileError(_never_closed(self.begins)) from error
        return TooLong(self.size).reason

    def _next_line(self) -> bytes | TooLong:
        try:
            line = next(self.lines)
        except StopIteration:
            self.has_ended = True
            raise
        self.number += 1
        if isinstance(line, TooLong):
            self.size += line.size
            self.quotes = 0  # its quotes were not counted, so the record is assumed to end with it
        else:
            self.size += len(line) + 1
            self.quotes += line.count(b'"')
        return line
