"""Read plain text as paragraphs, or as lines if there is no blank line."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sft_app.data.rows import Rejected, Row
from sft_app.data.sources.lines import (
    HEAD_BYTES,
    MAX_ROW_BYTES,
    TooLong,
    UndecodableError,
    decode_line,
    split_lines,
    take_head,
)

_BLANK_LINE = re.compile(rb"\n[ \t\r]*\n")


def read_txt_rows(blocks: Iterator[bytes]) -> Iterator[Row | Rejected]:
    """Read rows with a column `text`, each numbered by the line it starts on."""
    head, blocks = take_head(blocks)
    paragraphs = _gather_paragraphs(blocks) if _BLANK_LINE.search(head[:HEAD_BYTES].strip()) else _single_lines(blocks)
    for number, lines in paragraphs:
        yield _read_paragraph(number, lines)


def _single_lines(blocks: Iterator[bytes]) -> Iterator[tuple[int, list[bytes] | TooLong]]:
    for number, line in enumerate(split_lines(blocks), start=1):
        if isinstance(line, TooLong):
            yield number, line
        elif line.strip():
            yield number, [line]


def _gather_paragraphs(blocks: Iterator[bytes]) -> Iterator[tuple[int, list[bytes] | TooLong]]:
    """Yield the lines of every paragraph, or only its size if it is too long."""
    lines: list[bytes] = []
    begins, size = 0, 0
    for number, line in enumerate(split_lines(blocks), start=1):
        if not isinstance(line, TooLong) and not line.strip():
            if size:
                yield begins, lines if size <= MAX_ROW_BYTES else TooLong(size)
            lines, size = [], 0
            continue
        begins = begins if size else number
        size += line.size if isinstance(line, TooLong) else len(line) + 1
        if size > MAX_ROW_BYTES:
            lines.clear()
        elif isinstance(line, bytes):
            lines.append(line)
    if size:
        yield begins, lines if size <= MAX_ROW_BYTES else TooLong(size)


def _read_paragraph(number: int, lines: list[bytes] | TooLong) -> Row | Rejected:
    if isinstance(lines, TooLong):
        return Rejected(number, lines.reason)
    texts, notes = [], set()
    for line_number, line in enumerate(lines, start=number):
        try:
            text, note = decode_line(line.removesuffix(b"\r"))
        except UndecodableError as error:
            return Rejected(number, f"on line {line_number} of the file, {error}")
        if "\0" in text:
            return Rejected(number, f"line {line_number} of the file contains zero bytes; it is damaged or not text")
        texts.append(text)
        notes.add(note)
    return Row(number, {"text": "\n".join(texts)}, max(notes))
