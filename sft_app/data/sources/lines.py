"""Split text into lines that are no longer than a row may be, and decode them."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass

from sft_app.runtime.progress import ProgressCallback

BLOCK_BYTES = 2**18
HEAD_BYTES = 2**16
# A row of 10 MB is about 2.5 million tokens, more than any model accepts. This limit bounds the memory.
MAX_ROW_BYTES = 10_000_000
# Text compresses to about a tenth; only a file beyond both limits is treated as a decompression bomb.
BOMB_BYTES = 256 * 2**20
BOMB_RATIO = 100
READ_AS_WINDOWS_1252 = "read as Windows-1252 (check the accents)"
_LONG_RUN = re.compile("[À-ÿ]{4}")


class UnreadableFileError(Exception):
    """Raised if nothing after this position can be read. The text is a reason in lower case, without a full stop."""


class UndecodableError(Exception):
    """Raised if the bytes of a line are not text; the message says why."""


@dataclass(frozen=True, slots=True)
class TooLong:
    """Marks a row that was skipped because of its `size` in bytes."""

    size: int

    @property
    def reason(self) -> str:
        """Return why the row was skipped, with its size."""
        return f"{self.size / 1e6:.1f} MB long; a row can be at most {MAX_ROW_BYTES / 1e6:.0f} MB"


def limit_report_rate(on_progress: ProgressCallback | None) -> ProgressCallback:
    """Return a callback that passes on at most 20 shares per second, and always the last one, 1."""
    last_report = 0.0

    def report(share: float) -> None:
        nonlocal last_report
        now = time.monotonic()
        if on_progress is not None and (now - last_report >= 0.05 or share >= 1):
            last_report = now
            on_progress(min(share, 1.0))

    return report


def take_head(blocks: Iterator[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """Return at least the first `HEAD_BYTES` bytes, and all blocks; an error after them is raised later."""
    head: list[bytes] = []
    try:
        while sum(map(len, head)) < HEAD_BYTES and (block := next(blocks, None)) is not None:
            head.append(block)
    except UnreadableFileError as error:
        if not head:
            raise
        blocks = _raise_when_reached(error)
    begin = b"".join(head)
    return begin, itertools.chain([begin] if begin else [], blocks)


def split_lines(blocks: Iterator[bytes]) -> Iterator[bytes | TooLong]:
    """Split blocks into lines without their LF; a line that is too long is measured but not stored."""
    pending: list[bytes] = []
    size = 0
    for block in blocks:
        first, *others = block.split(b"\n")
        size += len(first)
        pending = [*pending, first] if size <= MAX_ROW_BYTES else []
        if others:
            yield b"".join(pending) if size <= MAX_ROW_BYTES else TooLong(size)
            pending, size = [others[-1]], len(others[-1])
            yield from others[:-1]
    if size:
        yield b"".join(pending) if size <= MAX_ROW_BYTES else TooLong(size)


def decode_line(line: bytes, unit: str = "line") -> tuple[str, str]:
    """Decode a line, and return a note if its encoding had to be guessed. Errors call the line `unit`.

    Raises:
        UndecodableError: it is damaged UTF-8, or its encoding cannot be guessed.
    """
    try:
        return line.decode(), ""
    except UnicodeDecodeError as error:
        bad_byte = error.start + 1
    # Windows-1252 letters practically never form valid UTF-8, so a line in which others did was UTF-8.
    if line.decode(errors="ignore").isascii():
        try:
            text = line.decode("cp1252")
        except UnicodeDecodeError:  # five byte values are undefined in Windows-1252
            text = "À" * 4
        if not _LONG_RUN.search(text):  # as in Cyrillic, Greek or Chinese text; no western word has so many accents
            return text, READ_AS_WINDOWS_1252
    raise UndecodableError(f"byte {bad_byte} of the {unit} is not UTF-8; save the file again as UTF-8")


def _raise_when_reached(error: UnreadableFileError) -> Iterator[bytes]:
    raise error
    yield b""


def whole_lines(head: bytes) -> str:
    """Return the text of the first `HEAD_BYTES` of a file (`take_head`) without a last line that is cut."""
    begin = head[:HEAD_BYTES]
    return (begin if len(head) <= HEAD_BYTES else begin[: begin.rfind(b"\n") + 1]).decode(errors="replace")


def decoded_lines(blocks: Iterator[bytes]) -> Iterator[tuple[int, str, str]]:
    """Yield the number of each line, its text, and what was guessed to read it.

    Raises:
        UnreadableFileError: a line is too long or no text.
    """
    for number, line in enumerate(split_lines(blocks), start=1):
        if isinstance(line, TooLong):
            raise UnreadableFileError(line.reason)
        try:
            text, note = decode_line(line.removesuffix(b"\r"))
        except UndecodableError as error:
            raise UnreadableFileError(f"on line {number} of the file, {error}") from error
        yield number, text.removeprefix("\ufeff"), note
