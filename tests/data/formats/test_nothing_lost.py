"""Whatever file is read: no text is lost without a word, nothing is reordered, and every column is named."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sft_app.data.checkup.fixes import RECOMMENDED, write_cleaned_copy
from sft_app.data.first_rows import first_rows
from sft_app.data.formats.reading_notes import used_columns
from sft_app.data.reading import DataFile, Reading, open_data
from sft_app.data.rows import Rejected
from sft_app.data.sources.data_files import SUFFIXES, data_suffix, read_rows
from sft_app.errors import DataError
from sft_app.settings import DataSettings

PROJECT = Path(__file__).resolve().parents[3]
SHARED = PROJECT.parent / "shared" / "data" / "layouts"
FILES = sorted((PROJECT / "examples" / "formats").iterdir())
SHARED_FILES = sorted(path for path in SHARED.glob("*") if data_suffix(path) in SUFFIXES and path.suffix != ".md")
WORD = re.compile(r"\w{4,}")


def opened(path: Path, folder: Path) -> DataFile | None:
    try:
        return open_data(DataSettings(data=str(path)), folder)
    except DataError:
        return None


def unnamed_columns(file: DataFile) -> list[str]:
    """List the columns that are neither read nor named in any sentence."""
    said = " ".join([*file.notes, file.candidates[0].why])
    used = used_columns(first_rows(file.path, file.settings.sheet).readable, file.settings)
    return [name for name in file.column_names if name and name not in used and f"`{name[:40]}" not in said]


def lost_words(file: DataFile) -> set[str]:
    """List the words of the columns that are read, in rows that are not skipped, that no conversation has."""
    reading = Reading(file)
    texts = " ".join(one.content for example in reading for one in example.conversation.messages)
    skipped = {one.row for one in reading.rejected}
    known = set(WORD.findall(texts)) | set(WORD.findall(" ".join(file.notes)))
    used = used_columns(first_rows(file.path, file.settings.sheet).readable, file.settings)
    lost: set[str] = set()
    for row in read_rows(file.path):
        if not isinstance(row, Rejected) and row.number not in skipped:
            cells = [value for name, value in row.values.items() if name in used and isinstance(value, str)]
            lost |= {word for cell in cells for word in WORD.findall(cell)} - known
    return lost


def rows_of_examples(file: DataFile) -> list[int]:
    return [example.row for example in Reading(file)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_each_layout_names_every_column_and_keeps_the_order(path: Path, tmp_path: Path) -> None:
    file = opened(path, tmp_path)
    assert file is not None
    assert unnamed_columns(file) == []
    rows = rows_of_examples(file)
    assert rows == sorted(rows) or file.joins_rows


def test_no_column_of_the_shared_files_is_unnamed(tmp_path: Path) -> None:
    files = {path.name: file for path in SHARED_FILES if (file := opened(path, tmp_path))}
    assert {name: columns for name, file in files.items() if (columns := unnamed_columns(file))} == {}


def test_conversations_of_the_shared_files_keep_their_order(tmp_path: Path) -> None:
    files = {path.name: file for path in SHARED_FILES if (file := opened(path, tmp_path)) and not file.joins_rows}
    rows = {name: rows_of_examples(file) for name, file in files.items()}
    assert [name for name, numbers in rows.items() if numbers != sorted(numbers)] == []


def is_table(file: DataFile) -> bool:
    """Return whether texts are in cells of their own, rather than in lists, ids or times."""
    return file.settings.format in ("columns", "question_answer", "alpaca", "dolly", "gpteacher", "gpt4all")


@pytest.mark.parametrize("paths", [FILES, SHARED_FILES], ids=["examples", "shared"])
def test_no_text_of_a_table_is_lost(paths: list[Path], tmp_path: Path) -> None:
    files = {path.name: file for path in paths if (file := opened(path, tmp_path)) and is_table(file)}
    assert {name: lost for name, file in files.items() if (lost := lost_words(file))} == {}


def answers_of(conversations: Iterator[Any]) -> list[str]:
    return [one.content for example in conversations for one in example.conversation.messages if one.trained]


@pytest.mark.parametrize("paths", [FILES, SHARED_FILES], ids=["examples", "shared"])
def test_fixes_change_no_row_that_they_do_not_name(paths: list[Path], tmp_path: Path) -> None:
    silent = []
    for path in paths:
        file = opened(path, tmp_path)
        try:
            cleaning = write_cleaned_copy(file, RECOMMENDED, tmp_path / "copy.jsonl") if file else None
        except DataError:
            continue
        if file is None or cleaning is None:
            continue
        named = {row for fix in cleaning.applied for row in fix.rows} | {one.row for one in cleaning.left_out}
        before = [(example.row, example.conversation) for example in Reading(file)]
        kept = Reading(open_data(DataSettings(data=str(tmp_path / "copy.jsonl"), format="messages"), tmp_path))
        after = {example.conversation for example in kept}
        silent += [f"{path.name}: {row}" for row, chat in before if row not in named and chat not in after]
    assert silent == []
