"""Any file of text becomes lines of UTF-8, within bounds of memory; what is no text is refused."""

from __future__ import annotations

import bz2
import gzip
import io
import itertools
import lzma
import time
import tracemalloc
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from sft_app.data.sources.lines import (
    BOMB_BYTES,
    HEAD_BYTES,
    MAX_ROW_BYTES,
    TooLong,
    UndecodableError,
    UnreadableFileError,
    decode_line,
    limit_report_rate,
    split_lines,
    take_head,
)
from sft_app.data.sources.packed_files import find_member
from sft_app.data.sources.text_blocks import text_blocks


def text_of(path: Path, content: bytes) -> bytes:
    path.write_bytes(content)
    return b"".join(text_blocks(path))


# encodings


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_text_comes_as_utf8_without_its_mark(tmp_path: Path, encoding: str):
    text = "Größe 🌱\r\nzwei\n" * 50_000  # several blocks, so that characters are cut between them
    assert text_of(tmp_path / "a.txt", text.encode(encoding)) == text.encode()


@pytest.mark.parametrize("bom", [b"\xff\xfe", b"\xfe\xff"])
def test_utf16_is_read_in_either_byte_order(tmp_path: Path, bom: bytes):
    assert (
        text_of(tmp_path / "a.txt", bom + "né".encode("utf-16-le" if bom[0] == 0xFF else "utf-16-be")) == "né".encode()
    )


def test_text_before_a_fault_in_utf16_is_kept(tmp_path: Path):
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe" + "one\ntwo\n".encode("utf-16-le") + b"\x00\xd8x\x00")
    blocks = text_blocks(tmp_path / "a.txt")
    assert next(blocks) == b"one\ntwo\n"
    with pytest.raises(
        UnreadableFileError, match="^the text is not the UTF-16 it claims to be; save the file again as UTF-8$"
    ):
        next(blocks)


def test_lines_ended_by_cr_alone_are_lines(tmp_path: Path):
    assert text_of(tmp_path / "a.csv", b"a,b\r1,2\r") == b"a,b\n1,2\n"


def test_cr_before_lf_is_left_to_the_reader(tmp_path: Path):
    assert text_of(tmp_path / "a.csv", b"a\r\nb\r\n") == b"a\r\nb\r\n"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"plain", ("plain", "")),
        ("Größe".encode(), ("Größe", "")),
        ("Größe".encode("latin-1"), ("Größe", "read as Windows-1252 (check the accents)")),
        (b"\x93quoted\x94 \x80 5", ("“quoted” € 5", "read as Windows-1252 (check the accents)")),
    ],
)
def test_line_that_is_no_utf8_is_read_as_windows_1252(line: bytes, expected: tuple[str, str]):
    assert decode_line(line) == expected


@pytest.mark.parametrize(
    ("line", "bad"),
    [
        ("Größe".encode() + b" \xff", 9),
        (b"\x81 is no letter of Windows-1252", 1),
        ("a Каждый".encode("cp1251"), 3),
    ],
)
def test_damaged_line_is_not_guessed(line: bytes, bad: int):
    with pytest.raises(UndecodableError, match=f"^byte {bad} of the line is not UTF-8; save the file again as UTF-8$"):
        decode_line(line)


# what is no text


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"\xff\xfe", "the file is empty"),
        (b"PK\x03\x04rest of a workbook", "a ZIP, Excel or Word file"),
        (gzip.compress(b"x", mtime=0), "compressed with gzip; add .gz to its name"),
        (b"PAR1....PAR1", "a Parquet file"),
        (b"%PDF-1.7", "a PDF file"),
        (b"\0" * 5000, "binary data or zero bytes"),
        (bytes(range(256)) * 4, "binary data or zero bytes"),
    ],
)
def test_what_is_no_text_is_refused(tmp_path: Path, content: bytes, reason: str):
    with pytest.raises(UnreadableFileError, match=reason):
        text_of(tmp_path / "a.csv", content)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 66\n", "a Git LFS pointer, not the data"),
        (b"\n<!doctype HTML>\n<html>", "a saved web page"),
        (b'<?xml version="1.0"?><a/>', "an XML file"),
        (b'{\n "cells": [\n  {\n   "cell_type": "code"', "a Jupyter notebook"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 500, "an Excel or Word file in the old format"),
    ],
)
def test_text_that_only_stands_for_data_is_refused(tmp_path: Path, content: bytes, reason: str):
    with pytest.raises(UnreadableFileError, match=reason):
        text_of(tmp_path / "a.jsonl", content)


