"""CSV as people save it: any usual delimiter, any header; a bad record costs itself and is told."""

from __future__ import annotations

import csv
import io
import time
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sft_app.data.rows import Rejected, Row
from sft_app.data.sources.csv_files import read_csv_rows
from sft_app.data.sources.lines import UnreadableFileError
from sft_app.data.sources.tables import unique_names


def rows_of(content: str | bytes, delimiter: str | None = None) -> list[Any]:
    return list(read_csv_rows(iter([content if isinstance(content, bytes) else content.encode()]), delimiter))


def until_fault(blocks: Iterator[bytes]) -> tuple[list[Any], str]:
    rows = []
    with pytest.raises(UnreadableFileError, match=".") as fault:
        for row in read_csv_rows(blocks):
            rows.append(row)
    return rows, str(fault.value)


@pytest.mark.parametrize("content", ["a,b\n1,2\n3,4\n", "a,b\r\n1,2\r\n3,4", '\n a ,"b"\n"1","2"\n\n3,4\n'])
def test_rows_are_counted_without_the_header(content: str):
    assert rows_of(content) == [Row(1, {"a": "1", "b": "2"}), Row(2, {"a": "3", "b": "4"})]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiter_is_the_one_that_the_header_has_outside_quotes(delimiter: str):
    quoted = ",,;;\t\t||"
    content = f'"{quoted}"{delimiter}b\n"{quoted}"{delimiter}2\n'
    assert rows_of(content) == [Row(1, {quoted: quoted, "b": "2"})]


def test_delimiter_of_a_tsv_is_the_tab():
    assert rows_of("a,b,c\td\n1\t2\n", "\t") == [Row(1, {"a,b,c": "1", "d": "2"})]


def test_single_column_needs_no_delimiter():
    assert rows_of("text\nhello\n") == [Row(1, {"text": "hello"})]


def noted(content: str, delimiter: str | None = None) -> tuple[list[Any], list[str]]:
    notes: list[str] = []
    return [row.values for row in read_csv_rows(iter([content.encode()]), delimiter, notes)], notes


def test_table_in_a_tsv_may_be_separated_by_commas():
    assert noted("a,b\n1,2\n3,4\n", "\t") == (
        [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}],
        ["The cells are separated by commas, not by tabs."],
    )


def test_line_in_front_may_name_the_delimiter():
    assert noted("sep=;\r\na;b,c\r\n1;2\r\n") == ([{"a": "1", "b,c": "2"}], [])


@pytest.mark.parametrize("titles", ["FAQ of the shop;\n;\n", "FAQ\n\nMarch, April\n", "Export:;;\n"])
def test_titles_above_the_header_are_left_out_and_said(titles: str):
    rows, notes = noted(titles + "Ask;Reply\nOpen?;Yes\nClosed?;No\nMonday?;Yes\n")
    assert rows[0] == {"Ask": "Open?", "Reply": "Yes"}
    assert len(rows) == 3
    assert notes[0].startswith("The lines above the header are left out: “")


def test_table_of_two_columns_without_header_is_read_as_pairs_and_that_is_said():
    rows, notes = noted("When do you open?,We open at nine.\nWhere are you?,At the port.\n")
    assert rows[0] == {"question": "When do you open?", "answer": "We open at nine."}
    assert len(rows) == 2
    assert notes[0].startswith("The table has no header: its first line is read as data")


def test_wider_table_without_header_is_refused():
    _, fault = until_fault(iter([b"1,When do you open?,We open at nine.\n2,Where are you?,At the port.\n"]))
    assert fault.startswith("the table has no header: its first line reads like data (“1”); add a first line")


@pytest.mark.parametrize(
    "header", ["Timestamp,What is your question?,How do we answer?", "text,", "a,b", "Our reply,Q"]
)
def test_header_may_be_questions_or_have_nameless_columns(header: str):
    width = header.count(",") + 1
    rows, notes = noted(f"{header}\n" + ",".join(["I am a sentence."] * width) + "\n")
    assert (len(rows), notes) == (1, [])


def test_cell_may_hold_lines_commas_and_quotes():
    assert rows_of('a,b\n"one\ntwo, ""three""",x\n4,5\n') == [
        Row(1, {"a": 'one\ntwo, "three"', "b": "x"}),
        Row(2, {"a": "4", "b": "5"}),
    ]


def test_cell_may_be_longer_than_the_csv_module_takes_by_default():
    assert rows_of("a,b\n" + "x" * 300_000 + ",y\n") == [Row(1, {"a": "x" * 300_000, "b": "y"})]


def test_nameless_and_repeated_columns_get_names():
    assert unique_names(["a", "", "a", " ", "a", "a (2)"]) == [
        "a",
        "column 2",
        "a (2)",
        "column 4",
        "a (3)",
        "a (2) (2)",
    ]


