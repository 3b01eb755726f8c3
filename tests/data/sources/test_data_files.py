"""Every row of a file is told: read, or left out with its number and the reason."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import json
import lzma
import zipfile
from pathlib import Path
from typing import Any

import pytest
import zstandard

from sft_app.data.rows import Rejected, Row
from sft_app.data.sources.data_files import SUFFIXES, data_suffix, file_sha256, holds_parquet, locate_data, read_rows
from sft_app.errors import DataError
from sft_app.runtime.environment import PROJECT_DIR
from sft_app.settings import EXAMPLE_DATA


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


@pytest.mark.parametrize(
    "data",
    [
        "gone.jsonl",
        "",
        " ",
        "HuggingFaceH4/no_robots",
        "a\0b.jsonl",
        "~nobody-has-this-name/a.jsonl",
        "x" * 300 + ".jsonl",
        "C:/gone.csv",
    ],
)
def test_missing_file_is_told(data: str):
    with pytest.raises(DataError, match="^There is no data file "):
        locate_data(data)


@pytest.mark.parametrize("data", [".", "examples"])
def test_folder_is_told(data: str):
    with pytest.raises(DataError, match=f"^{data} is a folder. Choose one data file in it."):
        locate_data(data)


def test_folder_with_one_data_file_is_that_file(write: Any, tmp_path: Path):
    only = write("a.csv", "a\n1\n")
    write("notes.md", "x")
    assert locate_data(str(tmp_path)) == only
    write("b.csv", "a\n1\n")
    with pytest.raises(
        DataError, match=r"is a folder\. Choose one data file in it\. It has several: a\.csv, b\.csv\.$"
    ):
        locate_data(str(tmp_path))


@pytest.mark.parametrize("data", ["http://example.org/a.jsonl", "HTTPS://example.org/a.csv", "s3://bucket/a.parquet"])
def test_address_is_told(data: str):
    with pytest.raises(DataError, match=f"^{data} is a web address. Download the file first\\."):
        locate_data(data)


@pytest.mark.parametrize(
    ("name", "got"),
    [
        ("data", "no ending"),
        ("a.gz", ".gz"),
    ],
)
def test_other_kind_of_file_is_told_with_the_kinds_there_are(write: Any, name: str, got: str):
    kinds = r"\.jsonl, \.ndjson, \.json, \.csv, \.tsv, \.txt, \.md, \.parquet, \.xlsx, \.ods file"
    with pytest.raises(
        DataError, match=rf"^{name} must be a {kinds} \(also \.gz, \.bz2, \.xz, \.zst or \.zip\), got '{got}'\.$"
    ):
        locate_data(str(write(name, "x")))


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("a.docx", "is a text document. To teach answers, put the questions and answers in a table"),
        ("A.PDF", "is a PDF. To teach answers, put"),
        ("a.rst", "is a text with markup. To teach answers, put"),
        ("a.xls", "is a workbook in a format that the app does not read. Open it in Excel"),
        ("a.ipynb", "is a Jupyter notebook. Save the data"),
        ("a.tar.gz", "is an archive. Unpack it"),
        ("a.pkl", "is a Python pickle, which can run code when opened. Save"),
    ],
)
def test_file_that_holds_no_table_is_told_with_the_next_step(write: Any, name: str, told: str):
    with pytest.raises(DataError, match=f"^{name} {told}.*[a-z)V]\\.$"):
        locate_data(str(write(name, "x")))


def test_empty_file_is_told(write: Any):
    with pytest.raises(DataError, match=r"^a\.csv is empty\.$"):
        locate_data(str(write("a.csv", "")))


@pytest.mark.parametrize(
    ("name", "suffix"),
    [("my.data.v2.csv", ".csv"), ("A.JSONL.GZ", ".jsonl.gz"), ("a.gz", ".gz"), ("data", ""), ("b.d/a", "")],
)
def test_ending_is_the_last_one_and_that_before_gz(name: str, suffix: str):
    assert data_suffix(name) == suffix


def test_sha256_is_of_the_bytes(write: Any):
    assert file_sha256(write("a.csv", b"a,b\n")) == hashlib.sha256(b"a,b\n").hexdigest()


# reading

BINARY = (".parquet", ".zip", ".xlsx", ".ods", ".md")
PACK: dict[str, Any] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.compress,
}
CONTENTS = {
    ".jsonl": '{"text": "x"}\n',
    ".ndjson": '{"text": "x"}\n',
    ".json": '[{"text": "x"}]',
    ".csv": "text\nx\n",
    ".tsv": "text\nx\n",
    ".txt": "x\n",
}


@pytest.mark.parametrize("suffix", [suffix for suffix in SUFFIXES if not suffix.startswith(BINARY)])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_every_kind_is_read_packed_or_not_in_any_encoding(write: Any, suffix: str, encoding: str):
    kind, packed = Path("A" + suffix).suffixes if suffix.count(".") == 2 else (suffix, "")
    path = write("A" + suffix.upper(), PACK[packed](CONTENTS[kind].encode(encoding)))
    assert locate_data(str(path)) == path
    assert list(read_rows(path)) == [Row(1, {"text": "x"})]


@pytest.mark.parametrize("packed", [".gz", ".bz2", ".xz", ".zst", ".zip"])
def test_parquet_is_read_packed(tmp_path: Path, packed: str):
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table({"text": ["x"]}), tmp_path / "a.parquet")
    path = tmp_path / f"a.parquet{packed}"
    if packed == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.write(tmp_path / "a.parquet", "a.parquet")
    else:
        path.write_bytes(PACK[packed]((tmp_path / "a.parquet").read_bytes()))
    assert locate_data(str(path)) == path
    assert holds_parquet(path)
    assert list(read_rows(path)) == [Row(1, {"text": "x"})]


def test_packed_file_that_is_cut_off_is_told(tmp_path: Path):
    path = tmp_path / "a.xlsx.gz"
    path.write_bytes(gzip.compress(b"x" * 10_000)[:-20])
    with pytest.raises(DataError, match="cut off"):
        list(read_rows(path))


def test_parquet_is_read(tmp_path: Path):
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table({"text": ["x"]}), tmp_path / "a.parquet")
    assert list(read_rows(tmp_path / "a.parquet")) == [Row(1, {"text": "x"})]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.jsonl", b"", "the file is empty"),
        ("a.txt.gz", gzip.compress(b"", mtime=0), "the file is empty"),
        ("a.json", b"3", "the file must contain a list of rows in .*, but begins with 3"),
        ("a.csv", b"a,b\n", "there are no rows below its header"),
        ("a.csv.gz", b"a,b\n1,2\n", "the .gz file is not gzip"),
        ("a.jsonl", b"\0" * 100, "the file contains binary data or zero bytes"),
        ("a.parquet", b"a,b\n1,2\n", "the file is not Parquet"),
        ("b.parquet", b"version https://git-lfs.github.com/spec/v1\n", "this is a Git LFS pointer"),
        ("a.xlsx", b"<!DOCTYPE html><html>", "this is a saved web page"),
    ],
)
def test_file_that_cannot_be_read_at_all_is_told_by_name(write: Any, name: str, content: bytes, reason: str):
    with pytest.raises(DataError, match=rf"^{name}: {reason}.*\.$"):
        list(read_rows(write(name, content)))


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.jsonl.gz", gzip.compress(b'{"a": "1"}\n{"a": "2"}\n', mtime=0)[:-4], "the .gz file is cut off after 22"),
        ("a.json", b'[{"a": "1"}, {"a": "2"}, {"a', "the file ends at line 1, column 29 before the row"),
        ("a.csv", b'a\n1\n2\n"3\n', "a quote in the row that starts on line 4 is never closed"),
    ],
)
def test_rows_before_a_fault_are_kept_and_the_fault_is_the_last_row(write: Any, name: str, content: bytes, reason: str):
    *rows, fault = read_rows(write(name, content))
    assert rows == [Row(1, {"a": "1"}), Row(2, {"a": "2"})]
    assert isinstance(fault, Rejected)
    assert (fault.row, fault.reason[: len(reason)]) == (3, reason)


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.txt.gz", "a.parquet"])
def test_file_that_cannot_be_opened_is_told(tmp_path: Path, name: str):
    (tmp_path / name).mkdir()
    with pytest.raises(DataError, match=rf"^{name} cannot be read: Is a directory\.$"):
        list(read_rows(tmp_path / name))


def test_rows_are_read_one_by_one(write: Any):
    path = write("a.jsonl.gz", gzip.compress(b'{"a": 1}\n' * 200_000)[:-100])
    assert next(iter(read_rows(path))) == Row(1, {"a": 1})


def test_progress_is_told_to_the_end(write: Any):
    shares: list[float] = []
    path = write("a.jsonl", "".join(json.dumps({"a": "x" * 100}) + "\n" for _ in range(20_000)))
    assert sum(1 for _ in read_rows(path, shares.append)) == 20_000
    assert shares == sorted(shares)
    assert shares[-1] == 1
