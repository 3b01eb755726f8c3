"""The layouts people bring become conversations, word for word; a row that does not fit says why."""

from __future__ import annotations

import re
from typing import Any

import pytest

from sft_app.data.conversation import make_conversation
from sft_app.data.formats.converters.tables import ColumnMap
from sft_app.data.formats.registry import converter
from sft_app.errors import DataError
from sft_app.settings import DataSettings

USER, ANSWER = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo!"}
SYSTEM = {"role": "system", "content": "Be."}


def convert(format: str, row: dict[str, Any], **settings: Any) -> list[dict[str, Any]]:
    """The messages of a row that holds one conversation."""
    chosen = DataSettings(format=format, **settings)  # type: ignore[arg-type]
    [messages] = converter(chosen)(row, chosen)
    return make_conversation(messages).as_dicts()


def turns(*contents: str) -> list[dict[str, str]]:
    """A question and its answer, with a system text first when there are three."""
    roles = ["system", "user", "assistant"][-len(contents) :]
    return [{"role": role, "content": content} for role, content in zip(roles, contents, strict=True)]


def assert_refused(format: str, row: dict[str, Any], reason: str, **settings: Any) -> None:
    with pytest.raises(DataError, match=f"^{re.escape(reason)}$"):
        convert(format, row, **settings)


# messages


@pytest.mark.parametrize("messages", [[USER, ANSWER], [SYSTEM, USER, ANSWER, USER, ANSWER]])
def test_messages_are_taken_as_they_are(messages: list[Any]):
    assert convert("messages", {"messages": messages, "id": 7}) == messages


OPENAI_TOOLS = {
    "messages": [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Weather"}, {"type": "text", "text": "in Köln?"}]},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Köln"}'}}
            ],
            "weight": 0,
        },
        {"role": "tool", "tool_call_id": "c1", "content": "12 °C"},
        {"role": "assistant", "content": "12 degrees.", "weight": 1},
    ],
    "tools": [{"type": "function", "function": {"name": "weather"}}],
    "parallel_tool_calls": False,
}


def test_openai_row_with_tools_keeps_all_of_it():
    tools = '# Tools\n<tools>\n[{"type": "function", "function": {"name": "weather"}}]\n</tools>'
    call = '<tool_call>\n{"name": "weather", "arguments": {"city": "Köln"}}\n</tool_call>'
    assert convert("messages", OPENAI_TOOLS) == [
        {"role": "system", "content": f"Be brief.\n\n{tools}"},
        {"role": "user", "content": "Weather\nin Köln?"},
        {"role": "assistant", "content": call, "weight": 0},
        {"role": "tool", "content": "12 °C"},
        {"role": "assistant", "content": "12 degrees."},
    ]


TOOLS = '# Tools\n<tools>\n[{"name": "f"}]\n</tools>'


@pytest.mark.parametrize(
    ("opening", "expected"),
    [
        ([], TOOLS),
        ([SYSTEM], f"Be.\n\n{TOOLS}"),
        ([{"role": "system", "content": [{"type": "text", "text": "Be."}]}], f"Be.\n{TOOLS}"),
        ([{"role": "system", "content": ""}], TOOLS),
        ([{"role": "system", "content": None}], TOOLS),
        ([{"from": "System", "value": "Be."}], f"Be.\n\n{TOOLS}"),
    ],
)
@pytest.mark.parametrize("tools", [[{"name": "f"}], '[{"name": "f"}]'], ids=["list", "text"])
def test_tools_stand_in_the_one_system_message(opening: list[Any], expected: str, tools: Any):
    row = {"messages": [*opening, USER, ANSWER], "tools": tools}
    assert convert("messages", row) == [{"role": "system", "content": expected}, USER, ANSWER]


@pytest.mark.parametrize("tools", [None, [], "", "[]", " [] ", "null"])
def test_no_tools_leave_no_trace(tools: Any):
    assert convert("messages", {"messages": [USER, ANSWER], "tools": tools}) == [USER, ANSWER]


@pytest.mark.parametrize("format", ["messages", "sharegpt"])
def test_system_column_stands_in_where_the_messages_have_none(format: str):
    other = {"role": "system", "content": "Be kind."}
    assert convert(format, {"messages": [USER, ANSWER], "system": "Be."}) == [SYSTEM, USER, ANSWER]
    assert convert(format, {"messages": [other, USER, ANSWER], "system": "Be."}) == [other, USER, ANSWER]
    assert convert(format, {"messages": [USER, ANSWER], "system": None}) == [USER, ANSWER]


