"""The layout is found from the rows themselves; where two readings are possible, both are offered with reasons."""

from __future__ import annotations

import re
from typing import Any

import pytest

from sft_app.data.conversation import make_conversation
from sft_app.data.formats.detection import ENOUGH_ROWS, DetectedLayout, detect_layouts
from sft_app.data.formats.registry import converter
from sft_app.errors import DataError
from sft_app.settings import DataSettings

Rows = list[dict[str, Any]]

TURNS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo!"}]
SPOKEN = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yo!"}]
FLAT = {"message_id": "1", "parent_id": None, "text": "Hi", "role": "prompter", "lang": "en"}
TREE = {"message_tree_id": "1", "prompt": {"text": "Hi", "role": "prompter", "replies": []}}
CONTEST = {"name": "Sum", "description": "Add.", "solutions": {"language": [3], "solution": ["print(1)"]}}


def table(columns: str, rows: int = 6) -> Rows:
    """Rows with text that changes, the later columns the longer."""
    names = columns.split()
    return [
        {name: f"{name} in row" + " and on" * (row + 10 * i) for i, name in enumerate(names)} for row in range(rows)
    ]


def formats(rows: Rows) -> list[str]:
    return [guess.format for guess in detect_layouts(rows)]


def columns_of(guesses: list[DetectedLayout]) -> list[tuple[str, ...]]:
    return [guess.columns for guess in guesses if guess.format == "columns"]


# known layouts


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"messages": TURNS}, ["messages"]),
        ({"messages": TURNS, "tools": [], "prompt": "Hi"}, ["messages"]),
        ({"conversation_id": "7", "conversation": TURNS}, ["messages"]),
        ({"chat": "c-17", "turns": TURNS}, ["messages"]),
        ({"id": "identity_0", "conversations": SPOKEN}, ["sharegpt"]),
        (FLAT, ["oasst"]),
        (TREE, ["oasst"]),
        (CONTEST, ["code_contests"]),
        ({"prompt": "Hi", "completion": "Yo!"}, ["prompt_completion"]),
        ({"prompt": TURNS[:1], "completion": TURNS[1:]}, ["prompt_completion"]),
        ({"instruction": "Add.", "input": "1", "output": "1"}, ["alpaca"]),
        ({"instruction": "Add.", "input": "", "output": "1"}, ["alpaca"]),
        ({"instruction": "Add.", "output": "1"}, ["alpaca"]),
        ({"instruction": "Add.", "input": "1", "output": "1", "text": "Below …"}, ["alpaca", "text"]),
        ({"instruction": "Who?", "context": "", "response": "Ann", "category": "qa"}, ["dolly"]),
        ({"instruction": "Act.", "input": "", "response": "Arr!"}, ["gpteacher"]),
        ({"prompt": "Why?", "response": "So.", "source": "so"}, ["gpt4all"]),
        ({"question": "Why?", "answer": "So."}, ["question_answer"]),
        ({"query": "Why?", "response": "So."}, ["question_answer"]),
        ({"id": "1", "system_prompt": "", "question": "Why?", "response": "So."}, ["question_answer"]),
        ({"text": "Once upon a time"}, ["text"]),
        ({"id": 7, "content": "Once upon a time"}, ["text"]),
        ({"line": "Once upon a time"}, ["text"]),
    ],
)
@pytest.mark.parametrize("rows", [1, ENOUGH_ROWS - 1])
def test_layout_is_known_by_its_own_rows(row: dict[str, Any], expected: list[str], rows: int):
    assert formats([row] * rows) == expected


def test_some_odd_rows_do_not_hide_the_layout():
    assert formats([{"messages": TURNS}, {}, {"messages": None}, {"messages": TURNS}]) == ["messages"]


def test_reason_names_the_columns():
    [guess] = detect_layouts([{"instruction": "Who?", "context": "", "response": "Ann"}])
    assert guess == DetectedLayout("dolly", "the columns `instruction`, `response`, `context` are those of Dolly")


def test_input_that_is_seldom_filled_is_not_constant():
    """One row of 50 with an input; to read the table without it would lose it."""
    rows: Rows = [{"instruction": f"Do {i}.", "input": "3 < 4" if i == 7 else "", "output": "Yes"} for i in range(50)]
    assert formats(rows) == ["alpaca"]


# the table of a customer support team


def support_table(rows: int, context: str = "You help customers.") -> Rows:
    return [
        {
            "role": "agent",
            "context": context.format(row),
            "instruction": f"Where is order {row}?",
            "category": "orders",
            "response": f"Order {row} is on its way.",
        }
        for row in range(rows)
    ]


def test_constant_context_is_left_out_first_and_offered_second():
    first, second = detect_layouts(support_table(10))
    assert (first.format, first.columns) == ("columns", ("user=instruction", "assistant=response"))
    assert first.why == (
        "`instruction` is answered by `response`; `role`, `category` contain the same text in all 10 rows checked and "
        "can be left out; `context` contains the same text in all 10 rows checked and is not used"
    )
    assert (second.format, second.columns) == ("dolly", ())
    assert second.why.endswith(", with `context` added to every question")


def test_changing_context_is_dollys():
    [guess] = detect_layouts(support_table(10, context="The customer bought {} things."))
    assert guess.format == "dolly"
    assert guess.why.endswith("; `role`, `category` contain the same text in all 10 rows checked and can be left out")


def test_few_rows_do_not_make_a_column_constant():
    assert formats(support_table(4)) == ["dolly"]


