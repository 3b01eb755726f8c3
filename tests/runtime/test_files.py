"""A reader sees whole things, whatever happens to the writer."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from sft_app.runtime.files import (
    JsonlTail,
    append_jsonl,
    read_json,
    read_jsonl,
    read_records,
    write_json_atomically,
    write_jsonl_atomically,
    write_text_atomically,
)


def test_written_text_replaces_the_old_and_leaves_nothing_else(tmp_path: Path):
    path = tmp_path / "status.json"
    for text in ("old", "Größe £5 🌱\n"):
        write_text_atomically(path, text)
    assert path.read_bytes() == "Größe £5 🌱\n".encode()
    assert list(tmp_path.iterdir()) == [path]


def test_failed_write_keeps_the_old_text_and_leaves_nothing_else(tmp_path: Path):
    path = tmp_path / "status.json"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError, match="surrogates not allowed"):
        write_text_atomically(path, "x" * 100_000 + "\ud83d")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_write_into_a_missing_folder_is_an_os_error(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="gone"):
        write_text_atomically(tmp_path / "gone" / "status.json", "x")


def test_reader_never_sees_half_of_a_write(tmp_path: Path):
    path = tmp_path / "status.json"
    values = [{"step": step, "text": str(step) * 20_000} for step in range(2)]
    write_json_atomically(path, values[0])
    done = threading.Event()

    def keep_writing() -> None:
        for turn in range(40):
            write_json_atomically(path, values[turn % 2])
        done.set()

    writer = threading.Thread(target=keep_writing)
    writer.start()
    while not done.is_set():
        assert json.loads(path.read_bytes()) in values
    writer.join()


def test_json_is_readable_text_that_ends_with_a_newline(tmp_path: Path):
    write_json_atomically(tmp_path / "a.json", {"name": "Größe", "step": 1})
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == '{\n  "name": "Größe",\n  "step": 1\n}\n'


@pytest.mark.parametrize(
    "row",
    [
        {},
        {"loss": 1.25, "step": 0, "note": None, "flags": [True, False]},
        {"text": 'line one\nline two\r\n\ttab \\ " quote'},
        {"text": "\u2028 \u2029 \x85 \x0b \x0c \x1c"},
        {"text": "£ é 🌱 漢字", "nested": {"a": [1, {"b": "c"}]}},
    ],
)
def test_row_comes_back_as_it_was_written(tmp_path: Path, row: dict[str, Any]):
    appended, written = tmp_path / "appended.jsonl", tmp_path / "written.jsonl"
    for _ in range(2):
        append_jsonl(appended, row)
    write_jsonl_atomically(written, (item for item in [row, row]))
    assert appended.read_bytes() == written.read_bytes()
    assert appended.read_bytes().count(b"\n") == 2
    assert read_jsonl(appended) == read_jsonl(written) == [row, row]


def test_no_rows_make_an_empty_file(tmp_path: Path):
    write_jsonl_atomically(tmp_path / "a.jsonl", [])
    assert (tmp_path / "a.jsonl").read_bytes() == b""
    assert read_jsonl(tmp_path / "a.jsonl") == []


def test_missing_file_has_no_rows(tmp_path: Path):
    assert read_jsonl(tmp_path / "metrics.jsonl") == []


@pytest.mark.parametrize("half", [b'{"step": 2', b'{"step": 2}', b'{"text": "\xc3', b"\xff\xfe", b"   "])
def test_reader_ignores_a_last_line_without_newline(tmp_path: Path, half: bytes):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n' + half)
    assert read_jsonl(path) == [{"step": 1}]


@pytest.mark.parametrize("broken", [b'{"step": ', b"", b"   ", b'{"text": "\xc3', b"\x00\x00\x00"])
def test_reader_passes_over_a_broken_line_between_whole_ones(tmp_path: Path, broken: bytes):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n' + broken + b'\n{"step": 3}\n')
    assert read_jsonl(path) == [{"step": 1}, {"step": 3}]


@pytest.mark.parametrize("half", [b'{"step": 2, "lo', b'{"text": "\xc3'])
def test_half_line_of_a_killed_writer_spoils_nothing(tmp_path: Path, half: bytes):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n' + half)
    append_jsonl(path, {"step": 3})
    append_jsonl(path, {"step": 4})
    assert read_jsonl(path) == [{"step": 1}, {"step": 3}, {"step": 4}]


def test_file_cut_at_any_byte_gives_its_whole_lines(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    rows = [{"step": 1, "text": "é"}, {"step": 2, "text": "🌱"}, {"step": 3}]
    write_jsonl_atomically(path, rows)
    whole = path.read_bytes()
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        assert read_jsonl(path) == rows[: whole[:length].count(b"\n")]


def test_a_tail_gives_what_reading_the_whole_file_gives_while_it_grows(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    tail = JsonlTail(path, dict)
    assert tail.records() == []
    for text in ['{"step": 1}\n{"st', 'ep": 2}\n', "not json\n", '{"step": 3}\n{"half']:
        with path.open("a") as file:
            file.write(text)
        assert tail.records() == read_jsonl(path)
    assert tail.records() == [{"step": 1}, {"step": 2}, {"step": 3}]


class Measured(BaseModel):
    step: int
    loss: float | None = None


@pytest.mark.parametrize(
    "line",
    [
        b"null",
        b"3",
        b'"x"',
        b"[]",
        b'{"loss": 1.0}',
        b'{"step": "one"}',
        b'{"step": 2, "loss": []}',
        b'{"step": null}',
        b'{"step": 2',
        b"\xff\xfe",
        b'{"step": 2, "text": "\xc3"}',
        b"[" * 50_000,
    ],
)
def test_a_line_that_is_not_such_a_record_is_skipped(tmp_path: Path, line: bytes):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n' + line + b'\n{"step": 3, "newer": {"x": 1}}\n{"step": 4}')
    expected = [Measured(step=1), Measured(step=3)]
    assert read_records(path, Measured) == JsonlTail(path, Measured).records() == expected


@pytest.mark.parametrize(
    "content", [b"", b"null", b"3", b"[]", b'{"step": "one"}', b'{"step": 1', b"\xff", b"[" * 50_000]
)
def test_a_file_that_is_not_such_a_record_is_none(tmp_path: Path, content: bytes):
    path = tmp_path / "status.json"
    assert read_json(path, Measured) is None
    path.write_bytes(content)
    assert read_json(path, Measured) is None
    path.write_bytes(b'{"step": 1, "newer": true}\n')
    assert read_json(path, Measured) == Measured(step=1)


def test_a_folder_in_place_of_a_file_has_no_records(tmp_path: Path):
    assert read_records(tmp_path, Measured) == JsonlTail(tmp_path, Measured).records() == []
    assert read_json(tmp_path, Measured) is None


def test_a_tail_reads_a_file_anew_that_was_replaced_or_cut(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n')
    tail = JsonlTail(path, dict)
    tail.records()
    write_jsonl_atomically(path, [{"step": 7}, {"step": 8}, {"step": 9}])
    assert tail.records() == [{"step": 7}, {"step": 8}, {"step": 9}]
    path.write_text('{"step": 1}\n')
    assert tail.records() == [{"step": 1}]
    path.unlink()
    assert tail.records() == []


def test_a_tail_reads_only_what_is_new(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n')
    tail = JsonlTail(path, dict)
    first = tail.records()
    with path.open("r+") as file:
        file.write('{"step": 5}')  # what was read is not looked at again
    append_jsonl(path, {"step": 2})
    assert tail.records() == [{"step": 1}, {"step": 2}] and first == [{"step": 1}]


def test_a_number_that_is_none_is_null_in_every_file(tmp_path: Path) -> None:
    """NaN and Infinity are no JSON: other programs refuse a file that has them."""
    row = {"loss": float("nan"), "parts": [1.5, float("inf"), (float("-inf"), "NaN")]}
    expected = {"loss": None, "parts": [1.5, None, [None, "NaN"]]}
    write_json_atomically(tmp_path / "a.json", row)
    append_jsonl(tmp_path / "a.jsonl", row)

    def refuse(word: str) -> None:
        raise AssertionError(word)

    for file in ("a.json", "a.jsonl"):
        assert json.loads((tmp_path / file).read_text(), parse_constant=refuse) == expected
