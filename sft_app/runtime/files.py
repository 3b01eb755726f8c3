"""Read and write small files that another process may use at the same time."""

from __future__ import annotations

import json
import math
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, TextIO, TypeVar

from pydantic import TypeAdapter, ValidationError

from sft_app.runtime.operating_system import flush_flags, while_open_elsewhere

RecordType = TypeVar("RecordType")


def write_text_atomically(path: Path, text: str) -> None:
    """Replace a text file so that a reader sees either the old or the new text, even after a power cut."""
    _write_atomically(path, [text])


def write_json_atomically(path: Path, value: Any) -> None:
    """Replace a JSON file as `write_text_atomically` does."""
    write_text_atomically(path, json_text(value, indent=2) + "\n")


def write_jsonl_atomically(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Replace a JSONL file as `write_text_atomically` does, row by row, so that it need not fit in memory."""
    _write_atomically(path, map(jsonl_line, rows))


def _write_atomically(path: Path, parts: Iterable[str]) -> None:
    with appearing_whole(path) as file:
        file.writelines(parts)


@contextmanager
def appearing_whole(path: Path) -> Iterator[TextIO]:
    """Open a file for writing that appears at `path` only once it is complete and flushed to disk."""
    temporary = path.with_name(f".{path.name}-{os.getpid()}-{secrets.token_hex(4)}")
    try:
        with temporary.open("x", encoding="utf-8", newline="\n") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        while_open_elsewhere(lambda: os.replace(temporary, path))
    finally:
        temporary.unlink(missing_ok=True)  # still there if writing failed


def append_jsonl(path: Path, row: dict[str, Any]) -> None:
    """Append a line. A partial line left by a killed writer is ended first, so that only that line is lost."""
    with path.open("ab+") as file:
        if file.tell() > 0:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")
        file.write(jsonl_line(row).encode())


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Read the objects in a file that may be growing, as `read_records` does."""
    return read_records(path, dict)


def read_records(path: Path, kind: type[RecordType]) -> list[RecordType]:
    """Read the complete lines of a file that may be growing, each as a `kind`; [] if it is missing or unreadable.

    `kind` is a pydantic model, a dataclass or `dict`. Other lines are skipped: a last line without a newline is still
    being written, and others may have been cut off by a crash or written by a newer version.
    """
    try:
        return _records_in(path.read_bytes(), TypeAdapter(kind))
    except OSError:
        return []


class JsonlTail(Generic[RecordType]):
    """Reads a file repeatedly as `read_records` does, but each time only what has been added."""

    def __init__(self, path: Path, kind: type[RecordType]) -> None:
        self._path = path
        self._adapter = TypeAdapter(kind)
        self._restart(0)

    def records(self) -> list[RecordType]:
        """Return all complete lines so far. A replaced or shortened file is read from the beginning."""
        try:
            added = self._read_added()
        except OSError:
            self._restart(0)
            return []
        complete = added[: added.rfind(b"\n") + 1]
        self._read_bytes += len(complete)
        self._records += _records_in(complete, self._adapter)
        return list(self._records)

    def _read_added(self) -> bytes:
        with self._path.open("rb") as file:
            stat = os.fstat(file.fileno())
            if stat.st_ino != self._inode or stat.st_size < self._read_bytes:
                self._restart(stat.st_ino)
            file.seek(self._read_bytes)
            return file.read()

    def _restart(self, inode: int) -> None:
        self._inode, self._read_bytes = inode, 0
        self._records: list[RecordType] = []


def _records_in(text: bytes, adapter: TypeAdapter[RecordType]) -> list[RecordType]:
    return [record for line in text.split(b"\n")[:-1] for record in _record_in(line, adapter)]


def _record_in(line: bytes, adapter: TypeAdapter[RecordType]) -> list[RecordType]:
    """Return the record in this line as a list, which is empty if the line is not a valid record."""
    try:
        row = json.loads(line)
        return [adapter.validate_python(row)] if isinstance(row, dict) else []
    except (ValueError, RecursionError):  # a ValidationError is a ValueError
        return []


def iterate_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """Read a file as `read_jsonl` does, but row by row, for files larger than memory. Raises: OSError."""
    adapter: TypeAdapter[dict[str, Any]] = TypeAdapter(dict)
    with path.open("rb") as file:
        for line in file:
            yield from _records_in(line, adapter)


def read_json(path: Path, kind: type[RecordType]) -> RecordType | None:
    """Read a small JSON file as a `kind`; None if it is missing, unreadable or not a `kind`."""
    try:
        return TypeAdapter(kind).validate_json(while_open_elsewhere(path.read_bytes))
    except (OSError, ValidationError):
        return None


def last_lines(path: Path, count: int) -> list[str]:
    """Return the last lines of a text file, such as a log; [] if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()[-count:]
    except OSError:
        return []


def put_on_disk(*paths: Path) -> None:
    """Flush these files and folders to disk, so that they survive a power cut.

    Those that do not exist, or that the system cannot flush, are skipped.
    """
    for path in paths:
        if (flags := flush_flags(path.is_dir())) is None:
            continue
        try:
            descriptor = os.open(path, flags)
        except FileNotFoundError:
            continue
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def jsonl_line(row: dict[str, Any]) -> str:
    """Return a row as a line of a JSONL file."""
    return json_text(row) + "\n"


def json_text(value: Any, indent: int | None = None) -> str:
    """Return a value as standard JSON; NaN and infinity, which JSON cannot express, become null."""
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