# lines


@given(st.binary(max_size=60), st.integers(1, 9))
def test_lines_do_not_depend_on_the_blocks(content: bytes, size: int):
    blocks = (content[place : place + size] for place in range(0, len(content), size))
    expected = content.split(b"\n")
    assert list(split_lines(blocks)) == (expected if expected[-1] else expected[:-1])


@pytest.mark.parametrize("size", [MAX_ROW_BYTES, MAX_ROW_BYTES + 1])
def test_line_up_to_the_limit_is_read(size: int):
    content = b"a\n" + b"x" * size + b"\nb"
    blocks = (content[place : place + 2**18] for place in range(0, len(content), 2**18))
    first, long, last = split_lines(blocks)
    assert (first, last) == (b"a", b"b")
    assert long == (b"x" * size if size == MAX_ROW_BYTES else TooLong(size))


def test_long_line_is_not_held():
    blocks = itertools.chain(itertools.repeat(b"x" * 2**18, 200), [b"\nshort\n"])
    tracemalloc.start()
    assert list(split_lines(blocks)) == [TooLong(200 * 2**18), b"short"]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 25e6, "a 52 MB line"
    assert TooLong(200 * 2**18).reason == "52.4 MB long; a row can be at most 10 MB"


def test_head_is_put_back():
    head, blocks = take_head(iter([b"x" * HEAD_BYTES, b"rest"]))
    assert head == b"x" * HEAD_BYTES
    assert list(blocks) == [head, b"rest"]


def test_fault_behind_the_head_waits_for_its_turn():
    def blocks() -> Iterator[bytes]:
        yield b"good"
        raise UnreadableFileError("cut")

    head, whole = take_head(blocks())
    assert (head, next(whole)) == (b"good", b"good")
    with pytest.raises(UnreadableFileError, match="^cut$"):
        next(whole)


# gzip


def test_gzip_is_unpacked_whatever_its_members(tmp_path: Path):
    content = b"".join(b"%d\n" % number for number in range(300_000))
    packed = gzip.compress(content[:1_000_000]) + gzip.compress(b"") + gzip.compress(content[1_000_000:]) + b"\0" * 512
    assert text_of(tmp_path / "a.txt.gz", packed) == content


@pytest.mark.parametrize("size", [2**18 - 1, 2**18, 2**18 + 1, 2**19])
def test_gzip_that_ends_with_a_block_is_whole(tmp_path: Path, size: int):
    assert len(text_of(tmp_path / "a.txt.gz", gzip.compress(b"x" * size))) == size


def test_text_before_the_cut_of_a_gzip_is_kept(tmp_path: Path):
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"one\ntwo\n", mtime=0)[:-8])
    blocks = text_blocks(tmp_path / "a.txt.gz")
    assert next(blocks) == b"one\ntwo\n"
    with pytest.raises(
        UnreadableFileError, match="^the .gz file is cut off after 8 decompressed bytes; compress or download it again$"
    ):
        next(blocks)


def test_file_that_is_no_gzip_is_told(tmp_path: Path):
    with pytest.raises(
        UnreadableFileError, match="^the .gz file is not gzip, or damaged; compress or download it again$"
    ):
        text_of(tmp_path / "a.csv.gz", b"a,b\n1,2\n")


def test_damage_behind_a_gzip_is_told_after_its_text(tmp_path: Path):
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"one\n") + b"garbage")
    blocks = text_blocks(tmp_path / "a.txt.gz")
    assert next(blocks) == b"one\n"
    with pytest.raises(UnreadableFileError, match="^the .gz file is damaged after 4 decompressed bytes"):
        next(blocks)


def test_gzip_bomb_is_stopped(tmp_path: Path):
    megabyte = gzip.compress(b'{"a": "' + b"x" * (2**20 - 10) + b'"}\n')
    (tmp_path / "a.jsonl.gz").write_bytes(megabyte * 300)
    unpacked = 0
    with pytest.raises(
        UnreadableFileError,
        match="^the .gz file decompresses to more than 100 times its size; decompress it yourself first$",
    ):
        for block in text_blocks(tmp_path / "a.jsonl.gz"):
            unpacked += len(block)
    assert BOMB_BYTES - 2**20 < unpacked <= BOMB_BYTES


