"""Workbooks of Excel and LibreOffice are read as people see them, one sheet, and the others are named."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import pytest

from sft_app.data.rows import Row
from sft_app.data.sources.lines import UnreadableFileError
from sft_app.data.sources.sheets import read_sheet_rows

SPREADSHEET = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
RELATIONS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGE = 'xmlns="http://schemas.openxmlformats.org/package/2006/relationships"'


def cell(reference: str, value: Any) -> str:
    if isinstance(value, str) and value.startswith("="):
        formula, result = value[1:].split("→")
        return f'<c r="{reference}"><f>{formula}</f><v>{result}</v></c>'
    if isinstance(value, str):
        return f'<c r="{reference}" t="inlineStr"><is><t>{escape(value)}</t></is></c>'
    if isinstance(value, tuple):
        return f'<c r="{reference}" s="1"><v>{value[0]}</v></c>'
    return f'<c r="{reference}"><v>{value}</v></c>' if value is not None else ""


def xlsx(path: Path, sheets: dict[str, list[list[Any]]]) -> Path:
    """Write the sheets; "=FORMULA→RESULT" is a formula, and a tuple holds the days of a date."""
    names = list(enumerate(sheets, start=1))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        entries = "".join(f'<sheet name="{name}" sheetId="{n}" r:id="r{n}"/>' for n, name in names)
        archive.writestr(
            "xl/workbook.xml", f'<workbook {SPREADSHEET} xmlns:r="{RELATIONS}"><sheets>{entries}</sheets></workbook>'
        )
        links = "".join(
            f'<Relationship Id="r{n}" Type="{RELATIONS}/worksheet" Target="worksheets/s{n}.xml"/>' for n, _ in names
        )
        archive.writestr("xl/_rels/workbook.xml.rels", f"<Relationships {PACKAGE}>{links}</Relationships>")
        formats = '<cellXfs count="2"><xf numFmtId="0"/><xf numFmtId="14" applyNumberFormat="1"/></cellXfs>'
        top = f'<Relationship Id="r" Type="{RELATIONS}/officeDocument" Target="xl/workbook.xml"/>'
        archive.writestr("_rels/.rels", f"<Relationships {PACKAGE}>{top}</Relationships>")
        archive.writestr("xl/styles.xml", f"<styleSheet {SPREADSHEET}>{formats}</styleSheet>")
        for n, name in names:
            rows = "".join(
                f'<row r="{y}">' + "".join(cell(f"{chr(65 + x)}{y}", value) for x, value in enumerate(row)) + "</row>"
                for y, row in enumerate(sheets[name], start=1)
            )
            archive.writestr(
                f"xl/worksheets/s{n}.xml", f"<worksheet {SPREADSHEET}><sheetData>{rows}</sheetData></worksheet>"
            )
    return path


def ods(path: Path, body: str) -> Path:
    spaces = " ".join(
        f'xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"' for name in ("office", "table", "text")
    )
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        space = "urn:oasis:names:tc:opendocument:xmlns:manifest:1.0"
        archive.writestr("META-INF/manifest.xml", f'<manifest:manifest xmlns:manifest="{space}"/>')
        archive.writestr(
            "content.xml",
            f'<office:document-content {spaces}><office:body><office:spreadsheet><table:table table:name="One">{body}'
            "</table:table></office:spreadsheet></office:body></office:document-content>",
        )
    return path


def ods_row(*texts: str) -> str:
    cells = (
        f'<table:table-cell office:value-type="string"><text:p>{text}</text:p></table:table-cell>' for text in texts
    )
    return f"<table:table-row>{''.join(cells)}</table:table-row>"


def read(path: Path, sheet: str | None = None) -> tuple[list[Any], list[str]]:
    notes: list[str] = []
    rows = list(read_sheet_rows(path, notes, sheet))
    return [row.values if isinstance(row, Row) else row for row in rows], notes


def test_cells_are_read_as_people_see_them(tmp_path: Path):
    cells = [["ask", "number", "date", "sum"], ["Open?", 5, (45000,), "=1+2→3"], ["Price?", 0.1, None, 2.5]]
    rows, notes = read(xlsx(tmp_path / "a.xlsx", {"One": cells}))
    assert rows == [
        {"ask": "Open?", "number": "5", "date": "2023-03-15", "sum": "3"},
        {"ask": "Price?", "number": "0.1", "date": "", "sum": "2.5"},
    ]
    assert notes == []


def test_first_sheet_is_read_unless_one_is_named_and_the_others_are_said(tmp_path: Path):
    path = xlsx(tmp_path / "a.xlsx", {"One": [["a"], ["x"]], "Two": [["b"], ["y"]]})
    rows, notes = read(path)
    assert rows == [{"a": "x"}]
    assert notes == ["Only the sheet `One` is read, not `Two`. To read another, set `sheet` to its name."]
    assert read(path, "two")[0] == [{"b": "y"}]
    with pytest.raises(UnreadableFileError, match="^the workbook has no sheet 'Three'; choose one of: One, Two$"):
        read(path, "Three")


def test_titles_above_the_header_of_a_sheet_are_left_out(tmp_path: Path):
    cells = [["All tickets"], [], ["ask", "reply"], ["Open?", "Yes."], [], ["Closed?", "No."]]
    rows, notes = read(xlsx(tmp_path / "a.xlsx", {"One": cells}))
    assert rows == [{"ask": "Open?", "reply": "Yes."}, {"ask": "Closed?", "reply": "No."}]
    assert notes == ["The lines above the header are left out: “All tickets”."]


def test_opendocument_is_read(tmp_path: Path):
    cells = '<table:table-cell table:number-columns-repeated="16384"/>'
    empty = f'<table:table-row table:number-rows-repeated="1048570">{cells}</table:table-row>'
    path = ods(tmp_path / "a.ods", ods_row("ask", "reply") + ods_row("Open?", "Yes.") + empty)
    assert read(path) == ([{"ask": "Open?", "reply": "Yes."}], [])


def test_cells_far_from_the_others_are_refused_before_they_fill_the_memory(tmp_path: Path):
    path = xlsx(tmp_path / "a.xlsx", {"One": [["a"], ["x"]]})
    far = (
        f'<worksheet {SPREADSHEET}><sheetData><row r="1">{cell("A1", 1)}</row><row r="1048576">{cell("XFD1048576", 1)}'
    )
    with zipfile.ZipFile(tmp_path / "b.xlsx", "w") as archive, zipfile.ZipFile(path) as source:
        for name in source.namelist():
            archive.writestr(
                name, far + "</row></sheetData></worksheet>" if "worksheets" in name else source.read(name)
            )
    with pytest.raises(UnreadableFileError, match="^a sheet spans more than 20 million cells"):
        read(tmp_path / "b.xlsx")
    value = 'table:number-columns-repeated="16384" office:value-type="float" office:value="1"/>'
    body = f'<table:table-row table:number-rows-repeated="1048570"><table:table-cell {value}</table:table-row>'
    with pytest.raises(UnreadableFileError, match="^a sheet spans more than 20 million cells"):
        read(ods(tmp_path / "c.ods", body))


def test_file_that_is_no_workbook_is_told(tmp_path: Path):
    (tmp_path / "a.xlsx").write_bytes(b"a,b\n1,2\n")
    with pytest.raises(UnreadableFileError, match="^the file is not an Excel or OpenDocument workbook, or is damaged"):
        read(tmp_path / "a.xlsx")
