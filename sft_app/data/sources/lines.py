"""Turn the bytes of a file into lines: decompressed, in UTF-8, and no longer than a row may be."""

from __future__ import annotations

import codecs
import itertools
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sft_app.runtime.progress import ProgressCallback

BLOCK_BYTES = 2**18
HEAD_BYTES = 2**16
# A row of 10 MB is about 2.5 million tokens, more than any model accepts. This limit bounds the memory.
MAX_ROW_BYTES = 10_000_000
# Text compresses to about a tenth; only a file beyond both limits is treated as a decompression bomb.
BOMB_BYTES = 256 * 2**20
BOMB_RATIO = 100
READ_AS_WINDOWS_1252 = "read as Windows-1252 (check the accents)"

_BOMS = {  # UTF-32 first, because its little-endian mark starts with that of UTF-16
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
_OTHER_FILE_TYPES = {
    b"PK\x03\x04": "a ZIP, Excel or Word file; save it as CSV or JSON Lines",
    b"\x1f\x8b": "compressed with gzip; add .gz to its name",
    b"PAR1": "a Parquet file; rename it to end in .parquet",
    b"%PDF-": "a PDF file; save its text as .txt",
}
_CONTROL = bytes(code for code in range(32) if code not in b"\t\n\v\f\r\x1b")


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


def text_blocks(path: Path, on_progress: ProgressCallback | None = None) -> Iterator[bytes]:
    """Read the text of a file in blocks: decompressed, converted to UTF-8 if it has a BOM, with LF or CRLF.

    The first block has at least `HEAD_BYTES` bytes if the text does.

    Raises:
        UnreadableFileError: the file is empty, is not text, or is damaged from here on.
        OSError: the disk fails.
    """
    head, blocks = take_head(_unpacked_blocks(path, on_progress))
    for bom, encoding in _BOMS.items():
        if head.startswith(bom):
            head, blocks = take_head(_to_utf8(blocks, bom, encoding))
            break
    _refuse_binary_data(head)
    if b"\n" not in head and b"\r" in head[:-1]:  # line endings of classic Mac OS, which Excel still offers
        blocks = (block.replace(b"\r", b"\n") for block in blocks)
    yield from blocks


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
            return line.decode("cp1252"), READ_AS_WINDOWS_1252
        except UnicodeDecodeError:  # five byte values are undefined in Windows-1252
            pass
    raise UndecodableError(f"byte {bad_byte} of the {unit} is not UTF-8; save the file again as UTF-8")


def _unpacked_blocks(path: Path, on_progress: ProgressCallback | None) -> Iterator[bytes]:
    blocks = _read_blocks(path, on_progress)
    return _gunzip(blocks, path.stat().st_size) if path.suffix.lower() == ".gz" else blocks


def _read_blocks(path: Path, on_progress: ProgressCallback | None) -> Iterator[bytes]:
    report = limit_report_rate(on_progress)
    size = path.stat().st_size
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            yield block
            report(file.tell() / size)


def _gunzip(blocks: Iterator[bytes], packed_size: int) -> Iterator[bytes]:
    """Decompress one gzip member after another, at most `BLOCK_BYTES` at a time.

    Raises:
        UnreadableFileError: the bytes are not gzip, are cut off, or decompress to far more than text would.
    """
    decoder, unpacked = zlib.decompressobj(wbits=31), 0
    for block in blocks:
        while True:
            if decoder.eof and not (block := block.lstrip(b"\0")):  # members may be padded with zeros
                break
            decoder = zlib.decompressobj(wbits=31) if decoder.eof else decoder
            try:
                piece = decoder.decompress(block, BLOCK_BYTES)
            except zlib.error as error:
                damage = f"damaged after {unpacked:,} decompressed bytes" if unpacked else "not gzip, or damaged"
                raise UnreadableFileError(f"the .gz file is {damage}; compress or download it again") from error
            unpacked += len(piece)
            if unpacked > max(BOMB_BYTES, BOMB_RATIO * packed_size):
                raise UnreadableFileError(
                    f"the .gz file decompresses to more than {BOMB_RATIO} times its size; decompress it yourself first"
                )
            yield piece
            block = decoder.unconsumed_tail or decoder.unused_data
            if not block and len(piece) < BLOCK_BYTES:  # after a full piece there may be more
                break
    if not decoder.eof:
        raise UnreadableFileError(
            f"the .gz file is cut off after {unpacked:,} decompressed bytes; compress or download it again"
        )


def _to_utf8(blocks: Iterator[bytes], bom: bytes, encoding: str) -> Iterator[bytes]:
    """Convert the text after its byte order mark; UTF-8 is passed on unchanged and checked line by line."""
    first = next(blocks)[len(bom) :]
    blocks = itertools.chain([first], blocks)
    if encoding == "utf-8":
        yield from blocks
        return
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        for block in blocks:
            yield decoder.decode(block).encode()
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        yield error.object[: error.start].decode(encoding).encode()
        raise UnreadableFileError(
            f"the text is not the {encoding[:6].upper()} it claims to be; save the file again as UTF-8"
        ) from error


def _refuse_binary_data(head: bytes) -> None:
    if not head:
        raise UnreadableFileError("the file is empty")
    for begin, kind in _OTHER_FILE_TYPES.items():
        if head.startswith(begin):
            raise UnreadableFileError(f"the file is {kind}")
    sample = head[:1024]
    if len(sample) - len(sample.translate(None, _CONTROL)) > len(sample) / 20:
        raise UnreadableFileError("the file contains binary data or zero bytes, not text; save it again as UTF-8 text")


def _raise_when_reached(error: UnreadableFileError) -> Iterator[bytes]:
    raise error
    yield b""
