"""The layouts people bring become conversations; no row is lost on the way."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from sft_app.data.formats import ROWS_LOOKED_AT, detect_format, from_alpaca, from_messages, load_conversations
from sft_app.data.formats import from_prompt_completion as from_pair
from sft_app.data.sources import Rejected
from sft_app.errors import DataError

SAMPLES = Path(__file__).parents[2] / ".." / "shared" / "data"
USER, ANSWER = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo!"}
SYSTEM = {"role": "system", "content": "Be."}
GOOD = {"messages": [USER, ANSWER]}
BAD = {"messages": [USER]}


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write(rows: list[Any], name: str = "a.jsonl") -> Path:
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        (tmp_path / name).write_text("".join(line + "\n" for line in lines))
        return tmp_path / name

    return write


# one row


@pytest.mark.parametrize("messages", [[USER, ANSWER], [SYSTEM, USER, ANSWER, USER, ANSWER]])
def test_messages_are_taken_as_they_are(messages: list[Any]):
    assert from_messages({"messages": messages, "id": 7}).as_dicts() == messages


@pytest.mark.parametrize("messages", [None, [], "Hi", {"role": "user"}, 3])
def test_messages_must_be_a_list(messages: Any):
    with pytest.raises(DataError, match=r"^`messages` must be a list with at least one message$"):
        from_messages({"messages": messages})


@pytest.mark.parametrize(
    ("prompt", "completion", "expected"),
    [
        ("Hi", "Yo!", [USER, ANSWER]),
        ([USER], [ANSWER], [USER, ANSWER]),
        ([SYSTEM, USER], "Yo!", [SYSTEM, USER, ANSWER]),
        ("Hi", [ANSWER], [USER, ANSWER]),
        ([USER, ANSWER, USER], [ANSWER], [USER, ANSWER, USER, ANSWER]),
        ([USER], [ANSWER, USER, ANSWER], [USER, ANSWER, USER, ANSWER]),
    ],
)
def test_prompt_and_completion_are_texts_or_messages(prompt: Any, completion: Any, expected: list[Any]):
    assert from_pair({"prompt": prompt, "completion": completion}).as_dicts() == expected


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": "Hi"}, "`completion` must be a text or a list of messages, got NoneType"),
        ({"completion": "Yo!"}, "`prompt` must be a text or a list of messages, got NoneType"),
        ({"prompt": 1, "completion": "Yo!"}, "`prompt` must be a text or a list of messages, got int"),
        ({"prompt": "Hi", "completion": " "}, "message 2 (assistant) is empty"),
        ({"prompt": [], "completion": []}, "there is no assistant message, so there is nothing to learn from"),
        ({"prompt": [USER, ANSWER], "completion": "Yo!"}, "message 3 must come from the user, got 'assistant'"),
        ({"prompt": ["Hi"], "completion": "Yo!"}, 'message 1 is not {"role": …, "content": …}'),
    ],
)
def test_prompt_and_completion_that_do_not_fit_are_told(row: dict[str, Any], reason: str):
    with pytest.raises(DataError, match=f"^{re.escape(reason)}$"):
        from_pair(row)


@pytest.mark.parametrize(
    ("row", "question"),
    [
        ({"instruction": "Add.", "input": "1 + 2"}, "Add.\n1 + 2"),
        ({"instruction": "Add.", "input": ""}, "Add."),
        ({"instruction": "Add.", "input": None}, "Add."),
        ({"instruction": "Add."}, "Add."),
        ({"instruction": "", "input": "1 + 2"}, "1 + 2"),
        ({"instruction": "Add.\n", "input": "  "}, "Add.\n"),
    ],
)
def test_alpaca_input_follows_the_instruction_on_a_new_line(row: dict[str, Any], question: str):
    assert from_alpaca({**row, "output": "3"}).as_dicts() == [
        {"role": "user", "content": question},
        {"role": "assistant", "content": "3"},
    ]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"instruction": "Add."}, "`output` must be a text, got NoneType"),
        ({"output": "3"}, "`instruction` must be a text, got NoneType"),
        ({"instruction": "Add.", "output": 3}, "`output` must be a text, got int"),
        ({"instruction": "Add.", "input": ["1"], "output": "3"}, "`input` must be a text, got list"),
        ({"instruction": "Add.", "output": ""}, "message 2 (assistant) is empty"),
        ({"instruction": "", "input": "", "output": "3"}, "message 1 (user) is empty"),
    ],
)
def test_alpaca_row_that_does_not_fit_is_told(row: dict[str, Any], reason: str):
    with pytest.raises(DataError, match=f"^{re.escape(reason)}$"):
        from_alpaca(row)


# the layout


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([{"messages": []}], "messages"),
        ([{"prompt": 1, "completion": 2, "id": 3}], "prompt_completion"),
        ([{"instruction": "", "output": "", "input": ""}], "alpaca"),
        ([{"instruction": "", "output": ""}], "alpaca"),
        ([{"note": ""}, {"prompt": "a"}, {"instruction": "", "output": ""}], "alpaca"),
        ([{"instruction": "", "output": "", "messages": []}], "messages"),
    ],
)
def test_layout_is_the_first_whose_columns_are_all_there(rows: list[dict[str, Any]], expected: str):
    assert detect_format(rows) == expected


@pytest.mark.parametrize(
    ("rows", "columns"),
    [
        ([{"question": "a", "answer": "b"}], "answer, question"),
        ([{"prompt": "a"}, {"completion": "b"}], "completion, prompt"),
        ([{}], r"\(none\)"),
        ([], r"\(none\)"),
    ],
)
def test_unknown_layout_is_told_with_the_columns_there_are(rows: list[dict[str, Any]], columns: str):
    expected = r"\(messages; completion \+ prompt; instruction \+ output"
    with pytest.raises(DataError, match=rf"^The columns {columns} fit no known layout {expected}"):
        detect_format(rows)


# a file


def test_every_row_is_a_conversation_or_left_out_with_its_reason(write: Any):
    loaded = load_conversations(write([GOOD, "", BAD, "oops", GOOD, {"note": 1}]))
    assert loaded.format == "messages"
    assert [conversation.as_dicts() for conversation in loaded.conversations] == [[USER, ANSWER]] * 2
    assert loaded.row_numbers == [1, 5]
    assert loaded.rejected == [
        Rejected(3, "there is no assistant message, so there is nothing to learn from"),
        Rejected(4, "not JSON: Expecting value at column 1"),
        Rejected(6, "`messages` must be a list with at least one message"),
    ]
    assert loaded.rows == 5


def test_rows_after_those_looked_at_are_loaded_too(write: Any):
    loaded = load_conversations(write([GOOD] * (ROWS_LOOKED_AT + 7) + [BAD]))
    assert loaded.row_numbers == list(range(1, ROWS_LOOKED_AT + 8))
    assert [row.row for row in loaded.rejected] == [ROWS_LOOKED_AT + 8]


def test_given_format_is_not_guessed(write: Any):
    row = {"messages": [USER, ANSWER], "instruction": "Add.", "output": "3"}
    loaded = load_conversations(write([row]), "alpaca")
    assert loaded.format == "alpaca"
    assert loaded.conversations[0].as_dicts()[1]["content"] == "3"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", '{"prompt": "Hi", "completion": "Yo!"}\n'),
        ("a.json", '[{"prompt": "Hi", "completion": "Yo!"}]'),
        ("a.csv", "prompt,completion\nHi,Yo!\n"),
        ("b.csv", "id,instruction,input,output\n1,Hi,,Yo!\n"),
    ],
)
def test_same_conversation_comes_from_every_kind_of_file(tmp_path: Path, name: str, content: str):
    (tmp_path / name).write_text(content)
    assert [item.as_dicts() for item in load_conversations(tmp_path / name).conversations] == [[USER, ANSWER]]


def test_csv_row_with_too_few_cells_is_left_out(tmp_path: Path):
    (tmp_path / "a.csv").write_text("prompt,completion\nHi,Yo!\nHi\n")
    loaded = load_conversations(tmp_path / "a.csv")
    assert loaded.row_numbers == [1]
    assert loaded.rejected == [Rejected(2, "`completion` must be a text or a list of messages, got NoneType")]


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([""], r"^a\.jsonl has no readable row \(no rows\)\.$"),
        (["oops", "["], r"^a\.jsonl has no readable row \(row 1: not JSON: Expecting value at column 1\)\.$"),
        ([BAD, GOOD["messages"]], r"^a\.jsonl has no usable conversation\. Row 1: there is no assistant message"),
        ([{"text": "Hi"}], r"^The columns text fit no known layout"),
    ],
)
def test_file_without_a_conversation_is_told(write: Any, rows: list[Any], reason: str):
    with pytest.raises(DataError, match=reason):
        load_conversations(write(rows))


@pytest.mark.parametrize("format", ["auto", "messages"])
def test_unreadable_beginning_does_not_hide_the_rows_after_it(write: Any, format: str):
    loaded = load_conversations(write(["# a comment"] * ROWS_LOOKED_AT + [GOOD]), format)
    assert loaded.row_numbers == [ROWS_LOOKED_AT + 1]
    assert len(loaded.rejected) == ROWS_LOOKED_AT


def test_row_with_half_of_an_emoji_is_left_out(write: Any):
    """JSON can spell it, but no tokenizer takes it and no UTF-8 file holds it."""
    broken = '{"messages": [{"role": "user", "content": "Hi \\ud83d"}, {"role": "assistant", "content": "Yo!"}]}'
    loaded = load_conversations(write([GOOD, broken, GOOD]))
    assert loaded.row_numbers == [1, 3]
    assert [row.row for row in loaded.rejected] == [2]


def test_public_alpaca_rows_all_become_conversations():
    path = SAMPLES / "alpaca.json"
    if not path.is_file():
        pytest.skip("the public samples are not on this machine")
    loaded = load_conversations(path)
    rows = json.loads(path.read_text(encoding="utf-8"))
    assert (loaded.format, loaded.rows, loaded.rejected) == ("alpaca", 200, [])
    assert [item.as_dicts()[1]["content"] for item in loaded.conversations] == [row["output"] for row in rows]
    assert all(
        item.as_dicts()[0]["content"].startswith(row["instruction"])
        for item, row in zip(loaded.conversations, rows, strict=True)
    )
