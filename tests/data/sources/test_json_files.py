"""JSON in any layout gives its rows one by one; a fault costs the row it stands in and is told with its place."""

from __future__ import annotations

import json
import math
import time
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sft_app.data.rows import Rejected, Row
from sft_app.data.sources.json_files import read_json_rows, read_jsonl_rows
from sft_app.data.sources.lines import UnreadableFileError

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
ROWS = st.lists(st.dictionaries(st.text(), JSON_VALUES, max_size=4), max_size=6)


def cut(content: bytes, size: int) -> Iterator[bytes]:
    return (content[position : position + size] for position in range(0, len(content), size))


def jsonl(content: str | bytes) -> list[Any]:
    return list(read_jsonl_rows(iter([content if isinstance(content, bytes) else content.encode()])))


def from_json(content: str | bytes, size: int = 2**18) -> list[Any]:
    return list(read_json_rows(cut(content if isinstance(content, bytes) else content.encode(), size)))


def until_fault(content: str, size: int = 2**18) -> tuple[list[Any], str]:
    rows = []
    with pytest.raises(UnreadableFileError, match=".") as fault:
        for row in read_json_rows(cut(content.encode(), size)):
            rows.append(row)
    return rows, str(fault.value)


# JSON lines


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"a": 1}\n{"a": 2}\n', [Row(1, {"a": 1}), Row(2, {"a": 2})]),
        ('{"a": 1}\r\n{"a": 2}', [Row(1, {"a": 1}), Row(2, {"a": 2})]),
        ('\n{"a": 1}\n  \n\n{"a": 2}\n', [Row(2, {"a": 1}), Row(5, {"a": 2})]),
        ('{"a": 1}\n\ufeff{"a": 2}\n', [Row(1, {"a": 1}), Row(2, {"a": 2})]),
        ('{"a": "x\u2028y\u0085z"}\n{"a": 2}\n', [Row(1, {"a": "x\u2028y\u0085z"}), Row(2, {"a": 2})]),
        ('{"a": "Größe \\ud83c\\udf31"}\n', [Row(1, {"a": "Größe 🌱"})]),
        ('{"a": {"b": [1, null, "x", {"c": true}]}}', [Row(1, {"a": {"b": [1, None, "x", {"c": True}]}})]),
        ('{"a": 1, "a": 2}', [Row(1, {"a": 2})]),
        ("\n \n", []),
    ],
)
def test_jsonl_rows_have_their_line_numbers(content: str, expected: list[Any]):
    assert jsonl(content) == expected


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"a":', "not valid JSON: Expecting value at column 6"),
        ('{"a": "cut he', "not valid JSON: Unterminated string starting at column 7"),
        ("{", "not valid JSON: Expecting property name enclosed in double quotes at column 2"),
        ("hello", "not valid JSON: Expecting value at column 1"),
        ('{"a": 1} {"a": 2}', "not valid JSON: Extra data at column 10"),
        ("{'a': x}", "not valid JSON: Expecting property name enclosed in double quotes at column 2"),
        ('{"ö": b}', "not valid JSON: Expecting value at column 7"),
        ("[1, 2]", "the row must be an object with named columns, got a list"),
        ('"text"', "the row must be an object with named columns, got a string"),
        ("null", "the row must be an object with named columns, got null"),
        ("true", "the row must be an object with named columns, got true or false"),
        ("NaN", "the row must be an object with named columns, got a number"),
        ('{"a": "\0\0"}', "it contains zero bytes; the file is damaged or not text"),
        ("\0" * 50, "it contains zero bytes; the file is damaged or not text"),
        ('{"a": 0.5, "b": ' + "7" * 5000 + "}", "JSON that cannot be stored: Exceeds the limit"),
        ("[" * 100_000, "JSON that cannot be stored: maximum recursion depth exceeded"),
    ],
)
def test_bad_line_is_left_out_and_does_not_stop_the_others(line: str, reason: str):
    first, middle, last = jsonl(f'{{"a": 1}}\n\n{line}\n{{"a": 4}}\n')
    assert (first, last) == (Row(1, {"a": 1}), Row(4, {"a": 4}))
    assert (middle.row, middle.reason[: len(reason)]) == (3, reason)
    assert "limit" in reason or "recursion" in reason or middle.reason == reason


@pytest.mark.parametrize("number", [2**63 - 1, 2**63, 2**64, -(2**63) - 1, 10**40])
def test_whole_number_is_exact_whatever_its_length(number: int):
    assert jsonl(json.dumps({"a": [{"b": number}]})) == [Row(1, {"a": [{"b": number}]})]


def test_what_only_python_writes_is_read():
    (row,) = jsonl('{"a": NaN, "b": -Infinity, "c": "\\ud83c"}')
    assert math.isnan(row.values["a"])
    assert (row.values["b"], row.values["c"]) == (-math.inf, "\ud83c")


