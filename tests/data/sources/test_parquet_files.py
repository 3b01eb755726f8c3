"""Parquet rows come as values that JSON can hold."""

from __future__ import annotations

import datetime
import decimal
import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sft_app.data.rows import Rejected, Row
from sft_app.data.sources.lines import UnreadableFileError
from sft_app.data.sources.parquet_files import read_parquet_rows


def write(path: Path, columns: dict[str, Any], **options: Any) -> Path:
    pyarrow.parquet.write_table(pyarrow.table(columns), path, **options)
    return path


def test_nested_values_are_dicts_and_lists(tmp_path: Path):
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": None}]
    path = write(tmp_path / "a.parquet", {"messages": [messages, [], None], "n": [1, 2, None]})
    assert list(read_parquet_rows(path)) == [
        Row(1, {"messages": messages, "n": 1}),
        Row(2, {"messages": [], "n": 2}),
        Row(3, {"messages": None, "n": None}),
    ]


def test_values_that_json_lacks_become_text(tmp_path: Path):
    columns = {
        "day": [datetime.date(2024, 2, 29)],
        "moment": [datetime.datetime(2024, 2, 29, 12, 30, tzinfo=datetime.UTC)],
        "price": [decimal.Decimal("12.50")],
        "lasted": [datetime.timedelta(seconds=90)],
        "text": [b"Gr\xc3\xb6\xc3\x9fe"],
        "nanoseconds": pyarrow.array([1], pyarrow.timestamp("ns")),
    }
    (row,) = read_parquet_rows(write(tmp_path / "a.parquet", columns))
    assert row == Row(
        1,
        {
            "day": "2024-02-29",
            "moment": "2024-02-29T12:30:00+00:00",
            "price": "12.50",
            "lasted": "0:01:30",
            "text": "Größe",
            "nanoseconds": "1970-01-01T00:00:00.000000001",
        },
    )
    assert json.loads(json.dumps(row.values)) == row.values


def test_bytes_that_are_no_text_are_left_out_and_noted(tmp_path: Path):
    path = write(tmp_path / "a.parquet", {"picture": [{"bytes": b"\x89PNG\xff"}, {"bytes": b"plain"}], "t": ["x", "y"]})
    assert list(read_parquet_rows(path)) == [
        Row(1, {"picture": {"bytes": None}, "t": "x"}, "read without their binary values"),
        Row(2, {"picture": {"bytes": "plain"}, "t": "y"}),
    ]


def test_columns_of_one_name_are_both_kept(tmp_path: Path):
    table = pyarrow.Table.from_arrays([pyarrow.array([1]), pyarrow.array([2])], names=["a", "a"])
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    assert list(read_parquet_rows(tmp_path / "a.parquet")) == [Row(1, {"a": 1, "a (2)": 2})]


def test_row_with_a_value_that_python_cannot_hold_is_left_out(tmp_path: Path):
    days = pyarrow.array([0, 2**30, 1], pyarrow.int32()).cast(pyarrow.date32())
    first, middle, last = read_parquet_rows(write(tmp_path / "a.parquet", {"day": days}))
    assert (first, last) == (Row(1, {"day": "1970-01-01"}), Row(3, {"day": "1970-01-02"}))
    assert isinstance(middle, Rejected)
    assert (middle.row, middle.reason[:31]) == (2, "a value that cannot be stored: ")


@pytest.mark.parametrize("content", [b"a,b\n1,2\n", b"PAR1", b"PAR1" + b"\0" * 50 + b"PAR1", b""])
def test_file_that_is_no_parquet_is_told(tmp_path: Path, content: bytes):
    (tmp_path / "a.parquet").write_bytes(content)
    with pytest.raises(UnreadableFileError, match="^the file is not Parquet, or is damaged or cut off"):
        list(read_parquet_rows(tmp_path / "a.parquet"))


def test_rows_before_damage_are_kept(tmp_path: Path):
    path = write(tmp_path / "a.parquet", {"a": [f"row {n}" for n in range(4000)]}, row_group_size=2000)
    second = pyarrow.parquet.ParquetFile(path).metadata.row_group(1).column(0).dictionary_page_offset
    content = bytearray(path.read_bytes())
    content[second : second + 40] = b"\xff" * 40
    path.write_bytes(content)
    rows = []
    with pytest.raises(UnreadableFileError, match="damaged"):
        for row in read_parquet_rows(path):
            rows.append(row)
    assert rows[-1] == Row(2000, {"a": "row 1999"})


def test_rows_are_read_in_batches_and_progress_told(tmp_path: Path):
    path = write(tmp_path / "a.parquet", {"a": list(range(2500))})
    shares: list[float] = []
    assert [row.number for row in read_parquet_rows(path, shares.append)] == list(range(1, 2501))
    assert shares[0] == 64 / 2500, "after the first batch"
    assert shares[-1] == 1


def test_one_value_for_every_row_does_not_fill_the_memory(tmp_path: Path):
    once = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 50_000, pyarrow.int32()), ["x" * 1_000_000])
    path = write(tmp_path / "a.parquet", {"a": once}, compression="zstd")
    assert path.stat().st_size < 1_000_000
    rows = read_parquet_rows(path)
    assert len(next(rows).values["a"]) == 1_000_000  # type: ignore[union-attr]
    with pytest.raises(UnreadableFileError, match="it unpacks to more than 268 MB"):
        for _ in rows:
            pass


def test_a_row_that_is_too_long_is_left_out(tmp_path: Path):
    path = write(tmp_path / "a.parquet", {"a": ["short", "x" * 11_000_000, "last"]})
    first, second, third = read_parquet_rows(path)
    assert (first, third) == (Row(1, {"a": "short"}), Row(3, {"a": "last"}))
    assert isinstance(second, Rejected) and "11.0 MB long; a row can be at most 10 MB" in second.reason


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "text": st.none() | st.text(st.characters(codec="utf-8")),
                "number": st.none() | st.integers(-(2**63), 2**63 - 1),
                "list": st.none() | st.lists(st.booleans(), max_size=3),
            }
        ),
        min_size=1,
        max_size=5,
    )
)
def test_written_parquet_is_read_back(tmp_path: Path, rows: list[dict[str, Any]]):
    kinds = {"text": pyarrow.string(), "number": pyarrow.int64(), "list": pyarrow.list_(pyarrow.bool_())}
    table = pyarrow.Table.from_pylist(rows, pyarrow.schema(kinds))
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    assert list(read_parquet_rows(tmp_path / "a.parquet")) == [
        Row(number, row) for number, row in enumerate(rows, start=1)
    ]
