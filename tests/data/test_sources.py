"""Every row of a file is told: read, or left out with its number and the reason."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from sft_app.data.sources import PROJECT_DIR, Rejected, file_sha256, locate_data, read_rows
from sft_app.errors import DataError
from sft_app.settings import EXAMPLE_DATA

BOM = b"\xef\xbb\xbf"


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


# locating


def test_file_is_located_as_given(data_file: Path, monkeypatch: pytest.MonkeyPatch):
    assert locate_data(str(data_file)) == data_file
    monkeypatch.chdir(data_file.parent)
    assert locate_data(data_file.name) == Path(data_file.name)


def test_bundled_example_is_located_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert locate_data(EXAMPLE_DATA) == PROJECT_DIR / EXAMPLE_DATA


def test_own_file_wins_over_the_bundled_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / EXAMPLE_DATA).parent.mkdir()
    (tmp_path / EXAMPLE_DATA).write_text("{}")
    assert locate_data(EXAMPLE_DATA).resolve() == tmp_path / EXAMPLE_DATA


def test_file_is_located_in_the_persons_home_folder(data_file: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(data_file.parent))
    assert locate_data(f"~/{data_file.name}") == data_file


@pytest.mark.parametrize("data", ["gone.jsonl", "", ".", "examples", "HuggingFaceH4/no_robots", "a\0b.jsonl"])
def test_missing_file_is_told(data: str):
    with pytest.raises(DataError, match="^There is no data file "):
        locate_data(data)


@pytest.mark.parametrize("data", ["~nobody-has-this-name/a.jsonl", "x" * 300 + ".jsonl"])
def test_name_that_no_file_can_have_is_told_as_missing(data: str):
    with pytest.raises(DataError, match="^There is no data file "):
        locate_data(data)


@pytest.mark.parametrize(
    ("name", "got"), [("a.parquet", r"'\.parquet'"), ("a.txt", r"'\.txt'"), ("data", "'no ending'")]
)
def test_other_kind_of_file_is_told_with_the_kinds_there_are(write: Any, name: str, got: str):
    with pytest.raises(DataError, match=rf"^{name}: a \.jsonl, \.json, \.csv file is expected, got {got}\.$"):
        locate_data(str(write(name, "x")))


def test_ending_may_be_in_capitals(write: Any):
    path = write("A.JSONL", '{"a": 1}\n')
    assert locate_data(str(path)) == path
    assert list(read_rows(path)) == [(1, {"a": 1})]


def test_empty_file_is_told(write: Any):
    with pytest.raises(DataError, match=r"^a\.csv is empty\.$"):
        locate_data(str(write("a.csv", "")))


def test_sha256_is_of_the_bytes(write: Any):
    assert file_sha256(write("a.csv", b"a,b\n")) == hashlib.sha256(b"a,b\n").hexdigest()


# JSON lines


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"a": 1}\n{"a": 2}\n', [(1, {"a": 1}), (2, {"a": 2})]),
        ('{"a": 1}\r\n{"a": 2}', [(1, {"a": 1}), (2, {"a": 2})]),
        ('\n{"a": 1}\n  \n\n{"a": 2}\n', [(2, {"a": 1}), (5, {"a": 2})]),
        (BOM + b'{"a": 1}\n', [(1, {"a": 1})]),
        ('{"a": "x\u2028y\u0085z"}\n{"a": 2}\n', [(1, {"a": "x\u2028y\u0085z"}), (2, {"a": 2})]),
        ('{"a": "Größe \\ud83c\\udf31"}\n', [(1, {"a": "Größe 🌱"})]),
        ("\n \n", []),
    ],
)
def test_jsonl_rows_have_their_line_numbers(write: Any, content: str | bytes, expected: list[Any]):
    assert list(read_rows(write("a.jsonl", content))) == expected


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"a":', "not JSON: Expecting value at column 6"),
        ('{"a": "cut he', "not JSON: Unterminated string starting at at column 7"),
        ("{", "not JSON: Expecting property name enclosed in double quotes at column 2"),
        ("hello", "not JSON: Expecting value at column 1"),
        ('{"a": 1} {"a": 2}', "not JSON: Extra data at column 10"),
        ("{'a': 1}", "not JSON: Expecting property name enclosed in double quotes at column 2"),
        ("[1, 2]", "an object with named columns is expected, got list"),
        ('"text"', "an object with named columns is expected, got str"),
        ("null", "an object with named columns is expected, got NoneType"),
    ],
)
def test_bad_line_is_left_out_and_does_not_stop_the_others(write: Any, line: str, reason: str):
    rows = list(read_rows(write("a.jsonl", f'{{"a": 1}}\n\n{line}\n{{"a": 4}}\n')))
    assert rows == [(1, {"a": 1}), Rejected(3, reason), (4, {"a": 4})]


@pytest.mark.parametrize("line", ['{"a": ' + "7" * 5000 + "}", "[" * 100_000], ids=["huge-number", "deep-nesting"])
def test_line_that_python_cannot_hold_is_left_out_and_does_not_stop_the_others(write: Any, line: str):
    first, middle, last = read_rows(write("a.jsonl", f'{{"a": 1}}\n{line}\n{{"a": 3}}\n'))
    assert (first, last) == ((1, {"a": 1}), (3, {"a": 3}))
    assert isinstance(middle, Rejected)
    assert middle.row == 2


# JSON


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('[{"a": 1}, {"a": 2}]', [(1, {"a": 1}), (2, {"a": 2})]),
        ('{"data": [{"a": 1}]}', [(1, {"a": 1})]),
        (BOM + b'[{"a": 1}]', [(1, {"a": 1})]),
        ('[{"a": 1}, "x", null]', [(1, {"a": 1}), (2, "str"), (3, "NoneType")]),
        ("[]", []),
    ],
)
def test_json_rows_are_the_items_of_the_list(write: Any, content: str | bytes, expected: list[tuple[int, Any]]):
    rows = [
        row if isinstance(value, dict) else Rejected(row[0], f"an object with named columns is expected, got {value}")
        for row in expected
        for value in [row[1]]
    ]
    assert list(read_rows(write("a.json", content))) == rows


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('[{"a": 1},\n {"a" 2}]', r"a\.json is not JSON: Expecting ':' delimiter at line 2, column 7\."),
        ('{"a": 1}\n{"a": 2}\n', r"a\.json is not JSON: Extra data at line 2, column 1\."),
        ('{"rows": [], "version": 2}', r"a\.json: a list of rows is expected, got dict\."),
        ('{"rows": "x"}', r"a\.json: a list of rows is expected, got str\."),
        ("3", r"a\.json: a list of rows is expected, got int\."),
    ],
)
def test_json_that_is_no_list_of_rows_is_told(write: Any, content: str, reason: str):
    with pytest.raises(DataError, match=f"^{reason}$"):
        list(read_rows(write("a.json", content)))


@pytest.mark.parametrize("content", ["[" + "7" * 5000 + "]", "[" * 100_000], ids=["huge-number", "deep-nesting"])
def test_json_that_python_cannot_hold_is_told(write: Any, content: str):
    with pytest.raises(DataError, match=r"^a\.json is not JSON"):
        list(read_rows(write("a.json", content)))


# CSV


@pytest.mark.parametrize(
    "content",
    [
        "a,b\n1,2\n3,4\n",
        "a,b\r\n1,2\r\n3,4",
        BOM + b"a,b\n1,2\n3,4\n",
        'a,b\n"1","2"\n\n3,4\n',
    ],
)
def test_csv_rows_are_counted_without_the_header(write: Any, content: str | bytes):
    assert list(read_rows(write("a.csv", content))) == [(1, {"a": "1", "b": "2"}), (2, {"a": "3", "b": "4"})]


def test_csv_cell_may_hold_lines_commas_and_quotes(write: Any):
    path = write("a.csv", 'a,b\n"one\ntwo, ""three""",x\n4,5\n')
    assert list(read_rows(path)) == [(1, {"a": 'one\ntwo, "three"', "b": "x"}), (2, {"a": "4", "b": "5"})]


