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


@pytest.mark.parametrize(
    ("instruction", "text", "answer"),
    [("prompt", "article", "summary"), ("question", "context", "answer"), ("Task", "Text", "Output")],
)
def test_constant_instruction_is_a_part_of_every_question(instruction: str, text: str, answer: str) -> None:
    [best] = detect_layouts(table(**{answer: ANSWER, text: QUESTION, instruction: "Say it in one line."}))
    assert best.columns == (f"user={instruction}", f"assistant={answer}", f"context={text}")
    assert best.is_certain and "left out" not in best.why


@pytest.mark.parametrize(
    "columns",
    [
        {"Rolle": ["Kunde", "Berater"], "Text": QUESTION},
        {"title": "Help with {} please.", "selftext": QUESTION, "comments": [[{"body": "lol"}]]},
        {"question": QUESTION, "passage": ANSWER, "answer": [True, False]},
    ],
)
def test_nobody_is_told_to_learn_a_role_a_title_or_a_passage(columns: dict[str, Any]) -> None:
    with pytest.raises(DataError) as refusal:
        detect_layouts(table(**columns))
    assert "assistant=" not in str(refusal.value)


@pytest.mark.parametrize(
    ("first", "second"),
    [("unsafe_response", "safe_response"), ("Old answer", "New answer"), ("init_response", "revision_response")],
)
def test_example_names_the_answer_that_a_person_wants(first: str, second: str) -> None:
    rows = [{"prompt": QUESTION.format(n), first: NOTE.format(n), second: ANSWER.format(n)} for n in range(12)]
    with pytest.raises(DataError, match=f'--map "assistant={second}"'):
        detect_layouts(rows)


def test_name_of_a_column_is_never_cut_in_an_example() -> None:
    name = "What the customers of our shop in Malta asked us by letter"
    rows = [{name: QUESTION.format(n), "Old answer": NOTE.format(n), "New answer": ANSWER.format(n)} for n in range(12)]
    with pytest.raises(DataError) as refusal:
        detect_layouts(rows)
    assert f'--map "user={name}"' in str(refusal.value) or "--map " not in str(refusal.value)


@pytest.mark.parametrize("answers", ["{}", ["A", "B"], ["Yes", "No"], list(range(12))])
@pytest.mark.parametrize(("question", "answer"), [("Problem", "Answer"), ("question", "answer"), ("Frage", "Antwort")])
def test_short_answer_is_read_whatever_its_header(question: str, answer: str, answers: Any) -> None:
    rows = table(**{question: QUESTION, answer: answers})
    [best] = detect_layouts(rows)
    assert not best.is_certain
    rows = table(**{question: QUESTION, answer: answers, "explanation": "Because of {}, as we know well."})
    best = detect_layouts(rows)[0]
    assert (best.columns or best.format) in ((f"user={question}", f"assistant={answer}"), "question_answer")


@pytest.mark.parametrize(
    ("columns", "example"),
    [
        ({"input": QUESTION, "ai_draft": NOTE, "sent_text": ANSWER}, "assistant=sent text"),
        ({"question": QUESTION, "ground_truth": ANSWER, "response": NOTE}, "assistant=ground truth"),
        ({"Article_Body": ANSWER, "Article_Title": QUESTION}, "assistant=Article Body"),
        ({"diff": QUESTION, "commit_message": ANSWER}, "assistant=commit message"),
    ],
)
def test_columns_that_compete_are_asked_about(columns: dict[str, str], example: str) -> None:
    with pytest.raises(DataError, match=f"could each be.*{example}"):
        detect_layouts(table(**columns))


@pytest.mark.parametrize(
    ("system", "question", "answer"),
    [
        ("system_instruction", "question", "answer"),
        ("instructions", "input", "output"),
        ("systemInstruction", "user_input", "model_output"),
    ],
)
@pytest.mark.parametrize("told", ["Answer as pirate number {} would.", ["Answer as a pirate would."]])
def test_system_prompt_has_many_names(system: str, question: str, answer: str, told: Any) -> None:
    [best] = detect_layouts(table(**{system: told, question: QUESTION, answer: ANSWER}))
    expected = [f"user={question}", f"assistant={answer}", f"system={system}"]
    assert best.columns == tuple(column.replace("_", " ") for column in expected) and best.is_certain
    assert "left out" not in best.why


def test_instructions_alone_are_the_question() -> None:
    assert columns_of(table(instructions=QUESTION, output=ANSWER)) == ("user=instructions", "assistant=output")