def test_missing_cells_are_none():
    assert rows_of("a,b,c\n1\n") == [Row(1, {"a": "1", "b": None, "c": None})]


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ("1,2,3", "more cells than the 2 columns in the header"),
        ('"1"x,2', "line 3 is not valid CSV: ',' expected after '\"'"),
        ("1,\0", "line 3 contains zero bytes; the file is damaged or not text"),
    ],
)
def test_bad_record_is_left_out_and_does_not_stop_the_others(record: str, reason: str):
    assert rows_of(f"a,b\n1,2\n{record}\n4,5\n") == [
        Row(1, {"a": "1", "b": "2"}),
        Rejected(2, reason),
        Row(3, {"a": "4", "b": "5"}),
    ]


def test_damaged_line_costs_its_whole_record_only():
    content = 'a,b\n"one\nGröße '.encode() + b'\xff\nthree",2\n4,5\n'
    reason = "on line 3 of the file, byte 9 of the line is not UTF-8; save the file again as UTF-8"
    assert rows_of(content) == [Rejected(1, reason), Row(2, {"a": "4", "b": "5"})]


def test_record_in_windows_1252_is_read_and_noted():
    assert rows_of("a,b\nGröße,2\n4,5\n".encode("cp1252")) == [
        Row(1, {"a": "Größe", "b": "2"}, "read as Windows-1252 (check the accents)"),
        Row(2, {"a": "4", "b": "5"}),
    ]


def test_rows_before_an_open_quote_are_kept_and_its_line_told():
    rows, fault = until_fault(iter([b'a,b\n"1\n1",2\n"3,4\n5,6\n7,8\n']))
    assert rows == [Row(1, {"a": "1\n1", "b": "2"})]
    assert fault.startswith(
        "a quote in the row that starts on line 4 is never closed, so that row and all rows after it were"
    )


def test_open_quote_does_not_take_the_memory_of_what_follows():
    def blocks() -> Iterator[bytes]:
        yield b'a,b\n1,2\n"3,4\n'
        yield from ((b"five," + b"6" * 994 + b"\n") * 200 for _ in range(200))

    tracemalloc.start()
    rows, fault = until_fault(blocks())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert rows == [Row(1, {"a": "1", "b": "2"})]
    assert "starts on line 3 is never closed" in fault
    assert peak < 90e6, "the csv module holds a cell of 10 MB in 4 bytes a character, and doubles as it grows"


@pytest.mark.parametrize(
    "long", ["x" * 10_000_001 + ",y", '"' + ("x" * 999 + "\n") * 11_000 + '",y'], ids=["one-line", "many-lines"]
)
def test_too_long_record_is_left_out_and_does_not_stop_the_others(long: str):
    first, middle, last = rows_of(f"a,b\n1,2\n{long}\n4,5\n")
    assert (first, last) == (Row(1, {"a": "1", "b": "2"}), Row(3, {"a": "4", "b": "5"}))
    assert middle == Rejected(2, f"{len(long) / 1e6:.1f} MB long; a row can be at most 10 MB")


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("a,b\n", "there are no rows below its header"),
        ("a,b\n\n\n", "there are no rows below its header"),
        ("\n\n", "there is no header, only blank lines"),
        ('"a"x,b\n1,2\n', "the header cannot be read: line 1 is not valid CSV: ',' expected after '\"'"),
    ],
)
def test_file_without_header_or_rows_is_told(content: str, fault: str):
    assert until_fault(iter([content.encode()])) == ([], fault)


def test_ten_thousand_columns_are_read_fast():
    header, record = ",".join(["a"] * 10_000), ",".join(["1"] * 10_000)
    begun = time.process_time()
    rows = rows_of(f"{header}\n" + f"{record}\n" * 50)
    assert time.process_time() - begun < 3
    assert len(rows) == 50
    assert list(rows[49].values)[::9999] == ["a", "a (10000)"]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8")), min_size=2, max_size=2)))
def test_written_csv_is_read_back(records: list[list[str]]):
    file = io.StringIO()
    csv.writer(file, quoting=csv.QUOTE_ALL).writerows([["a", "b"], ["first", "row"], *records])
    expected = [Row(number, {"a": a, "b": b}) for number, (a, b) in enumerate(records, start=2)]
    assert rows_of(file.getvalue())[1:] == expected


def test_repeated_headers_and_a_last_total_are_no_rows():
    rows = rows_of("question,answer,minutes\nHow?,So.,3\nquestion,answer,minutes\nTotal,,2\nWhy?,Thus.,4\nTotal,2,7\n")
    assert [row.values["question"] for row in rows if isinstance(row, Row)] == ["How?", "Total", "Why?"]
    assert [(row.row, row.reason, row.by_choice) for row in rows if isinstance(row, Rejected)] == [
        (2, "it repeats the header", True),
        (5, "it is the total below the table", True),
    ]


@pytest.mark.parametrize("last", ["Total eclipse?,When the sun is hidden.,3", "Sum of it?,4,", "Why?,Total,3"])
def test_last_row_that_is_no_total_is_read(last: str):
    assert isinstance(rows_of(f"question,answer,minutes\nHow?,So.,3\n{last}\n")[-1], Row)
