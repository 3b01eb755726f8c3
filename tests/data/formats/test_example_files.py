"""The small files in examples/formats are read as their layouts, and lose nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from sft_app.data.formats.registry import LAYOUTS
from sft_app.data.reading import load_data, open_data
from sft_app.settings import DataSettings

FOLDER = Path(__file__).resolve().parents[3] / "examples" / "formats"
EXAMPLES = [(name, layout.name) for layout in LAYOUTS.values() for name in layout.examples]


def test_every_file_is_the_example_of_a_layout() -> None:
    assert sorted(path.name for path in FOLDER.iterdir()) == sorted(name for name, _ in EXAMPLES)


def test_every_layout_has_an_example() -> None:
    assert {format for _, format in EXAMPLES} == set(LAYOUTS)


@pytest.mark.parametrize(("name", "format"), EXAMPLES)
def test_file_is_read_as_its_layout(name: str, format: str, tmp_path: Path) -> None:
    loaded = load_data(open_data(DataSettings(data=str(FOLDER / name)), tmp_path))
    assert (loaded.file.settings.format, len(loaded.examples)) == (format, 3)
    assert [row for row in loaded.rejected if not row.by_choice] == []


def test_flat_rows_and_trees_are_the_same_conversations(tmp_path: Path) -> None:
    def conversations(name: str) -> set[object]:
        return set(load_data(open_data(DataSettings(data=str(FOLDER / name)), tmp_path)).conversations)

    assert conversations("oasst_rows.jsonl") == conversations("oasst_trees.jsonl")
