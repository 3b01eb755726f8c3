"""Read files as numbered rows. An unreadable row is reported with its number and does not stop the others."""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from sft_app.data.rows import Rejected, Row
from sft_app.data.sources.hub import is_dataset_id
from sft_app.data.sources.lines import UnreadableFileError
from sft_app.data.sources.packed_files import (
    BINARY_SUFFIXES,
    COMPRESSED,
    MAX_MEMBERS,
    TEXT_SUFFIXES,
    find_member,
    name_some,
    unpacked_blocks,
    without_descriptions,
)
from sft_app.data.sources.parquet_files import read_parquet_rows
from sft_app.data.sources.sheets import SHEET_SUFFIXES, read_sheet_rows
from sft_app.data.sources.text_blocks import refuse_other_texts, text_blocks
from sft_app.data.sources.text_files import read_text_rows
from sft_app.errors import DataError
from sft_app.runtime.environment import BUNDLED_DIR
from sft_app.runtime.progress import ProgressCallback

SUFFIXES: tuple[str, ...] = (
    *TEXT_SUFFIXES,
    ".parquet",
    *SHEET_SUFFIXES,
    *(f"{suffix}{packed}" for suffix in (*TEXT_SUFFIXES, *BINARY_SUFFIXES) for packed in COMPRESSED),
    ".zip",
)
HUB_NAMES = "To use a dataset on the Hub, enter the id shown on its page: owner/name."
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # two letters at least: C:/ is a drive


