"""Pasted text is stored under a name that says what it looks like, and recent files say when they came."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

import pytest

from sft_app.data.reading import load_data, open_data
from sft_app.settings import parse_settings
from sft_app.ui.data.quick_sources import described, pasted_name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("question\tanswer\nHi\tHello, you", "pasted.tsv"),
        ('\n {"prompt": "Hi", "completion": "Hello, you"}', "pasted.jsonl"),
        ('[{"prompt": "Hi", "completion": "Hello, you"}]', "pasted.jsonl"),
        ("question,answer\nHi,Hello you\nBye,Until then", "pasted.txt"),
        ("question;answer\nHi;Hello, you\nBye;Until then", "pasted.txt"),
    ],
)
def test_pasted_rows_are_read_as_what_they_look_like(text: str, name: str, home: Path, tmp_path: Path) -> None:
    assert pasted_name(text) == name
    (tmp_path / name).write_text(text)
    loaded = load_data(open_data(parse_settings({"data": str(tmp_path / name)}).reading(), home), 10)
    assert loaded.conversations[0].question() == "Hi"
    assert loaded.conversations[0].answers()[0].startswith("Hello")


@pytest.mark.parametrize(
    ("now", "day"),
    [("2026-03-05T23:59", "today"), ("2026-03-06T00:01", "yesterday"), ("2026-04-01T12:00", "5 March 2026")],
)
def test_a_recent_file_says_when_it_came(now: str, day: str, tmp_path: Path) -> None:
    file = tmp_path / "tickets.csv"
    file.touch()
    stored = datetime(2026, 3, 5, 14, 5).timestamp()
    os.utime(file, (stored, stored))
    assert described(file, datetime.fromisoformat(now)) == f"tickets.csv ({day}, 14:05)"
