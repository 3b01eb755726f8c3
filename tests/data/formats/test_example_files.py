"""The small files in examples/formats are read as their names say, and lose nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from sft_app.data.reading import load_data, open_data
from sft_app.settings import DataSettings

FOLDER = Path(__file__).resolve().parents[3] / "examples" / "formats"
EXPECTED = {
    "alpaca.json": ("alpaca", 3),
    "code_contests.json": ("code_contests", 2),
    "dolly.jsonl": ("dolly", 3),
    "gpt4all.jsonl": ("gpt4all", 3),
    "gpteacher.json": ("gpteacher", 3),
    "messages.jsonl": ("messages", 3),
    "oasst_rows.jsonl": ("oasst", 3),
    "oasst_trees.jsonl": ("oasst", 3),
    "own_columns.tsv": ("columns", 3),
    "preference.jsonl": ("preference", 3),
    "prompt_completion.jsonl": ("prompt_completion", 3),
    "question_answer.csv": ("question_answer", 3),
    "sharegpt.json": ("sharegpt", 3),
    "text.txt": ("text", 3),
}


def test_there_is_a_file_for_every_expectation() -> None:
    assert sorted(path.name for path in FOLDER.iterdir()) == sorted(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_file_is_read_as_its_name_says(name: str, tmp_path: Path) -> None:
    loaded = load_data(open_data(DataSettings(data=str(FOLDER / name)), tmp_path))
    assert (loaded.file.settings.format, len(loaded.examples)) == EXPECTED[name]
    assert [row for row in loaded.rejected if not row.by_choice] == []


def test_flat_rows_and_trees_are_the_same_conversations(tmp_path: Path) -> None:
    def conversations(name: str) -> set[object]:
        return set(load_data(open_data(DataSettings(data=str(FOLDER / name)), tmp_path)).conversations)

    assert conversations("oasst_rows.jsonl") == conversations("oasst_trees.jsonl")
