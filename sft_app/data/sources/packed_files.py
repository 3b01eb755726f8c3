"""Open a file as blocks of bytes, unpacked if it is compressed or in a ZIP archive, with limits against bombs."""

from __future__ import annotations

import bz2
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from sft_app.data.sources.lines import BLOCK_BYTES, BOMB_BYTES, BOMB_RATIO, UnreadableFileError, limit_report_rate
from sft_app.runtime.progress import ProgressCallback

COMPRESSED = (".gz", ".bz2", ".xz", ".zst")
MAX_MEMBERS = 10_000
_HIDDEN = ("__MACOSX", ".")
MAX_WINDOW_BYTES = 2**27
"""The memory that a .xz or .zst file may ask for; the highest levels of both programs ask for less."""
ZSTANDARD_STEP = 2**11


class _Decoder(Protocol):
    """Decompresses one member, at most `BLOCK_BYTES` at a time."""

    @property
    def eof(self) -> bool:
        """Return whether the member has ended."""
        ...

    def step(self, block: bytes) -> tuple[bytes, bytes, bool]:
        """Return a piece, the bytes still to be read, and whether there may be more without them."""
        ...


MARKDOWN_SUFFIXES = (".md",)
TEXT_SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".txt", *MARKDOWN_SUFFIXES)
BINARY_SUFFIXES = (".parquet", ".xlsx", ".ods")


_READ = (*TEXT_SUFFIXES, *BINARY_SUFFIXES)


def unpacked_blocks(path: Path, on_progress: ProgressCallback | None = None) -> Iterator[bytes]:
    """Read a file in blocks. `on_progress` gets the share of it that has been read, in compressed bytes.

    Raises:
        UnreadableFileError: the compressed bytes are damaged, cut off, or unpack to far more than text would.
        OSError: the disk fails.
    """
    suffix = path.suffix.lower()
    if suffix == ".zip":
        return _member_blocks(path, on_progress)
    blocks = _read_blocks(path, on_progress)
    return _decompress(blocks, path.stat().st_size, suffix) if suffix in COMPRESSED else blocks


def find_member(path: Path) -> str:
    """Find the one data file in a ZIP archive.

    Raises:
        UnreadableFileError: it is not a ZIP archive, or has no such file, or several.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = [info.filename for info in archive.infolist()[: MAX_MEMBERS + 1] if not info.is_dir()]
    except (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError) as error:
        raise UnreadableFileError("the .zip file is damaged or cut off; compress or download it again") from error
    if len(names) > MAX_MEMBERS:
        raise UnreadableFileError(f"the .zip file has more than {MAX_MEMBERS:,} files; unzip it and choose one")
    shown = [name for name in names if not _is_hidden(name)]
    found = without_descriptions([name for name in shown if PurePosixPath(name).suffix.lower() in _READ])
    if len(found) == 1:
        return found[0]
    if not found:
        raise UnreadableFileError(
            f"there is no data file in the .zip file, only {name_some(names)}; it must hold one file that ends in "
            f"{', '.join(_READ)}"
            if names
            else "the .zip file is empty"
        )
    raise UnreadableFileError(f"the .zip file has several data files: {name_some(found)}; unzip it and choose one")


def without_descriptions(names: list[str]) -> list[str]:
    """Leave out Markdown texts next to other data files, because they describe them."""
    return [name for name in names if PurePosixPath(name).suffix.lower() not in MARKDOWN_SUFFIXES] or names


def name_some(names: list[str], most: int = 8) -> str:
    """List the first names, and how many others there are."""
    others = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(sorted(names)[:most]) + others


def _is_hidden(name: str) -> bool:
    return any(part.startswith(_HIDDEN) for part in PurePosixPath(name).parts)


def _read_blocks(path: Path, on_progress: ProgressCallback | None) -> Iterator[bytes]:
    report = limit_report_rate(on_progress)
    size = path.stat().st_size
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            yield block
            report(file.tell() / size)


def _member_blocks(path: Path, on_progress: ProgressCallback | None) -> Iterator[bytes]:
    """Read the one data file in a ZIP archive; its checksum is verified at the end."""
    name = find_member(path)
    report, guard = limit_report_rate(on_progress), _BombGuard(path.stat().st_size, ".zip")
    try:
        with zipfile.ZipFile(path) as archive, archive.open(name) as file:
            size = max(1, archive.getinfo(name).file_size)
            while block := file.read(BLOCK_BYTES):
                guard.count(block)
                yield block
                report(guard.unpacked / size)
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError) as error:
        raise UnreadableFileError("the .zip file is damaged or cut off; compress or download it again") from error
    except RuntimeError as error:  # zipfile's error for a password
        raise UnreadableFileError("the .zip file needs a password; unzip it and choose the file in it") from error


class _BombGuard:
    """Counts unpacked bytes and stops at a size that no text of this compressed size has."""

    def __init__(self, packed_size: int, suffix: str) -> None:
        self.most, self.suffix, self.unpacked = max(BOMB_BYTES, BOMB_RATIO * packed_size), suffix, 0

    def count(self, piece: bytes) -> None:
        self.unpacked += len(piece)
        if self.unpacked > self.most:
            raise UnreadableFileError(
                f"the {self.suffix} file decompresses to more than {BOMB_RATIO} times its size; "
                "decompress it yourself first"
            )


class _Zlib:
    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    def step(self, block: bytes) -> tuple[bytes, bytes, bool]:
        piece = self._inner.decompress(block, BLOCK_BYTES)
        return piece, self._inner.unconsumed_tail or self._inner.unused_data, len(piece) == BLOCK_BYTES


class _Bounded:
    """For the decompressors of bz2 and lzma, which keep what they have not read yet."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    @property
    def eof(self) -> bool:
        return bool(self._inner.eof)

    def step(self, block: bytes) -> tuple[bytes, bytes, bool]:
        piece = self._inner.decompress(block, BLOCK_BYTES)
        return piece, self._inner.unused_data if self.eof else b"", not self.eof and not self._inner.needs_input