def test_small_gzip_may_unpack_to_many_times_its_size(tmp_path: Path):
    packed = gzip.compress(b"x" * 10_000_000)
    assert len(packed) * 500 < 10_000_000
    assert len(text_of(tmp_path / "a.txt.gz", packed)) == 10_000_000


@pytest.mark.parametrize(
    ("suffix", "pack"), [(".bz2", bz2.compress), (".xz", lzma.compress), (".zst", zstandard.compress)]
)
def test_other_compressions_are_unpacked_and_their_faults_told(tmp_path: Path, suffix: str, pack: Any):
    content = b"".join(b"%d\n" % number for number in range(100_000))
    path = tmp_path / f"a.txt{suffix}"
    assert text_of(path, pack(content[:300_000]) + pack(content[300_000:])) == content
    with pytest.raises(UnreadableFileError, match=rf"^the {suffix} file is not .*, or damaged; compress or download"):
        text_of(path, b"a,b\n1,2\n" * 9)
    with pytest.raises(UnreadableFileError, match=f"^the {suffix} file is (cut off|damaged) after"):
        text_of(path, pack(content)[:-10])


@pytest.mark.parametrize(
    ("suffix", "pack"), [(".bz2", bz2.compress), (".xz", lzma.compress), (".zst", zstandard.compress)]
)
def test_other_bombs_are_stopped(tmp_path: Path, suffix: str, pack: Any):
    path = tmp_path / f"a.txt{suffix}"
    path.write_bytes(pack(b"x" * 2**24) * 17)
    with pytest.raises(UnreadableFileError, match=f"^the {suffix} file decompresses to more than 100 times"):
        for _ in text_blocks(path):
            pass


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def test_zip_with_one_data_file_is_read(tmp_path: Path):
    files = {"shop/faq.csv": b"a\n1\n", "__MACOSX/shop/._faq.csv": b"\0", "shop/readme.md": b"x", "shop/.x.csv": b"x"}
    path = zipped(tmp_path / "a.zip", files)
    assert b"".join(text_blocks(path)) == b"a\n1\n"
    assert find_member(path) == "shop/faq.csv"


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        (
            {"a.csv": b"x", "b.csv": b"x"},
            "^the .zip file has several data files: a.csv, b.csv; unzip it and choose one$",
        ),
        ({"a.png": b"x"}, "^there is no data file in the .zip file, only a.png; it must hold one"),
        ({}, "^the .zip file is empty$"),
    ],
)
def test_zip_without_the_one_data_file_is_refused(tmp_path: Path, files: dict[str, bytes], reason: str):
    with pytest.raises(UnreadableFileError, match=reason):
        list(text_blocks(zipped(tmp_path / "a.zip", files)))


def test_damaged_zip_and_zip_bomb_are_refused(tmp_path: Path):
    path = zipped(tmp_path / "a.zip", {"a.csv": b"x" * (BOMB_BYTES + 2**18)})
    with pytest.raises(UnreadableFileError, match="^the .zip file decompresses to more than 100 times its size"):
        for _ in text_blocks(path):
            pass
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UnreadableFileError, match="^the .zip file is damaged or cut off"):
        list(text_blocks(path))


# progress


def test_progress_rises_to_the_end_of_the_packed_file(tmp_path: Path):
    shares: list[float] = []
    noise = io.BytesIO()
    with gzip.GzipFile(fileobj=noise, mode="wb", compresslevel=0) as file:
        file.write(b"text\n" * 200_000)
    (tmp_path / "a.txt.gz").write_bytes(noise.getvalue())
    for _ in text_blocks(tmp_path / "a.txt.gz", shares.append):
        time.sleep(0.06)
    assert len(shares) >= 3
    assert shares == sorted(shares)
    assert shares[-1] == 1


def test_progress_is_told_seldom_and_at_the_end():
    shares: list[float] = []
    tell = limit_report_rate(shares.append)
    for step in range(1000):
        tell(step / 1000)
    tell(1.0)
    assert len(shares) < 20
    assert (shares[0], shares[-1]) == (0.0, 1.0)
