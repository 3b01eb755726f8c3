"""A folder of layouts that people bring, next to the project, is read as its list says; skipped where it is absent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sft_app.data.reading import load_data, open_data
from sft_app.errors import DataError
from sft_app.settings import DataSettings

FOLDER = Path(__file__).resolve().parents[4] / "shared" / "data" / "layouts"
LIST = FOLDER / "expected.json"
EXPECTED: dict[str, Any] = json.loads(LIST.read_text("utf-8")) if LIST.exists() else {}
LEAST_RIGHT = 130
"""Raise it with every layout that is added; how far each file is right is a matter of the whole command line."""


def is_right(name: str, entry: dict[str, Any], home: Path) -> bool:
    ways = [entry, *entry.get("or", [])]
    try:
        loaded = load_data(open_data(DataSettings(data=str(FOLDER / name)), home))
    except DataError:
        return any(way["want"] == "refuse" for way in ways)
    turns = [(one.role, " ".join(one.content.split())) for one in loaded.conversations[0].messages]
    firsts = [first for way in ways for first in way.get("first_any", [way.get("first", [])])]
    return any(turns == [(one["role"], " ".join(one.get("content", "").split())) for one in first] for first in firsts)


@pytest.mark.skipif(not EXPECTED, reason="the shared folder of layouts is absent")
def test_layouts_of_people_are_read_or_refused(tmp_path: Path) -> None:
    wrong = [name for name, entry in EXPECTED.items() if not is_right(name, entry, tmp_path)]
    assert len(EXPECTED) - len(wrong) >= LEAST_RIGHT, wrong
