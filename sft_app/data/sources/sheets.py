"""Read the rows of Excel (.xlsx) and OpenDocument (.ods) workbooks: one sheet, with the results of its formulas."""

from __future__ import annotations

import datetime
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from sft_app.data.rows import Rejected, Row
from sft_app.data.sources.lines import BLOCK_BYTES, BOMB_BYTES, BOMB_RATIO, MAX_ROW_BYTES, TooLong, UnreadableFileError
from sft_app.data.sources.packed_files import name_some
from sft_app.data.sources.tables import RECORDS_EXAMINED, Record, examine_head, read_table
from sft_app.runtime.progress import ProgressCallback

_REFERENCE = re.compile(rb'<(?:\w+:)?c\b[^>]{0,200}?\br="([A-Z]{1,3})(\d{1,7})"')
# Writers repeat empty cells and rows up to the edge of the sheet, but hardly a cell with a value.
_REPEATED_VALUE = re.compile(
    rb'<table:table-(?:row|cell)\b[^>]{0,200}?-repeated="(\d{1,9})"[^>]{0,200}>?(?:(?!table-row)[^\0]){0,300}?value-type'
)
MAX_REPEATED = 1000
MAX_TAG_BYTES = 1024

if TYPE_CHECKING:
    from python_calamine import CalamineWorkbook

SHEET_SUFFIXES = (".xlsx", ".ods")
MAX_CELLS = 20_000_000
"""A sheet is held in memory; an empty cell far from the others makes it this large."""


def read_sheet_rows(
    path: Path, notes: list[str], sheet: str | None = None, on_progress: ProgressCallback | None = None
) -> Iterator[Row | Rejected]:
    """Read the rows of the first visible sheet, or of the one named; a note names the sheets that are not read.

    Raises:
        UnreadableFileError: it is not a workbook, is damaged, too large or encrypted, or has no such sheet.
    """
    workbook = _open(path)
    names = _visible_sheets(workbook)
    name = _choose_sheet(names, sheet)
    if others := [other for other in workbook.sheet_names if other != name]:
        unread = name_some([f"`{other}`" for other in others])
        notes.append(f"Only the sheet `{name}` is read, not {unread}. To read another, set `sheet` to its name.")
    cells = _cells(workbook, name)
    records = [record for record in map(_as_record, cells) if record.reason or any(map(str.strip, record.cells))]
    head = examine_head([record.cells for record in records[:RECORDS_EXAMINED]])
    yield from read_table(iter(records), head, notes)
    if on_progress is not None:
        on_progress(1.0)


def sheet_names(path: Path) -> list[str]:
    """Return the names of the sheets that can be read; none if the workbook cannot be opened."""
    try:
        return _visible_sheets(_open(path))
    except (OSError, UnreadableFileError):
        return []


def _open(path: Path) -> CalamineWorkbook:
    from python_calamine import CalamineError, CalamineWorkbook

    try:
        with zipfile.ZipFile(path) as archive:
            _refuse_bombs(archive, path.stat().st_size)
        return CalamineWorkbook.from_path(str(path))
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, CalamineError) as error:
        raise UnreadableFileError(
            "the file is not an Excel or OpenDocument workbook, or is damaged or protected by a password; "
            "save it again without a password, or save the sheet as CSV"
        ) from error


def _refuse_bombs(archive: zipfile.ZipFile, packed_size: int) -> None:
    """Refuse a workbook that would fill the memory, before it is parsed: calamine also stores each empty cell."""
    members = archive.infolist()
    size = sum(member.file_size for member in members)
    if size > max(BOMB_BYTES, BOMB_RATIO * packed_size):
        raise UnreadableFileError(f"the workbook unpacks to more than {BOMB_RATIO} times its size; save it as CSV")
    if size > 4 * BOMB_BYTES:
        raise UnreadableFileError("the workbook is too large to be held in memory; save the sheet as CSV")
    for member in members:
        if member.filename.endswith(".xml") and ("worksheets/" in member.filename or member.filename == "content.xml"):
            with archive.open(member) as file:
                _refuse_scattered_cells(file)


def _refuse_scattered_cells(file: IO[bytes]) -> None:
    last_row, last_column, tail = 0, 0, b""
    while block := file.read(BLOCK_BYTES):
        text = tail + block
        for found in _REFERENCE.finditer(text):
            last_column, last_row = max(last_column, _column_number(found[1])), max(last_row, int(found[2]))
        is_repeated = any(int(found[1]) > MAX_REPEATED for found in _REPEATED_VALUE.finditer(text))
        if is_repeated or last_row * last_column > MAX_CELLS:
            raise UnreadableFileError(
                f"a sheet spans more than {MAX_CELLS // 1_000_000} million cells, because some are far from the "
                "others; save its table as CSV"
            )
        tail = text[-MAX_TAG_BYTES:]


def _column_number(letters: bytes) -> int:
    """Return 1 for A, 26 for Z, 27 for AA."""
    number = 0
    for letter in letters:
        number = 26 * number + letter - 64
    return number


def _visible_sheets(workbook: CalamineWorkbook) -> list[str]:
    from python_calamine import SheetTypeEnum, SheetVisibleEnum

    sheets = [sheet for sheet in workbook.sheets_metadata if sheet.typ == SheetTypeEnum.WorkSheet]
    visible = [sheet.name for sheet in sheets if sheet.visible == SheetVisibleEnum.Visible]
    return visible or [sheet.name for sheet in sheets]


def _choose_sheet(names: list[str], sheet: str | None) -> str:
    if not names:
        raise UnreadableFileError("the workbook has no sheet with cells; choose another file")
    if sheet is None:
        return names[0]
    found = next((name for name in names if name.strip().lower() == sheet.strip().lower()), None)
    if found is None:
        raise UnreadableFileError(f"the workbook has no sheet {sheet!r}; choose one of: {name_some(names)}")
    return found


def _cells(workbook: CalamineWorkbook, name: str) -> Iterator[list[Any]]:
    from python_calamine import CalamineError

    try:
        sheet = workbook.get_sheet_by_name(name)
        if sheet.total_height * sheet.total_width > MAX_CELLS:
            raise UnreadableFileError(
                f"the sheet is larger than {MAX_CELLS // 1_000_000} million cells; save its table as CSV"
            )
        yield from sheet.iter_rows()
    except CalamineError as error:
        raise UnreadableFileError("the sheet is damaged; open the workbook and save it again") from error


def _as_record(cells: list[Any]) -> Record:
    texts = [_as_text(cell) for cell in cells]
    size = sum(map(len, texts))
    return Record([], reason=TooLong(size).reason) if size > MAX_ROW_BYTES else Record(texts)


def _as_text(cell: Any) -> str:
    """Write a cell as people see it: 5 rather than 5.0, and a date without a time that is midnight."""
    if isinstance(cell, bool):
        return str(cell).upper()
    if isinstance(cell, float):
        return f"{cell:.15g}" if not cell.is_integer() or abs(cell) >= 1e15 else str(int(cell))
    if isinstance(cell, datetime.datetime):
        return cell.date().isoformat() if cell.time() == datetime.time() else cell.isoformat(" ")
    return str(cell)
