"""Read files as numbered rows. An unreadable row is reported with its number and does not stop the others."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from sft_app.data.rows import Rejected, Row
from sft_app.data.sources.csv_files import read_csv_rows
from sft_app.data.sources.json_files import read_json_rows, read_jsonl_rows
from sft_app.data.sources.lines import UnreadableFileError, text_blocks
from sft_app.data.sources.parquet_files import read_parquet_rows
from sft_app.data.sources.txt_files import read_txt_rows
from sft_app.errors import DataError
from sft_app.runtime.environment import BUNDLED_DIR
from sft_app.runtime.progress import ProgressCallback

_TEXT_READERS: dict[str, Callable[[Iterator[bytes]], Iterator[Row | Rejected]]] = {
    ".jsonl": read_jsonl_rows,
    ".ndjson": read_jsonl_rows,
    ".json": read_json_rows,
    ".csv": read_csv_rows,
    ".tsv": partial(read_csv_rows, delimiter="\t"),
    ".txt": read_txt_rows,
}
SUFFIXES: tuple[str, ...] = (*_TEXT_READERS, ".parquet", *(f"{suffix}.gz" for suffix in _TEXT_READERS))
HUB_NAMES = "To use a dataset on the Hub, enter the id shown on its page: owner/name."
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # two letters at least: C:/ is a drive


def data_suffix(path: str | Path) -> str:
    """Return the lower-case ending that shows a file's type, such as ".csv" or ".jsonl.gz"; "" if there is none."""
    name = Path(path).name.lower()
    packed = ".gz" if name.endswith(".gz") else ""
    return Path(name.removesuffix(packed)).suffix + packed


def locate_data(data: str) -> Path:
    """Find the file that `data` names, as given or inside the project (the bundled examples).

    Raises:
        DataError: there is no such file, or its type cannot be read.
    """
    if _URL.match(data):
        raise DataError(f"{data} is a web address. Download the file first. {HUB_NAMES}")
    path = _find(data)
    if data_suffix(path) not in SUFFIXES:
        got = data_suffix(path) or "no ending"
        kinds = ", ".join([*_TEXT_READERS, ".parquet"])
        raise DataError(f"{path.name} must be a {kinds} file (all but .parquet also with .gz), got {got!r}.")
    if path.stat().st_size == 0:
        raise DataError(f"{path.name} is empty.")
    return path


def read_rows(path: Path, on_progress: ProgressCallback | None = None) -> Iterator[Row | Rejected]:
    """Read every row of a file, in order. If the rest of the file cannot be read, a last `Rejected` says so.

    `on_progress` gets the share of the file that has been read, measured in compressed bytes.

    Raises:
        DataError: the file as a whole cannot be read.
    """
    last: Row | Rejected | None = None
    try:
        for last in _reader(path, on_progress):
            yield last
    except UnreadableFileError as fault:
        if last is None:
            raise DataError(f"{path.name}: {fault}.") from fault
        yield Rejected((last.number if isinstance(last, Row) else last.row) + 1, str(fault))
    except OSError as error:
        raise DataError(f"{path.name} cannot be read: {error.strerror or error}.") from error


def file_sha256(path: Path) -> str:
    """Compute the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _reader(path: Path, on_progress: ProgressCallback | None) -> Iterator[Row | Rejected]:
    suffix = data_suffix(path)
    if suffix == ".parquet":
        return read_parquet_rows(path, on_progress)
    return _TEXT_READERS[suffix.removesuffix(".gz")](text_blocks(path, on_progress))


def _find(data: str) -> Path:
    try:
        candidates = [Path(data).expanduser(), BUNDLED_DIR / data] if data.strip() else []
        files = [path for path in candidates if path.is_file()]
        is_folder = any(path.is_dir() for path in candidates)
    except (OSError, RuntimeError, ValueError):  # names that no file can have
        files, is_folder = [], False
    if not files and is_folder:
        raise DataError(f"{data} is a folder. Choose one data file in it.")
    if not files:
        hint = "" if data_suffix(data) in SUFFIXES else f" {HUB_NAMES}"
        raise DataError(f"There is no data file {data}.{hint}")
    return files[0]