@pytest.mark.parametrize("messages", [None, [], "Hi", {"role": "user"}, 3])
def test_messages_must_be_a_list(messages: Any):
    assert_refused("messages", {"messages": messages}, "`messages` must be a list with at least one message")


def test_messages_stand_in_the_column_that_holds_a_list():
    row = {"conversation": "c-17", "messages": None, "turns": [USER, ANSWER]}
    assert convert("messages", row) == [USER, ANSWER]


@pytest.mark.parametrize("message", [{"role": "system"}, {"from": "system"}])
def test_tools_may_be_all_that_the_system_says(message: Any):
    row = {"messages": [message, USER, ANSWER], "tools": [{"name": "f"}]}
    assert convert("messages", row) == [{"role": "system", "content": TOOLS}, USER, ANSWER]


@pytest.mark.parametrize(("content", "kind"), [(3, "a number"), ({"text": "Be."}, "an object")])
def test_tools_do_not_make_a_text_of_what_is_none(content: Any, kind: str):
    row = {"messages": [{"role": "system", "content": content}, USER, ANSWER], "tools": [{"name": "f"}]}
    assert_refused("messages", row, f"message 1 (system) has {kind} as content; expected text")


def test_picture_is_refused():
    picture = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "cat.png"}}]}
    reason = "message 1 (user) contains a part of type 'image_url'; only text can be trained on"
    assert_refused("messages", {"messages": [picture, ANSWER]}, reason)


# prompt_completion


@pytest.mark.parametrize(
    ("prompt", "completion", "expected"),
    [
        ("Hi", "Yo!", [USER, ANSWER]),
        ([USER], [ANSWER], [USER, ANSWER]),
        ([SYSTEM, USER], "Yo!", [SYSTEM, USER, ANSWER]),
        ("Hi", [ANSWER], [USER, ANSWER]),
        ([USER, ANSWER, USER], [ANSWER], [USER, ANSWER, USER, ANSWER]),
        ("Hi\n\n###\n\n", " Yo! END", turns("Hi\n\n###\n\n", " Yo! END")),
    ],
)
def test_prompt_and_completion_are_texts_or_messages(prompt: Any, completion: Any, expected: list[Any]):
    assert convert("prompt_completion", {"prompt": prompt, "completion": completion}) == expected


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": "Hi"}, "`completion` must be text or a list of messages, got nothing"),
        ({"prompt": 1, "completion": "Yo!"}, "`prompt` must be text or a list of messages, got a number"),
        ({"prompt": "Hi", "completion": " "}, "message 2 (assistant) is empty"),
        ({"prompt": [], "completion": []}, "it contains no message"),
        ({"prompt": [], "completion": [], "tools": ["f"]}, "there is no assistant message, so there is nothing to"),
        ({"prompt": [USER, ANSWER], "completion": "Yo!"}, "message 3 must come from the user, got 'assistant'"),
        ({"prompt": ["Hi"], "completion": "Yo!"}, "message 1 needs a `role` and a `content`"),
    ],
)
def test_prompt_and_completion_that_do_not_fit_are_told(row: dict[str, Any], reason: str):
    with pytest.raises(DataError, match=f"^{re.escape(reason)}"):
        convert("prompt_completion", row)


def test_prompt_and_completion_may_have_tools():
    row = {"prompt": [USER], "completion": [ANSWER], "tools": [{"name": "f"}]}
    assert convert("prompt_completion", row) == [{"role": "system", "content": TOOLS}, USER, ANSWER]


# text


@pytest.mark.parametrize("row", [{"text": " One\ntwo "}, {"id": 3, "content": " One\ntwo "}, {"lines": " One\ntwo "}])
def test_plain_text_is_one_message(row: dict[str, Any]):
    assert convert("text", row) == [{"role": "text", "content": " One\ntwo "}]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"text": ""}, "message 1 (text) is empty"),
        ({"text": None}, "`text` must be text, got nothing"),
        ({"text": 7}, "`text` must be text, got a number"),
        ({"a": "b", "c": "d"}, "`text` must be text, got nothing"),
        ({}, "`text` must be text, got nothing"),
    ],
)
def test_row_without_plain_text_is_told(row: dict[str, Any], reason: str):
    assert_refused("text", row, reason)


