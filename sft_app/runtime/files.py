"""Reading and writing small files that another process may use at the same time."""

from __future__ import annotations

import json
import math
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO


def write_text_atomically(path: Path, text: str) -> None:
    """Replaces a text file so that a reader sees the old text or the new one, even after a power cut."""
    _write_atomically(path, [text])


def write_json_atomically(path: Path, value: Any) -> None:
    """Replaces a JSON file as `write_text_atomically` does."""
    write_text_atomically(path, json_text(value, indent=2) + "\n")


def write_jsonl_atomically(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Replaces a JSONL file as `write_text_atomically` does, one row at a time, so that they need not fit in memory."""
    _write_atomically(path, map(jsonl_line, rows))


def _write_atomically(path: Path, parts: Iterable[str]) -> None:
    with appearing_whole(path) as file:
        file.writelines(parts)


@contextmanager
def appearing_whole(path: Path) -> Iterator[TextIO]:
    """Opens a file for writing that appears at `path` only once all of it is written and safe on the disk."""
    temporary = path.with_name(f".{path.name}-{os.getpid()}-{secrets.token_hex(4)}")
    try:
        with temporary.open("x", encoding="utf-8", newline="\n") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)  # whatever stopped the write


def append_jsonl(path: Path, row: dict[str, Any]) -> None:
    """Appends one line; a half line that a killed writer left is ended first, so that only that line is lost."""
    with path.open("ab+") as file:
        if file.tell() > 0:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")
        file.write(jsonl_line(row).encode())


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Reads the whole lines of a file that may be growing; [] if there is no file.

    Skips a last line without a newline, which is still being written, and lines that are not JSON, which a crash cut.
    """
    try:
        return _whole_rows(path.read_bytes())
    except FileNotFoundError:
        return []


class JsonlTail:
    """Reads one file as `read_jsonl` does, again and again; each time it reads only what was added."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._start_over(0)

    def rows(self) -> list[dict[str, Any]]:
        """All whole lines so far. A file that was replaced or has become shorter is read from the start."""
        try:
            file = self._path.open("rb")
        except FileNotFoundError:
            self._start_over(0)
            return []
        with file:
            stat = os.fstat(file.fileno())
            if stat.st_ino != self._inode or stat.st_size < self._read_bytes:
                self._start_over(stat.st_ino)
            file.seek(self._read_bytes)
            added = file.read()
        whole = added[: added.rfind(b"\n") + 1]
        self._read_bytes += len(whole)
        self._rows += _whole_rows(whole)
        return list(self._rows)

    def _start_over(self, inode: int) -> None:
        self._inode, self._read_bytes = inode, 0
        self._rows: list[dict[str, Any]] = []


def _whole_rows(text: bytes) -> list[dict[str, Any]]:
    rows = []
    for line in text.split(b"\n")[:-1]:
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


def iterate_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """Reads a file as `read_jsonl` does, one row at a time, for files that do not fit in memory."""
    with path.open("rb") as file:
        for line in file:
            yield from _whole_rows(line)


def last_lines(path: Path, count: int) -> list[str]:
    """The last lines of a text file, such as a log; [] if there is no file."""
    try:
        return path.read_text(errors="replace").splitlines()[-count:]
    except FileNotFoundError:
        return []


def put_on_disk(*paths: Path) -> None:
    """Returns once these files and folders are safe from a power cut; skips those that do not exist."""
    for path in paths:
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            continue
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def jsonl_line(row: dict[str, Any]) -> str:
    """One row as a line of a JSONL file."""
    return json_text(row) + "\n"


def json_text(value: Any, indent: int | None = None) -> str:
    """A value as JSON that every program can read: NaN and infinity, which JSON does not have, become null."""
    try:
        return json.dumps(value, ensure_ascii=False, indent=indent, allow_nan=False)
    except ValueError:
        return json.dumps(_without_nan(value), ensure_ascii=False, indent=indent, allow_nan=False)


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
