"""Names decide between columns of sentences before their lengths do; where two compete, the app asks."""

from __future__ import annotations

from typing import Any

import pytest

from sft_app.data.formats.detection import detect_layouts
from sft_app.errors import DataError

Rows = list[dict[str, Any]]

QUESTION = "My kettle number {} leaks at the base, what can I do?"
ANSWER = "Please send a photo of kettle {}, and we will send you a new seal."
NOTE = "From page {} of the handbook, written in spring."


def table(**columns: Any) -> Rows:
    """Twelve rows; `{}` in a text becomes the number of its row, and `_` in a name a blank; lists are repeated."""
    return [
        {
            name.replace("_", " "): cells.format(n) if isinstance(cells, str) else cells[n % len(cells)]
            for name, cells in columns.items()
        }
        for n in range(12)
    ]


def columns_of(rows: Rows) -> tuple[str, ...]:
    return detect_layouts(rows)[0].columns


@pytest.mark.parametrize(
    ("question", "note", "answer"),
    [
        ("request", "response_time", "reply_text"),
        ("question", "answer_source", "answer_text"),
        ("question", "answered_by", "answer_content"),
        ("Frage", "Antwort_intern", "Antwort_an_Kunden"),
    ],
)
def test_fact_about_an_answer_is_not_the_answer(question: str, note: str, answer: str) -> None:
    rows = table(**{question: QUESTION, note: NOTE, answer: ANSWER})
    assert columns_of(rows) == (f"user={question}".replace("_", " "), f"assistant={answer}".replace("_", " "))