# well-known tables


@pytest.mark.parametrize(
    ("row", "question"),
    [
        ({"instruction": "Add.", "input": "1 + 2"}, "Add.\n1 + 2"),
        ({"instruction": "Add.", "input": ""}, "Add."),
        ({"instruction": "Add.", "input": None}, "Add."),
        ({"instruction": "Add.", "input": float("nan")}, "Add."),
        ({"instruction": "Add."}, "Add."),
        ({"instruction": "", "input": "1 + 2"}, "1 + 2"),
        ({"instruction": "Add.\n", "input": "  "}, "Add.\n"),
    ],
)
def test_alpaca_input_follows_the_instruction_on_a_new_line(row: dict[str, Any], question: str):
    assert convert("alpaca", {**row, "output": "3", "text": "Below is an instruction …"}) == turns(question, "3")


@pytest.mark.parametrize(
    ("format", "row", "expected"),
    [
        (
            "dolly",
            {"instruction": "Who?", "context": "Ann ran.", "response": "Ann", "category": "closed_qa"},
            turns("Who?\nAnn ran.", "Ann"),
        ),
        ("dolly", {"instruction": "Who?", "context": "", "response": "Ann"}, turns("Who?", "Ann")),
        ("gpteacher", {"instruction": "Act.", "input": "", "response": "Arr!"}, turns("Act.", "Arr!")),
        ("gpteacher", {"instruction": "Act.", "input": "Ship", "output": "Arr!"}, turns("Act.\nShip", "Arr!")),
        ("gpt4all", {"prompt": "<p>Why?</p>", "response": "So.", "source": "so"}, turns("<p>Why?</p>", "So.")),
        ("question_answer", {"question": "Why?", "answer": "So."}, turns("Why?", "So.")),
        ("question_answer", {"question": "Why?", "response": "So."}, turns("Why?", "So.")),
        ("question_answer", {"query": "Why?", "answer": "So."}, turns("Why?", "So.")),
        ("question_answer", {"query": "Why?", "response": "So."}, turns("Why?", "So.")),
        (
            "question_answer",
            {"id": "flan.1", "system_prompt": "Explain.", "question": "Why?", "response": "So."},
            turns("Explain.", "Why?", "So."),
        ),
        ("question_answer", {"system_prompt": "", "question": "Why?", "response": "So."}, turns("Why?", "So.")),
    ],
)
def test_table_becomes_a_question_and_its_answer(format: str, row: dict[str, Any], expected: list[Any]):
    assert convert(format, row) == expected


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"instruction": "Add."}, "`output` must be text, got nothing"),
        ({"output": "3"}, "`instruction` must be text, got nothing"),
        ({"instruction": "Add.", "output": 3}, "`output` must be text, got a number"),
        ({"instruction": "Add.", "output": float("nan")}, "`output` must be text, got nothing"),
        ({"instruction": "Add.", "input": ["1"], "output": "3"}, "`input` must be text, got a list"),
        ({"instruction": "Add.", "output": ""}, "`output`, the answer, is empty"),
        ({"instruction": "", "input": "", "output": "3"}, "`instruction`, the question, is empty"),
    ],
)
def test_row_of_a_table_that_does_not_fit_is_told(row: dict[str, Any], reason: str):
    assert_refused("alpaca", row, reason)


# sharegpt


def test_sharegpt_names_of_the_speakers_are_known():
    spoken = [{"from": "system", "value": "Be."}, {"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yo!"}]
    assert convert("sharegpt", {"id": "identity_0", "conversations": spoken}) == [SYSTEM, USER, ANSWER]


def test_sharegpt_function_call_and_observation_are_turns():
    row = {
        "conversations": [
            {"from": "human", "value": "Weather?"},
            {"from": "function_call", "value": '{"name": "f", "arguments": {}}'},
            {"from": "observation", "value": "12 °C"},
            {"from": "gpt", "value": "12 degrees."},
        ],
        "system": "Be.",
        "tools": '[{"name": "f"}]',
    }
    assert convert("sharegpt", row) == [
        {"role": "system", "content": f"Be.\n\n{TOOLS}"},
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>'},
        {"role": "tool", "content": "12 °C"},
        {"role": "assistant", "content": "12 degrees."},
    ]