_ANSWERS_IN_A_TABLE = "put the questions and answers in a table with a column for each, and save it as .xlsx or .csv"
_NEXT_STEPS = {
    (".doc", ".docx", ".odt", ".rtf", ".pages"): f"a text document. To teach answers, {_ANSWERS_IN_A_TABLE}. To train "
    "on the text itself, save it as .txt",
    (".pdf",): f"a PDF. To teach answers, {_ANSWERS_IN_A_TABLE}. To train on the text itself, save it as .txt",
    (
        ".markdown",
        ".rst",
        ".adoc",
        ".tex",
    ): f"a text with markup. To teach answers, {_ANSWERS_IN_A_TABLE}. To train on the text "
    "itself, rename it to end in .txt",
    (".eml", ".mbox", ".msg", ".pst"): "an export of mails. Put each question and the reply to it in a table with a "
    "column for each, without signatures and quoted mails, and save it as .xlsx or .csv",
    (".xls", ".xlsb", ".numbers"): "a workbook in a format that the app does not read. Open it in Excel, Numbers or "
    "LibreOffice, and save it as Excel workbook (.xlsx) or CSV",
    (".html", ".htm", ".mhtml"): "a web page (HTML), not data. On the page, look for a link that downloads the file as "
    "CSV, JSON or Parquet",
    (".xml",): "an XML file. Export the data as CSV or JSON Lines",
    (".ipynb",): "a Jupyter notebook. Save the data that it loads as CSV or JSON Lines",
    (".tar", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst", ".tgz", ".7z", ".rar"): "an archive. Unpack it, and choose "
    "the data file in it",
    (".db", ".sqlite", ".sqlite3"): "a database. Export its table as CSV",
    (
        ".pkl",
        ".pickle",
    ): "a Python pickle, which can run code when opened. Save the data as JSON Lines or Parquet",
    (".yaml", ".yml"): "a YAML file. Save the data as JSON",
}


def data_suffix(path: str | Path) -> str:
    """Return the lower-case ending that shows a file's type, such as ".csv" or ".jsonl.gz"; "" if there is none."""
    name = Path(path).name.lower()
    packed = next((suffix for suffix in COMPRESSED if name.endswith(suffix)), "")
    return Path(name.removesuffix(packed)).suffix + packed


def is_on_hub(data: str) -> bool:
    """Return whether this source is a dataset on the Hub and not a file."""
    return is_dataset_id(data) and data_suffix(Path(data)) not in SUFFIXES and not Path(data).exists()


def locate_data(data: str) -> Path:
    """Find the file that `data` names, as given or inside the project (the bundled examples).

    Raises:
        DataError: there is no such file, or its type cannot be read.
    """
    if _URL.match(data):
        raise DataError(f"{data} is a web address. Download the file first. {HUB_NAMES}")
    path = _find(data)
    if data_suffix(path) not in SUFFIXES:
        raise DataError(_next_step(path))
    if path.stat().st_size == 0:
        raise DataError(f"{path.name} is empty.")
    return path


def read_rows(
    path: Path,
    on_progress: ProgressCallback | None = None,
    notes: list[str] | None = None,
    sheet: str | None = None,
) -> Iterator[Row | Rejected]:
    """Read every row of a file, in order. If the rest of the file cannot be read, a last `Rejected` says so.

    `on_progress` gets the share of the file that has been read, measured in compressed bytes. `notes` gets a sentence
    for each thing that people must know about how the file as a whole is read. `sheet` names the sheet of a workbook.

    Raises:
        DataError: the file as a whole cannot be read.
    """
    last: Row | Rejected | None = None
    try:
        for last in _reader(path, on_progress, [] if notes is None else notes, sheet):
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


def holds_parquet(path: Path) -> bool:
    """Return whether a file is Parquet, also packed."""
    try:
        return _kind(path) == ".parquet"
    except (UnreadableFileError, OSError):  # reading reports what is wrong
        return False


def _kind(path: Path) -> str:
    """Return the ending of a file without that of its compression, or the ending of the file in an archive."""
    name = find_member(path) if data_suffix(path) == ".zip" else path.name
    return Path(data_suffix(name)).stem if data_suffix(name) else ""


def _reader(
    path: Path, on_progress: ProgressCallback | None, notes: list[str], sheet: str | None
) -> Iterator[Row | Rejected]:
    kind = _kind(path)
    if data_suffix(path) == ".zip":
        notes.append(f"The file `{find_member(path)}` in the archive is read.")
    if sheet is not None and kind not in SHEET_SUFFIXES:
        notes.append(f"The sheet {sheet!r} is ignored, because the file is not a workbook.")
    if kind not in BINARY_SUFFIXES:
        return read_text_rows(kind, text_blocks(path, on_progress, notes), notes)
    if data_suffix(path) != kind:
        return _read_unpacked(path, kind, on_progress, notes, sheet)
    return _read_binary(path, kind, on_progress, notes, sheet)


def _read_binary(
    path: Path, kind: str, on_progress: ProgressCallback | None, notes: list[str], sheet: str | None
) -> Iterator[Row | Rejected]:
    with path.open("rb") as file:
        refuse_other_texts(file.read(1024))
    if kind == ".parquet":
        return read_parquet_rows(path, on_progress)
    return read_sheet_rows(path, notes, sheet, on_progress)


def _read_unpacked(
    path: Path, kind: str, on_progress: ProgressCallback | None, notes: list[str], sheet: str | None
) -> Iterator[Row | Rejected]:
    """Read a packed workbook or Parquet file through a temporary copy, because both are read from back to front."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / f"unpacked{kind}"
        with copy.open("wb") as file:
            file.writelines(unpacked_blocks(path))
        yield from _read_binary(copy, kind, on_progress, notes, sheet)


def _next_step(path: Path) -> str:
    """Say what to do with a file whose type cannot be read."""
    suffix = data_suffix(path)
    for suffixes, what in _NEXT_STEPS.items():
        if suffix in suffixes:
            return f"{path.name} is {what}."
    got = suffix or "no ending"
    kinds = ", ".join([*TEXT_SUFFIXES, ".parquet", *SHEET_SUFFIXES])
    packed = ", ".join(COMPRESSED)
    return f"{path.name} must be a {kinds} file (also {packed} or .zip), got {got!r}."


def _only_file(data: str, folder: Path) -> Path:
    """Find the one data file in a folder.

    Raises:
        DataError: there is none, or several; the message names them.
    """
    try:
        names = sorted(path.name for path in islice(folder.iterdir(), MAX_MEMBERS) if path.is_file())
    except OSError as error:
        raise DataError(f"{data} cannot be read: {error.strerror or error}.") from error
    found = [name for name in names if data_suffix(name) in SUFFIXES and not name.startswith(".")]
    found = without_descriptions(found)
    if len(found) == 1:
        return folder / found[0]
    several = f" It has several: {name_some(found)}." if found else " It has none."
    raise DataError(f"{data} is a folder. Choose one data file in it.{several}")


def _find(data: str) -> Path:
    try:
        candidates = [Path(data).expanduser(), BUNDLED_DIR / data] if data.strip() else []
        files = [path for path in candidates if path.is_file()]
        is_folder = any(path.is_dir() for path in candidates)
    except (OSError, RuntimeError, ValueError):  # names that no file can have
        files, is_folder = [], False
    if not files and is_folder:
        files = [_only_file(data, next(path for path in candidates if path.is_dir()))]
    if not files:
        hint = "Check the path." if data_suffix(data) in SUFFIXES else HUB_NAMES
        raise DataError(f"There is no data file {data}. {hint}")
    return files[0]
