"""A text file is read as what it is, whatever its ending, and a difference is said."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sft_app.data.rows import Rejected, Row
from sft_app.data.sources.json_files import READ_AS_PAIR, READ_AS_PYTHON
from sft_app.data.sources.lines import UnreadableFileError
from sft_app.data.sources.python_literals import MAX_LITERAL_BYTES
from sft_app.data.sources.text_files import read_text_rows

ROWS = [
    {"ask": "Open?", "reply": "It's [open], {yes}."},
    {"ask": "Closed?", "reply": "No."},
    {"ask": "a", "reply": "b"},
]
CHAT = [{"role": "user", "content": "Open?"}, {"role": "assistant", "content": "Yes."}]


def read(suffix: str, content: str) -> tuple[list[Any], list[str]]:
    notes: list[str] = []
    rows = list(read_text_rows(suffix, iter([content.encode()]), notes))
    return [row.values if isinstance(row, Row) else row for row in rows], notes


def json_lines(rows: list[Any], indent: int | None = None) -> str:
    return "\n".join(json.dumps(row, indent=indent) for row in rows)


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".txt", ".csv", ".tsv"])
@pytest.mark.parametrize(
    "content",
    [
        json.dumps(ROWS),
        json.dumps(ROWS, indent=2),
        json_lines(ROWS),
        json_lines(ROWS, indent=2),
        str(ROWS),
        "\n".join(map(str, ROWS)),
        str(ROWS).replace("}, {", "},\n {"),
        "array(" + str(ROWS).replace("}, {", "}\n {") + ", dtype=object)",
    ],
    ids=["list", "pretty list", "lines", "pretty objects", "python", "python lines", "python rows", "numpy"],
)
def test_json_and_python_are_read_under_any_ending(suffix: str, content: str):
    assert read(suffix, content)[0] == ROWS


def test_other_content_than_the_ending_says_is_said():
    assert read(".txt", json_lines(ROWS))[1] == ["The .txt file holds JSON Lines and is read as that."]
    assert read(".jsonl", json_lines(ROWS))[1] == []
    assert read(".jsonl", str(ROWS))[1] == ["The file holds a Python literal, not JSON; it is read as such."]


@pytest.mark.parametrize(
    "text", ["[INST] Open? [/INST] Yes.\nx", "[1] A note\n[2] Another", "{curly} words\nx", "[1]\ntext"]
)
def test_text_that_only_begins_like_json_stays_text(text: str):
    assert read(".txt", text) == ([{"text": line} for line in text.split("\n")], [])


def test_broken_first_line_costs_itself_only():
    rows, notes = read(".jsonl", '{"a": \n{"a": 2}\n')
    assert (rows[1], notes) == ({"a": 2}, [])


def test_lists_in_lines_are_messages_or_pairs():
    assert read(".jsonl", json_lines([CHAT, CHAT]))[0] == [{"messages": CHAT}] * 2
    assert read(".json", json.dumps([["Open?", "Yes."], ["Closed?", "No."]]))[0][1] == {
        "question": "Closed?",
        "answer": "No.",
    }


def test_names_in_front_of_pairs_are_no_pair():
    first, second = read(".json", json.dumps([["Question", "answer"], ["Open?", "Yes."]]))[0]
    assert first == Rejected(1, "it holds the names of columns, 'Question' and 'answer', not a pair of texts")
    assert second == {"question": "Open?", "answer": "Yes."}


def test_guess_about_a_row_is_noted_with_it():
    notes = [row.note for row in read_text_rows(".jsonl", iter([b"{'a': 'b'}\n[\"a\", \"b\"]\n"]), [])]
    assert notes == [READ_AS_PYTHON, READ_AS_PAIR]


def test_long_python_literal_is_refused():
    with pytest.raises(
        UnreadableFileError, match="^the file holds a Python literal, not JSON, of more than 2 MB; save"
    ):
        read(".json", "[" + "{'a': 'x'}, " * (MAX_LITERAL_BYTES // 10) + "]")


def test_table_in_a_txt_is_read_as_one():
    assert read(".txt", 'Ask\tReply\nOpen?\tYes\nClosed?\t"No,\nnever"\n') == (
        [{"Ask": "Open?", "Reply": "Yes"}, {"Ask": "Closed?", "Reply": "No,\nnever"}],
        ["The .txt file holds a table and is read as that."],
    )


@pytest.mark.parametrize(
    "text", ["Roses are red, violets blue\nSugar is sweet, so are you", "Hello, Ann\nGoodbye, Ben"]
)
def test_prose_with_commas_is_no_table(text: str):
    assert read(".txt", text)[0][0] == {"text": text.split("\n")[0]}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"train": ROWS, "test": ROWS[:1]}, "Only the rows under `train` are read, not those under `test` (1)."),
        ({"features": [{"name": "ask"}], "rows": [{"row_idx": 0, "row": row} for row in ROWS]}, "taken from `rows`"),
        (
            {"columns": ["ask", "reply"], "index": [0, 1, 2], "data": [list(row.values()) for row in ROWS]},
            "orient='split'",
        ),
        ({name: [row[name] for row in ROWS] for name in ROWS[0]}, "columns of 3 values each"),
        ({name: {str(i): row[name] for i, row in enumerate(ROWS)} for name in ROWS[0]}, "by row number, as pandas"),
        ({str(index): row for index, row in enumerate(ROWS)}, "an object of rows by id"),
        ({f"faq {index}": row for index, row in enumerate(ROWS)}, "an object of rows by id"),
    ],
)
def test_rows_are_found_in_the_object_around_them(value: Any, said: str):
    rows, notes = read(".json", json.dumps(value))
    assert rows == ROWS
    assert said in notes[0]


def test_questions_may_be_the_names_in_an_object():
    rows, notes = read(".json", json.dumps({"Are you open?": "Yes.", "Closed?": "No."}))
    assert rows == [{"question": "Are you open?", "answer": "Yes."}, {"question": "Closed?", "answer": "No."}]
    assert notes == ["Each name in the object is read as a question, and its text as the answer."]


@pytest.mark.parametrize(
    "row", [{"question": "a", "answer": "b"}, {"messages": CHAT}, {"a": {"x": 1}}, {"a": ["x"], "b": ["y"]}]
)
def test_single_object_that_is_a_row_stays_one(row: Any):
    assert read(".json", json.dumps(row, indent=1))[0] in ([row], CHAT)


def test_squad_gives_a_row_for_each_question():
    qas = [{"question": "Q1", "answers": [{"text": "A1"}]}, {"question": "Q2", "answers": []}]
    rows, notes = read(".json", json.dumps({"data": [{"title": "t", "paragraphs": [{"context": "C", "qas": qas}]}]}))
    assert rows == [{"question": "C\n\nQ1", "answer": "A1"}, {"question": "C\n\nQ2", "answer": None}]
    assert "SQuAD" in notes[0]