def test_guess_for_the_support_table_reads_it():
    rows = support_table(5)
    guess = detect_layouts(rows)[0]
    settings = DataSettings(format=guess.format, columns=guess.columns)  # type: ignore[arg-type]
    [messages] = converter(settings)(rows[3], settings)
    assert make_conversation(messages).as_dicts() == [
        {"role": "user", "content": "Where is order 3?"},
        {"role": "assistant", "content": "Order 3 is on its way."},
    ]


# tables of one's own


@pytest.mark.parametrize(
    ("columns", "user", "assistant"),
    [
        ("Frage Antwort", "Frage", "Antwort"),
        ("Antwort Frage", "Frage", "Antwort"),
        ("Kundenanfrage Lösung", "Kundenanfrage", "Lösung"),
        ("Demande Réponse", "Demande", "Réponse"),
        ("Question Re\u0301ponse", "Question", "Re\u0301ponse"),
        ("Pregunta Respuesta", "Pregunta", "Respuesta"),
        ("Consulta Solución", "Consulta", "Solución"),
        ("Question Answer", "Question", "Answer"),
        ("customer_message agent_reply", "customer_message", "agent_reply"),
        ("agent_message user_message", "user_message", "agent_message"),
        ("name_of_customer question reply remarks", "question", "reply"),
        ("q a", "q", "a"),
        ("problem solution", "problem", "solution"),
    ],
)
def test_headings_tell_the_question_from_the_answer(columns: str, user: str, assistant: str):
    [guess] = detect_layouts(table(columns))
    assert (guess.format, guess.columns) == ("columns", (f"user={user}", f"assistant={assistant}"))
    assert guess.why == f"`{user}` looks like the question and `{assistant}` like the answer"


@pytest.mark.parametrize(
    ("columns", "user", "assistant", "basis"),
    [
        ("left right", "left", "right", "their lengths"),
        ("left Antwort", "left", "Antwort", "the name of one of them"),
        ("Antwort right", "right", "Antwort", "the name of one of them"),
        ("Frage right", "Frage", "right", "the name of one of them"),
        ("left Frage", "Frage", "left", "the name of one of them"),
    ],
)
def test_unlabelled_columns_give_both_readings(columns: str, user: str, assistant: str, basis: str):
    first, second = detect_layouts(table(columns))
    assert first.columns == (f"user={user}", f"assistant={assistant}")
    assert first.why == f"`{user}` looks like the question and `{assistant}` like the answer, judging by {basis}"
    assert second == DetectedLayout(
        "columns", "the same two columns the other way round", (f"user={assistant}", f"assistant={user}"), False
    )
    assert not first.is_certain


def test_of_columns_as_long_the_first_is_the_question():
    rows: Rows = [{"left": f"the {row}", "right": f"and {row}"} for row in range(6)]
    assert detect_layouts(rows)[0].columns == ("user=left", "assistant=right")


@pytest.mark.parametrize(
    "value",
    [
        "T-{}",
        "{}",
        "2024-01-0{}",
        "2024-01-0{}T10:00:00Z",
        "01.0{}.2024 10:15",
        "550e8400-e29b-41d4-a716-44665544000{}",
        "ann{}@example.org",
        "ann@example.org",
        "https://example.org/{}",
        "",
        "always the same",
        None,
        7,
    ],
)
@pytest.mark.parametrize("name", ["question_id", "message", "Antwort"])
def test_ids_dates_addresses_and_constants_are_never_taken(value: Any, name: str):
    filled = [value.format(row) if isinstance(value, str) else value for row in range(6)]
    rows = [{name: cell, **row} for cell, row in zip(filled, table("left right"), strict=True)]
    assert columns_of(detect_layouts(rows)) == [
        ("user=left", "assistant=right"),
        ("user=right", "assistant=left"),
    ]


def test_column_that_is_mostly_empty_is_not_taken():
    rows = table("left right Frage", rows=10)
    for row in rows[:5]:
        row["Frage"] = ""
    assert detect_layouts(rows)[0].columns == ("user=left", "assistant=right")


def test_column_without_a_name_is_not_taken():
    rows = [{"": row["left"] * 9, **row} for row in table("left right")]
    assert detect_layouts(rows)[0].columns == ("user=left", "assistant=right")


def test_column_named_text_may_also_be_plain_text():
    assert formats(table("title text")) == ["columns", "columns", "text"]


# nothing fits


@pytest.mark.parametrize(
    ("rows", "columns"),
    [
        ([], "(none)"),
        ([{}], "(none)"),
        ([{"a": 1, "b": 2}], "`a`, `b`"),
        ([{"price": "3.50", "date": "2024-01-02"}], "`price`, `date`"),
        ([{"prompt": 1, "completion": None}], "`prompt`, `completion`"),
        ([{"first\nline": 1, "n" * 50: 2}], f"`first line`, `{'n' * 40}…`"),
        ([{f"c{i}": i for i in range(8)}], "`c0`, `c1`, `c2`, `c3`, `c4`, `c5`, `c6`, `c7`"),
        (
            [{f"c{i}": i for i in range(10_000)}] * 2,
            "`c0`, `c1`, `c2`, `c3`, `c4`, `c5`, `c6`, `c7` and 9,992 more",
        ),
    ],
)
def test_unknown_layout_is_told_with_some_of_its_columns(rows: Rows, columns: str):
    expected = (
        f"The columns {columns} match no known layout. "
        "Provide a question and its answer in two text columns, or a list of `messages`."
    )
    with pytest.raises(DataError, match=f"^{re.escape(expected)}$"):
        detect_layouts(rows)


def test_object_of_questions_and_answers_is_to_be_a_list_of_rows() -> None:
    with pytest.raises(DataError, match="Write it as a list of rows"):
        detect_layouts([{"How do I water it?": "Twice a week.", "Where does it stand?": "In the shade."}])