def test_line_in_windows_1252_is_read_and_noted():
    assert jsonl(b'{"a": 1}\n' + '{"a": "Größe"}\n'.encode("cp1252")) == [
        Row(1, {"a": 1}),
        Row(2, {"a": "Größe"}, "read as Windows-1252 (check the accents)"),
    ]


def test_damaged_line_is_left_out():
    line = '{"a": "Größe'.encode() + b'\xff"}'
    assert jsonl(line) == [Rejected(1, "byte 15 of the line is not UTF-8; save the file again as UTF-8")]


def test_too_long_line_is_left_out():
    content = b'{"a": 1}\n' + b"x" * 10_000_001 + b'\n{"a": 3}'
    assert list(read_jsonl_rows(cut(content, 2**20))) == [
        Row(1, {"a": 1}),
        Rejected(2, "10.0 MB long; a row can be at most 10 MB"),
        Row(3, {"a": 3}),
    ]


@settings(max_examples=40, deadline=None)
@given(ROWS)
def test_written_jsonl_is_read_back(rows: list[dict[str, Any]]):
    content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    assert jsonl(content) == [Row(number, row) for number, row in enumerate(rows, start=1)]


def test_jsonl_is_read_fast():
    line = json.dumps({"messages": [{"role": "user", "content": "x" * 450}] * 2}).encode() + b"\n"
    begun = time.process_time()
    assert sum(1 for _ in read_jsonl_rows(iter([line * 200] * 100))) == 20_000
    assert 20_000 / (time.process_time() - begun) > 20_000, "rows a second; 130,000 measured when it was written"


# JSON


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('[{"a": 1}, {"a": 2}]', [Row(1, {"a": 1}), Row(2, {"a": 2})]),
        (' \n[\n  {"a": 1},\n  {"a": 2}\n]\n', [Row(1, {"a": 1}), Row(2, {"a": 2})]),
        ('[{"a": "],[}{\\"\\\\"}, {"b": [{}, []]}]', [Row(1, {"a": '],[}{"\\'}), Row(2, {"b": [{}, []]})]),
        ('{"data": [{"a": 1}, {"a": 2}]}', [Row(1, {"a": 1}), Row(2, {"a": 2})]),
        ('{"version": "1", "data": [{"a": 1}], "tags": ["x"], "n": 2}', [Row(1, {"a": 1})]),
        ('{"data": [{"a": 1}, null]}', [Row(1, {"a": 1}), Rejected(2, "got null")]),
        ('{"a": [{"b": 1}], "c": [{"d": 1}]}', [Row(1, {"a": [{"b": 1}], "c": [{"d": 1}]})]),
        ('{"prompt": "x", "tags": ["y"]}', [Row(1, {"prompt": "x", "tags": ["y"]})]),
        ('{"data": []}', [Row(1, {"data": []})]),
        ('{"a": 1}\n{"a": 2}\n', [Row(1, {"a": 1}), Row(2, {"a": 2})]),
        ('{\n "a": 1\n}\n{\n "a": 2\n}', [Row(1, {"a": 1}), Row(2, {"a": 2})]),
        ('{"a": 1},\n{"a": 2},', [Row(1, {"a": 1}), Row(2, {"a": 2})]),
        ('{"data": [{"a": 1}]}{"b": 1}', [Row(1, {"data": [{"a": 1}]}), Row(2, {"b": 1})]),
        (
            '["x", [1], 2, {"a": 4}]',
            [Rejected(1, "got a string"), Rejected(2, "got a list"), Rejected(3, "got a number"), Row(4, {"a": 4})],
        ),
        ('[{"a": 1} {"a": 2},, {"a": 3},]', [Row(1, {"a": 1}), Row(2, {"a": 2}), Row(3, {"a": 3})]),
        ("[]", []),
        (" \n", []),
    ],
)
def test_json_rows_are_its_objects(content: str, expected: list[Any], size: int):
    expected = [
        Rejected(row.row, f"the row must be an object with named columns, {row.reason}")
        if isinstance(row, Rejected)
        else row
        for row in expected
    ]
    assert from_json(content, size) == expected


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_faulty_item_is_told_with_its_place_and_does_not_stop_the_others(size: int):
    assert from_json('[{"a": "ö"},\n {"a" 2}, {"a": 3},\n{"a":\n  x}]', size) == [
        Row(1, {"a": "ö"}),
        Rejected(2, "not valid JSON: Expecting ':' delimiter at line 2, column 7"),
        Row(3, {"a": 3}),
        Rejected(4, "not valid JSON: Expecting value at line 4, column 3"),
    ]


@pytest.mark.parametrize("size", [1, 5, 1000])
@pytest.mark.parametrize(
    ("content", "position"),
    [
        ('[{"a": 1},\n {"a": 2}', "line 2, column 10"),
        ('[{"a": 1},\n {"a": 2},', "line 2, column 11"),
        ('[{"a": 1},\n {"a": 2}, {"a', "line 2, column 15"),
        ('{"n": 1, "data": [{"a": 1},\n {"a": 2}, {"a": [', "line 2, column 19"),
        ('{"data": [{"a": 1}, {"a": 2}], "n', "line 1, column 34"),
        ('{"a": 1} {"a": 2} {"a": {', "line 1, column 26"),
    ],
)
def test_rows_before_a_cut_are_kept_and_its_place_told(content: str, position: str, size: int):
    rows, fault = until_fault(content, size)
    assert rows == [Row(1, {"a": 1}), Row(2, {"a": 2})]
    assert fault == f"the file ends at {position} before the row or the list is closed; it seems to be cut off"