def test_sharegpt_that_only_greets_is_told():
    row = {"conversations": [{"from": "gpt", "value": "Yo!"}, {"from": "human", "value": "Hi"}]}
    assert_refused("sharegpt", row, "the last message must come from the assistant, got 'user'")


# columns


def test_named_columns_are_taken():
    row = {"Frage": "Wie?", "Antwort": "So.", "Ton": "Höflich.", "Text": "Aus dem Buch", "Nr": 3}
    columns = ("user=Frage", "assistant=Antwort", "system=Ton", "context=Text")
    assert convert("columns", row, columns=columns) == turns("Höflich.", "Wie?\nAus dem Buch", "So.")


@pytest.mark.parametrize(("value", "text"), [(3, "3"), (2.5, "2.5"), (True, "True"), (0, "0")])
def test_number_in_a_named_column_is_text(value: Any, text: str):
    row = {"q": "How many?", "a": value}
    assert convert("columns", row, columns=("user=q", "assistant=a")) == turns("How many?", text)


@pytest.mark.parametrize("empty", [None, "", " ", float("nan")])
def test_empty_cells_beside_question_and_answer_are_left_out(empty: Any):
    row = {"q": "Why?", "a": "So.", "s": empty, "c": empty}
    columns = ("user=q", "assistant=a", "system=s", "context=c")
    assert convert("columns", row, columns=columns) == turns("Why?", "So.")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"q": "Why?"}, "there is no column `a`; the columns are q"),
        ({"q": "Why?", "first\nline": ""}, "there is no column `a`; the columns are q, first line"),
        ({name: "" for name in "qbcdefghij"}, "there is no column `a`; the columns are q, b, c, d, e, f, g, h …"),
        ({"q": "Why?", "a": None}, "`a` must be text, got nothing"),
        ({"q": "Why?", "a": float("nan")}, "`a` must be text, got nothing"),
        ({"q": "Why?", "a": ["So."]}, "`a` must be text, got a list"),
        ({"q": "Why?", "a": ""}, "`a`, the answer, is empty"),
    ],
)
def test_row_without_a_named_column_is_told(row: dict[str, Any], reason: str):
    assert_refused("columns", row, reason, columns=("user=q", "assistant=a"))


def test_columns_without_names_are_asked_for():
    reason = (
        "No columns have been chosen for the question and the answer. "
        "Choose them with user=COLUMN and assistant=COLUMN."
    )
    assert_refused("columns", {"q": "Why?"}, reason)


def test_column_map_comes_back_from_the_settings():
    columns = ColumnMap("a=b", "Antwort", context="c d")
    assert columns.entries() == ("user=a=b", "assistant=Antwort", "context=c d")
    assert ColumnMap(**DataSettings(columns=columns.entries()).column_map()) == columns


@pytest.mark.parametrize("name", ["history", "Chat History", "conversation_history"])
@pytest.mark.parametrize(
    ("history", "expected"),
    [
        ("User: Hi\nBot: Hello\nthere", ["Hi", "Hello\nthere", "Open?"]),
        ([["Hi", "Hello"]], ["Hi", "Hello", "Open?"]),
        ("earlier: Hi / Hello", ["earlier: Hi / Hello\nOpen?"]),
        ("Bot: Hello\nUser: Hi", ["Bot: Hello\nUser: Hi\nOpen?"]),
        (["Hi"], ["Hi\nOpen?"]),
        ("[]", ["Open?"]),
        (None, ["Open?"]),
    ],
)
def test_history_comes_before_the_question(name: str, history: Any, expected: list[str]):
    row = {name: history, "question": "Open?", "answer": "Yes."}
    settings = DataSettings(format="question_answer")
    messages = converter(settings)(row, settings)[0]
    assert [message["content"] for message in messages] == [*expected, "Yes."]


def test_history_that_cannot_be_read_is_told():
    row = {"history": {"seen": [1, 2]}, "question": "Open?", "answer": "Yes."}
    settings = DataSettings(format="question_answer")
    with pytest.raises(DataError, match="`history` contains an object that is no list of turns"):
        converter(settings)(row, settings)
    with pytest.raises(DataError, match="the question, is empty"):
        converter(settings)({**row, "history": "Hi", "question": " "}, settings)