class _Zstandard:
    """Gets little at a time, because a few bytes can stand for 128 kB and the output has no limit."""

    def __init__(self) -> None:
        import zstandard

        self._inner = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES).decompressobj()

    @property
    def eof(self) -> bool:
        return self._inner.eof

    def step(self, block: bytes) -> tuple[bytes, bytes, bool]:
        piece = self._inner.decompress(block[:ZSTANDARD_STEP])
        return piece, self._inner.unused_data + block[ZSTANDARD_STEP:], False


def _new_decoder(suffix: str) -> _Decoder:
    if suffix == ".zst":
        return _Zstandard()
    if suffix == ".bz2":
        return _Bounded(bz2.BZ2Decompressor())
    if suffix == ".xz":
        return _Bounded(lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MAX_WINDOW_BYTES))
    return _Zlib()


def _decompress(blocks: Iterator[bytes], packed_size: int, suffix: str) -> Iterator[bytes]:
    guard = _BombGuard(packed_size, suffix)
    for piece in _members(blocks, guard):
        guard.count(piece)
        if piece:
            yield piece


def _members(blocks: Iterator[bytes], guard: _BombGuard) -> Iterator[bytes]:
    """Decompress one member after another."""
    import zstandard

    decoder = _new_decoder(guard.suffix)
    for block in blocks:
        while True:
            if decoder.eof:
                if not (block := block.lstrip(b"\0")):  # members may be padded with zeros
                    break
                decoder = _new_decoder(guard.suffix)
            try:
                piece, block, has_more = decoder.step(block)
            except (zlib.error, OSError, lzma.LZMAError, EOFError, zstandard.ZstdError) as error:
                raise _damaged(guard) from error
            yield piece
            if not block and not has_more:
                break
    if not decoder.eof:
        raise _cut_off(guard)


def _damaged(guard: _BombGuard) -> UnreadableFileError:
    kind = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".zst": "Zstandard"}[guard.suffix]
    damage = f"damaged after {guard.unpacked:,} decompressed bytes" if guard.unpacked else f"not {kind}, or damaged"
    return UnreadableFileError(f"the {guard.suffix} file is {damage}; compress or download it again")


def _cut_off(guard: _BombGuard) -> UnreadableFileError:
    return UnreadableFileError(
        f"the {guard.suffix} file is cut off after {guard.unpacked:,} decompressed bytes; compress or download it again"
    )
