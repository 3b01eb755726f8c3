"""Questions and answers in a text or a Markdown table are read as such, and what stands around them is named."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from sft_app.data.rows import Rejected, Row
from sft_app.data.sources.data_files import locate_data, read_rows
from sft_app.errors import DataError

PAIRS = [("How do I reset it?", "Hold the red button."), ("Is there parking?", "Behind the hall.")]
MARKED = [
    "Q: {}\nA: {}\n\nQ: {}\nA: {}\n",
    "# Help\n\n**Q1:** {}\n\n**A:** {}\n\n**Q2:** {}\n\n**A:** {}\n",
    "Frage: {}\nAntwort: {}\nFrage: {}\nAntwort: {}",
    "1. Question: {}\r\nAnswer: {}\r\n2. Question: {}\r\nAnswer: {}\r\n",
    "| Question | Answer |\n| --- | :--- |\n| {} | {} |\n| {} | {} |\n",
    "Question | Answer\n--- | ---\n{} | {}\n{} | {}\n",
]


def rows_of(folder: Path, name: str, text: str) -> tuple[list[Row | Rejected], list[str]]:
    path, notes = folder / name, []  # type: ignore[var-annotated]
    path.write_text(text, encoding="utf-8", newline="")
    return list(read_rows(locate_data(str(path)), notes=notes)), notes


@pytest.mark.parametrize("name", ["a.md", "a.txt"])
@pytest.mark.parametrize("text", MARKED)
def test_marked_questions_and_tables_are_pairs(text: str, name: str, tmp_path: Path) -> None:
    rows, notes = rows_of(tmp_path, name, text.format(*PAIRS[0], *PAIRS[1]))
    assert [tuple(row.values.values()) for row in rows if isinstance(row, Row)] == PAIRS
    assert notes


def test_answers_may_have_paragraphs_and_a_question_without_one_is_named(tmp_path: Path) -> None:
    rows, _ = rows_of(
        tmp_path, "a.txt", "Q: One?\nA: First.\n\nSecond.\nQ: Two?\nA: Yes.\nQ: Three?\nQ: Four?\nA: No.\n"
    )
    assert rows[0] == Row(1, {"question": "One?", "answer": "First.\n\nSecond."})
    assert rows[2] == Rejected(3, "the question “Three?” has no answer")
    assert rows[3] == Row(4, {"question": "Four?", "answer": "No."})


def test_text_around_a_table_is_named(tmp_path: Path) -> None:
    _, notes = rows_of(tmp_path, "a.md", "# Shop\n\n" + MARKED[4].format(*PAIRS[0], *PAIRS[1]) + "\nThe end.\n")
    assert any("2 lines outside the table" in note and "# Shop" in note for note in notes)


def test_points_of_a_list_are_no_pairs(tmp_path: Path) -> None:
    rows, _ = rows_of(tmp_path, "a.txt", "A: one\nB: two\nA: three")
    assert all(isinstance(row, Row) and row.values.keys() == {"text"} for row in rows)


def test_other_markup_is_refused_with_the_next_step(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="begins with `Q:`.*rename it to end in .txt"):
        rows_of(tmp_path, "a.md", "# Shop\n\nWe sell *lamps*.\n")


def test_readme_next_to_the_data_is_not_chosen(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("README.md", MARKED[4].format(*PAIRS[0], *PAIRS[1]))
        archive.writestr("data.csv", "question,answer\nHow?,So.\n")
    assert list(read_rows(tmp_path / "a.zip")) == [Row(1, {"question": "How?", "answer": "So."})]
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "README.md").write_text("# Data")
    (tmp_path / "folder" / "data.csv").write_text("question,answer\nHow?,So.\n")
    assert locate_data(str(tmp_path / "folder")).name == "data.csv"
