"""Files to numbered rows. A row that cannot be read is reported with its number and does not stop the others."""

from __future__ import annotations

import codecs
import csv
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sft_app.errors import DataError

PROJECT_DIR = Path(__file__).resolve().parents[2]
SUFFIXES = (".jsonl", ".json", ".csv")


@dataclass(frozen=True)
class Rejected:
    """A row left out. `row` counts from 1 as in the file (a CSV's header is not a row)."""

    row: int
    reason: str


NumberedRow = tuple[int, dict[str, Any]]


def locate_data(data: str) -> Path:
    """The file that `data` names: as given, or inside the project (the bundled examples).

    Raises:
        DataError: there is no such file, or it is of a kind that cannot be read.
    """
    try:
        candidates = [Path(data).expanduser(), PROJECT_DIR / data]
        path = next(candidate for candidate in candidates if candidate.is_file())
    except (StopIteration, OSError, RuntimeError, ValueError) as error:  # also names that no file can have
        raise DataError(f"There is no data file {data}.") from error
    if path.suffix.lower() not in SUFFIXES:
        raise DataError(f"{path.name}: a {', '.join(SUFFIXES)} file is expected, got {path.suffix or 'no ending'!r}.")
    if path.stat().st_size == 0:
        raise DataError(f"{path.name} is empty.")
    return path


def read_rows(path: Path) -> Iterator[NumberedRow | Rejected]:
    """Every row of a file, in order.

    Raises:
        DataError: the file as a whole cannot be read.
    """
    readers = {".jsonl": _read_jsonl, ".json": _read_json, ".csv": _read_csv}
    try:
        yield from readers[path.suffix.lower()](path)
    except UnicodeDecodeError as error:
        raise DataError(f"{path.name}: byte {_first_bad_byte(path)} is not UTF-8; save the file as UTF-8.") from error
    except OSError as error:
        raise DataError(f"{path.name} cannot be read: {error.strerror or error}.") from error


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_jsonl(path: Path) -> Iterator[NumberedRow | Rejected]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                yield _as_row(number, json.loads(line.rstrip("\r\n")))
            except json.JSONDecodeError as error:
                yield Rejected(number, f"not JSON: {error.msg} at column {error.colno}")
            except (ValueError, RecursionError) as error:
                yield Rejected(number, f"JSON that cannot be held: {error}")


def _read_json(path: Path) -> Iterator[NumberedRow | Rejected]:
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise DataError(f"{path.name} is not JSON: {error.msg} at {place}.") from error
    except UnicodeDecodeError:
        raise
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path.name} is not JSON that can be held: {error}.") from error
    if isinstance(value, dict) and len(value) == 1:
        value = next(iter(value.values()))
    if not isinstance(value, list):
        raise DataError(f"{path.name}: a list of rows is expected, got {type(value).__name__}.")
    for number, row in enumerate(value, start=1):
        yield _as_row(number, row)


def _read_csv(path: Path) -> Iterator[NumberedRow | Rejected]:
    csv.field_size_limit(2**27)
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        try:
            for number, row in enumerate(reader, start=1):
                if None in row:
                    yield Rejected(number, f"more cells than the {len(reader.fieldnames or ())} columns of the header")
                else:
                    yield number, row
        except csv.Error as error:
            raise DataError(f"{path.name}: line {reader.line_num + 1} is not CSV: {error}.") from error


def _first_bad_byte(path: Path) -> int:
    """The place of the first byte that is not UTF-8; a decoder that reads in blocks tells the place in its block."""
    decoder, reached = codecs.getincrementaldecoder("utf-8")(), 0
    with path.open("rb") as file:
        while block := file.read(2**20):
            pending = len(decoder.getstate()[0])
            try:
                decoder.decode(block)
            except UnicodeDecodeError as error:
                return reached - pending + error.start
            reached += len(block)
    return reached


def _as_row(number: int, value: Any) -> NumberedRow | Rejected:
    if isinstance(value, dict):
        return number, value
    return Rejected(number, f"an object with named columns is expected, got {type(value).__name__}")
