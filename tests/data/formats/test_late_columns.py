"""A column that is first filled far down in a file is read where the layout would read it, and otherwise named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sft_app.data import first_rows
from sft_app.data.reading import DataFile, Reading, load_data, open_data
from sft_app.errors import DataError
from sft_app.settings import DataSettings


def written(folder: Path, name: str, value: object, count: int = 300, columns: tuple[str, ...] = ()) -> DataFile:
    """Open a file of questions and answers in which only rows from 251 on fill the column."""
    path = folder / "late.jsonl"
    rows = [
        {"question": f"How long do I hold button {at}?", "answer": f"Hold button {at} for {at} seconds."}
        | ({name: value} if at >= 250 else {})
        for at in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return open_data(DataSettings(data=str(path), columns=columns), folder)


def spoken(file: DataFile, at: int) -> list[tuple[str, str]]:
    return [(one.role, one.content) for one in load_data(file).conversations[at].messages]


@pytest.mark.parametrize("columns", [(), ("user=question", "assistant=answer", "system=system")])
def test_late_system_prompt_is_read(tmp_path: Path, columns: tuple[str, ...]) -> None:
    file = written(tmp_path, "system", "Be brief.", columns=columns)
    assert spoken(file, -1)[0] == ("system", "Be brief.")
    assert [role for role, _ in spoken(file, 0)] == ["user", "assistant"]
    assert columns or any("read as the system prompt" in note for note in file.notes)


def test_late_context_is_read_with_the_question(tmp_path: Path) -> None:
    file = written(tmp_path, "context", "The button is red.")
    assert spoken(file, -1)[0] == ("user", "How long do I hold button 299?\nThe button is red.")
    assert spoken(file, 0)[0] == ("user", "How long do I hold button 0?")


def test_late_history_and_reasoning_are_read(tmp_path: Path) -> None:
    file = written(tmp_path, "history", [["Hello.", "Hi."]])
    assert [role for role, _ in spoken(file, -1)] == ["user", "assistant"] * 2
    file = written(tmp_path, "reasoning", "It is the long one.")
    assert spoken(file, -1)[-1][1].startswith("<think>\nIt is the long one.\n</think>")


def test_other_late_columns_are_named(tmp_path: Path) -> None:
    assert any("`remark`" in note for note in written(tmp_path, "remark", "Checked.").notes)
    chosen = written(tmp_path, "system", "Be brief.", columns=("user=question", "assistant=answer"))
    assert any(note.startswith("Not used, because") and "`system`" in note for note in chosen.notes)


def test_column_beyond_the_rows_that_are_looked_at_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_rows, "ROWS_COUNTED", 220)
    reading = Reading(written(tmp_path, "system", "Be brief."))
    assert len(list(reading)) == 300
    assert [(note[:21], len(rows)) for note, rows in reading.noted.items()] == [("read without `system`", 50)]


def test_named_column_that_no_row_has_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is no column `persona`; the columns are `question`, `answer`, `system`"):
        written(tmp_path, "system", "Be brief.", columns=("user=question", "assistant=answer", "system=persona"))
