"""Chats that are written as text are read as turns, and what separates them is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from sft_app.data.rows import Rejected, Row
from sft_app.data.sources.data_files import locate_data, read_rows
from sft_app.data.sources.lines import HEAD_BYTES

TWO = [[("user", "Hi"), ("assistant", "Hello")], [("user", "Is it\nlate?"), ("assistant", "No.")]]
ONE = [[*TWO[0], *TWO[1]]]


def rows_of(folder: Path, text: str) -> tuple[list[Row | Rejected], list[str]]:
    path, notes = folder / "chats.txt", []  # type: ignore[var-annotated]
    path.write_text(text, encoding="utf-8", newline="")
    return list(read_rows(locate_data(str(path)), notes=notes)), notes


def turns_of(rows: list[Row | Rejected]) -> list[list[tuple[str, str]]]:
    kept = [row for row in rows if isinstance(row, Row)]
    assert len(kept) == len(rows)
    return [[(turn["role"], turn["content"]) for turn in row.values["messages"]] for row in kept]


@pytest.mark.parametrize(
    ("text", "expected", "said"),
    [
        ("User: Hi\nAssistant: Hello\n\nUser: Is it\nlate?\nAssistant: No.\n", TWO, "Blank lines separate"),
        ("Customer: Hi\nAgent: Hello\nCustomer: Is it\nlate?\nAgent: No.", ONE, "one conversation"),
        ("Human: Hi\n\nAI: Hello\n\nHuman: Is it\nlate?\n\nAI: No.\n", ONE, "one conversation"),
        ("User: Hi\nBot: Hello\n---\nUser: Is it\nlate?\n\nBot: No.\n---\n", TWO, "such as `---`"),
        ("**User:** Hi\r\n**Assistant:** Hello\r\n\r\n**User:** Is it\r\nlate?\r\n**Assistant:** No.", TWO, "Blank"),
        ("用户：Hi\n助手：Hello\n\n用户：Is it\nlate?\n助手：No.\n".replace("：", "： "), TWO, "Blank"),
    ],
)
def test_turns_begin_with_who_speaks(
    text: str, expected: list[list[tuple[str, str]]], said: str, tmp_path: Path
) -> None:
    rows, notes = rows_of(tmp_path, text)
    assert turns_of(rows) == expected
    assert any("holds a chat" in note for note in notes) and any(said in note for note in notes)


def test_a_part_that_begins_with_no_speaker_is_named(tmp_path: Path) -> None:
    """Far behind the beginning of the file, from which the separators are found out."""
    count = HEAD_BYTES // 10
    rows, _ = rows_of(tmp_path, "User: a\nBot: b\n---\n" * count + "The end.\n")
    assert len(rows) == count + 1
    assert rows[-1] == Rejected(3 * count + 1, "it begins with no speaker: “The end.”")


@pytest.mark.parametrize(
    "text",
    [
        "The user: a short story.\nIt begins here.",
        "User: nobody answers\nUser: again",
        "Agent: Good day.\nHe said so twice.\nCustomer: Good day.",  # one turn each: prose with dialogue
        "Ann: Hi\nBob: Hello\nAnn: Bye\nBob: Bye",  # a play, or people: nothing says who the assistant is
    ],
)
def test_other_texts_stay_texts(text: str, tmp_path: Path) -> None:
    rows, _ = rows_of(tmp_path, text)
    assert all(isinstance(row, Row) and row.values.keys() == {"text"} for row in rows)
