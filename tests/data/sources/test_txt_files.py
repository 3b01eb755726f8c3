"""Plain text gives its paragraphs, or its lines if no blank line parts them."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest

from sft_app.data.rows import Rejected, Row
from sft_app.data.sources.txt_files import read_txt_rows


def rows_of(content: str | bytes) -> list[Any]:
    return list(read_txt_rows(iter([content if isinstance(content, bytes) else content.encode()])))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("one\ntwo\n\nthree\n", [(1, "one\ntwo"), (4, "three")]),
        ("one\r\ntwo\r\n\r\nthree", [(1, "one\ntwo"), (4, "three")]),
        ("\n\n  one\n \t\n\nthree", [(3, "  one"), (6, "three")]),
        ("one\ntwo\r\nthree\n\n", [(1, "one"), (2, "two"), (3, "three")]),
        ("\n one\ntwo", [(2, " one"), (3, "two")]),
        ("one\n" * 20_000 + "\ntwo", [(number, "one") for number in range(1, 20_001)] + [(20_002, "two")]),
        (" \n\n", []),
    ],
)
def test_rows_are_paragraphs_or_lines(content: str, expected: list[tuple[int, str]]):
    assert rows_of(content) == [Row(number, {"text": text}) for number, text in expected]


def test_paragraph_in_windows_1252_is_noted():
    content = b"plain\nGr\xf6\xdfe\n\nplain"
    assert rows_of(content) == [
        Row(1, {"text": "plain\nGröße"}, "read as Windows-1252 (check the accents)"),
        Row(4, {"text": "plain"}),
    ]


def test_damaged_paragraph_is_left_out():
    content = "plain\nGröße ".encode() + b"\xff\n\nplain\n\nzero\0"
    assert rows_of(content) == [
        Rejected(1, "on line 2 of the file, byte 9 of the line is not UTF-8; save the file again as UTF-8"),
        Row(4, {"text": "plain"}),
        Rejected(6, "line 6 of the file contains zero bytes; it is damaged or not text"),
    ]


@pytest.mark.parametrize("piece", [b"x" * 2**18, b"x" * (2**18 - 1) + b"\n"], ids=["one-line", "many-lines"])
def test_too_long_paragraph_is_told_and_not_held(piece: bytes):
    def blocks() -> Iterator[bytes]:
        yield b"one\n\n"
        yield from (piece for _ in range(200))
        yield b"\n\nthree"

    tracemalloc.start()
    first, long, last = read_txt_rows(blocks())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (first, last.values) == (Row(1, {"text": "one"}), {"text": "three"})
    assert long == Rejected(3, "52.4 MB long; a row can be at most 10 MB")
    assert peak < 25e6
