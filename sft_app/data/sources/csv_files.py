"""Reads the rows of CSV and TSV files, which Excel and others write with several delimiters."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator
from itertools import chain, takewhile

from sft_app.data.rows import Rejected, Row
from sft_app.data.sources.lines import (
    HEAD_BYTES,
    MAX_ROW_BYTES,
    TooLong,
    UndecodableError,
    UnreadableFileError,
    decode_line,
    split_lines,
    take_head,
)
from sft_app.data.sources.tables import RECORDS_EXAMINED, Record, TableHead, examine_head, read_table

DELIMITERS = (",", ";", "\t", "|", "^", "~")
_NAMES = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars", "^": "carets", "~": "tildes"}
_QUOTED = re.compile(r'"[^"]*("|$)')
_ANKI_LINE = re.compile(r"#([a-z ]+):(.*)")
_ANKI_SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t", "space": " ", "pipe": "|", "colon": ":"}
ANKI = "The file is an export of Anki: the first field of each card is read as the question, the second as the answer."
_SEP_LINE = re.compile(r'"?sep=(.)"?\s*$', re.IGNORECASE)
LONGEST_NAME_WORDS = 5
CONSISTENT = 0.8
"""At least this share of the records of a table has the same number of cells."""


def read_csv_rows(
    blocks: Iterator[bytes],
    delimiter: str | None = None,
    notes: list[str] | None = None,
    is_text: bool = False,
) -> Iterator[Row | Rejected]:
    """Read rows under the names in the header. The default `delimiter` is found out from the first records.

    Excel's first line `sep=;` names the delimiter. A `delimiter` that the table does not have is not used.
    A text file (`is_text`) of two columns may begin with data, as Quizlet writes it.

    Raises:
        UnreadableFileError: there is no header or nothing below it, or a quote is never closed.
    """
    notes = [] if notes is None else notes
    csv.field_size_limit(MAX_ROW_BYTES)  # applies to the whole process; the default of 128 kB is too small
    head, blocks = take_head(blocks)
    text = head[:HEAD_BYTES].decode(errors="replace")
    named = _SEP_LINE.match(text.lstrip().partition("\n")[0])
    found = named[1] if named else _find_delimiter(text, delimiter)
    if delimiter and found != delimiter:
        notes.append(f"The cells are separated by {_NAMES.get(found, found)}, not by {_NAMES[delimiter]}.")
    first = first_records(text, found)
    if is_text and _begins_with_data(first):
        head_of = TableHead(has_header=False)
    else:
        head_of = examine_head(first[1 if named else 0 :])
    records = _read_records(_CsvLines(blocks), found)
    if named:
        next(records)
    yield from read_table(records, head_of, notes)


def is_anki(text: str) -> bool:
    """Return whether a text begins with the lines of an export of Anki, such as `#separator:tab`."""
    return text.startswith("#") and "separator" in _anki_lines(text)


def read_anki(head: str, blocks: Iterator[bytes], notes: list[str]) -> Iterator[Row | Rejected]:
    """Read the cards of an export of Anki; `head` is the beginning of the text, with what its first lines say.

    Raises:
        UnreadableFileError: there are no cards, or a quote is never closed.
    """
    notes.append(ANKI)
    said = _anki_lines(head)
    separator = _ANKI_SEPARATORS.get(said["separator"].strip().lower(), said["separator"][:1] or "\t")
    lines = _CsvLines(blocks)
    for _ in said:
        next(lines)
    width = max(map(len, first_records("\n".join(head.splitlines()[len(said) :]), separator)), default=0)
    special = {int(said[key]): key.removesuffix(" column") for key in said if key.endswith(" column")}
    fields = iter(["question", "answer"])
    names = [special.get(at) or next(fields, f"field {at}") for at in range(1, width + 1)]
    yield from read_table(chain([Record(names)], _read_records(lines, separator)), TableHead(), notes)


def _anki_lines(text: str) -> dict[str, str]:
    """Return what the first lines say, in their order."""
    found = map(_ANKI_LINE.fullmatch, (line.rstrip("\r") for line in text.split("\n")))
    return {line[1]: line[2] for line in takewhile(bool, found) if line}


def first_records(text: str, delimiter: str) -> list[list[str]]:
    """Split the first records that are not blank into cells, whatever is wrong with them."""
    records = []
    try:
        for cells in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter):
            records += [cells] if cells else []
            if len(records) > RECORDS_EXAMINED:
                break
    except csv.Error:
        pass
    is_cut = len(text) >= HEAD_BYTES - 4 and len(records) <= RECORDS_EXAMINED
    return records[:-1] if is_cut and len(records) > 1 else records[:RECORDS_EXAMINED]


def _begins_with_data(records: list[list[str]]) -> bool:
    """Return whether two columns begin with a term and its definition, which is longer than a name would be."""
    cells = records[0] if records else []
    is_long = any(len(cell.split()) >= LONGEST_NAME_WORDS for cell in cells)
    return len(cells) == 2 and is_long and not any(cell.rstrip().endswith("?") for cell in cells)


def consistency(records: list[list[str]]) -> float:
    """Return the share of the records that have the most frequent number of cells, if that is more than one."""
    widths = Counter(map(len, records)).most_common(1)
    return widths[0][1] / len(records) if widths and widths[0][0] > 1 and len(records) > 1 else 0.0


def _find_delimiter(text: str, expected: str | None) -> str:
    """Return the most frequent delimiter of the header; if that does not give a table, one that does."""
    header = _QUOTED.sub("", text.lstrip().partition("\n")[0])
    if expected and expected in header:
        return expected
    likely = expected or max(DELIMITERS, key=header.count)
    if consistency(first_records(text, likely)) >= 0.6:
        return likely
    shares = {delimiter: consistency(first_records(text, delimiter)) for delimiter in DELIMITERS}
    best = max(shares, key=lambda delimiter: (shares[delimiter], header.count(delimiter)))
    return best if shares[best] >= (CONSISTENT if expected else 0.5) else likely


def _read_records(lines: _CsvLines, delimiter: str) -> Iterator[Record]:
    """Yield the cells of each record that is not blank, or the reason it cannot be read."""
    # Without `strict`, an unclosed quote would turn the rest of the file into one cell.
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        lines.begin_record()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except _RecordTooLongError:
            yield Record([], reason=lines.skip_record())
        except csv.Error as error:
            if lines.has_ended:
                raise UnreadableFileError(_never_closed(lines.begins)) from error
            yield Record([], reason=lines.reason or f"line {lines.number} is not valid CSV: {error}")
        else:
            if lines.reason or cells:
                yield Record(cells, lines.note, lines.reason)


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