def test_csv_cell_may_be_long(write: Any):
    assert list(read_rows(write("a.csv", "a,b\n" + "x" * 300_000 + ",y\n"))) == [(1, {"a": "x" * 300_000, "b": "y"})]


def test_csv_row_with_too_many_cells_is_left_out_and_does_not_stop_the_others(write: Any):
    assert list(read_rows(write("a.csv", "a,b\n1,2,3\n4,5\n"))) == [
        Rejected(1, "more cells than the 2 columns of the header"),
        (2, {"a": "4", "b": "5"}),
    ]


def test_csv_with_an_open_quote_is_told_with_its_line(write: Any):
    with pytest.raises(DataError, match=r"^a\.csv: line 3 is not CSV: unexpected end of data\.$"):
        list(read_rows(write("a.csv", 'a,b\n1,2\n"3,4\n')))


# any kind


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv"])
@pytest.mark.parametrize("content", ['{"a": "Größe"}'.encode("latin-1"), '{"a": 1}'.encode("utf-16")])
def test_other_encoding_is_told_with_what_to_do(write: Any, name: str, content: bytes):
    with pytest.raises(DataError, match=rf"^{name}: byte \d+ is not UTF-8; save the file as UTF-8\.$"):
        list(read_rows(write(name, content)))


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
def test_bad_byte_is_told_with_its_place_in_the_file(write: Any, name: str):
    content = b'{"a": 1}\n' * 5000 + b"\xff\n"
    with pytest.raises(DataError, match=rf"^{name}: byte 45000 is not UTF-8"):
        list(read_rows(write(name, content)))


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv"])
def test_file_that_cannot_be_opened_is_told(tmp_path: Path, name: str):
    (tmp_path / name).mkdir()
    with pytest.raises(DataError, match=rf"^{name} cannot be read: Is a directory\.$"):
        list(read_rows(tmp_path / name))


def test_rows_are_read_one_by_one(write: Any):
    path = write("a.jsonl", b'{"a": 1}\n' * 20_000 + b"\xff\n")
    assert next(iter(read_rows(path))) == (1, {"a": 1})