@pytest.mark.parametrize("tail", ["]", ' [{"a": 2}]', "\n\n\n x"])
def test_what_follows_the_list_is_told(tail: str):
    rows, fault = until_fault('[{"a": 1}]' + tail, size=3)
    assert rows == [Row(1, {"a": 1})]
    assert fault.endswith("on is ignored, because the rows end before it")


@pytest.mark.parametrize(
    ("content", "found"),
    [("3", "3"), ('"text"', '"text"'), ("null\n", "null"), ("<html><body>\n</body>", "<html><body>")],
)
def test_json_that_is_neither_list_nor_object_is_told(content: str, found: str):
    rows, fault = until_fault(content)
    assert rows == []
    assert fault == f"the file must contain a list of rows in [ ] or an object in {{ }}, but begins with {found}"


def test_item_that_is_no_utf8_is_read_as_windows_1252_unless_it_is_damaged():
    content = b'[{"a": "Gr\xf6\xdfe"}, {"a": "Gr\xc3\xb6\xc3\x9fe\xff"}, {"a": 3}]'
    assert from_json(content) == [
        Row(1, {"a": "Größe"}, "read as Windows-1252 (check the accents)"),
        Rejected(2, "byte 15 of the row is not UTF-8; save the file again as UTF-8"),
        Row(3, {"a": 3}),
    ]


@pytest.mark.parametrize("filler", [b"x", b'\\"', b"\\\\", b"x" * 3000 + b'",[{}],"'])
def test_long_item_is_passed_over_without_being_held(filler: bytes):
    filler = filler * (2**18 // len(filler))

    def blocks() -> Iterator[bytes]:
        yield b'[{"a": 1}, ["'
        yield from (filler for _ in range(200))
        yield b'"], {"a": 3}]'

    tracemalloc.start()
    rows = list(read_json_rows(blocks()))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    size = (200 * len(filler) + 4) / 1e6
    assert rows == [
        Row(1, {"a": 1}),
        Rejected(2, f"{size:.1f} MB long; a row can be at most 10 MB"),
        Row(3, {"a": 3}),
    ]
    assert peak < 50e6, "a 52 MB item; the window may hold twice the limit, and once more while it grows"


def test_long_list_is_not_held():
    row = b'{"a": "' + b"x" * 990 + b'"},'

    def blocks() -> Iterator[bytes]:
        yield b"["
        yield from (row * 250 for _ in range(40))
        yield b'{"a": 1}]'

    tracemalloc.start()
    assert sum(1 for _ in read_json_rows(blocks())) == 10_001
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3e6, "a list of 10 MB"


def test_object_around_the_rows_may_be_longer_than_a_row():
    content = b'{"data": [' + b",".join([b'{"a": "' + b"x" * 2_000_000 + b'"}'] * 6) + b"]}"
    assert [row.number for row in from_json(content)] == [1, 2, 3, 4, 5, 6]


def test_single_object_may_not_be_longer_than_a_row():
    content = b'{"prompt": "' + b"x" * 11_000_000 + b'", "completion": "y"}'
    assert from_json(content) == [Rejected(1, "11.0 MB long; a row can be at most 10 MB")]


def test_object_around_the_rows_that_would_fill_the_memory_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sft_app.data.sources.json_files.MAX_OBJECT_BYTES", 2_000_000)
    content = '{"data": [' + ",".join(['{"a": "' + "x" * 999_990 + '"}'] * 3) + "]}"
    told = "an object around all rows can be at most 2 MB, got 3 MB; save the rows as JSON Lines"
    assert until_fault(content) == ([], told)


@settings(max_examples=40, deadline=None)
@given(ROWS, st.integers(1, 40), st.sampled_from([None, 2]))
def test_written_json_is_read_back(rows: list[dict[str, Any]], size: int, indent: int | None):
    content = json.dumps(rows, indent=indent, ensure_ascii=False)
    assert from_json(content, size) == [Row(number, row) for number, row in enumerate(rows, start=1)]


@given(st.text(alphabet='[]{}",:\\ \n1a', max_size=40), st.integers(1, 9))
def test_any_text_gives_rows_or_a_fault_whatever_its_blocks(content: str, size: int):
    def outcome(size: int) -> tuple[list[Any], str]:
        rows = []
        try:
            for row in read_json_rows(cut(content.encode(), size)):
                rows.append(row)
        except UnreadableFileError as fault:
            return rows, str(fault)
        return rows, ""

    assert outcome(size)[0] == outcome(1000)[0]
