"""A log of calls to a model is read as chats: the turns of each request and the answer in its response."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sft_app.data.formats.converters.api_logs import log_columns
from sft_app.data.formats.converters.chat import from_messages, messages_columns
from sft_app.data.formats.detection import detect_layouts
from sft_app.data.messages import RawMessages, read_message
from sft_app.data.rows import JsonObject
from sft_app.errors import DataError
from sft_app.settings import DataSettings

SETTINGS = DataSettings(data="log.jsonl")
ASKED = [{"role": "user", "content": "Which filter fits?"}]
SAID = "The round one."
CHAT = [("user", "Which filter fits?"), ("assistant", SAID)]
RESPONSES = [
    {"choices": [{"index": 0, "message": {"role": "assistant", "content": SAID}}]},
    {"choices": [{"text": SAID}]},
    {"type": "message", "role": "assistant", "content": [{"type": "text", "text": SAID}]},
    {"candidates": [{"content": {"role": "model", "parts": [{"text": SAID}]}}]},
    {"object": "response", "output": [{"type": "message", "content": [{"type": "output_text", "text": SAID}]}]},
    {"message": {"role": "assistant", "content": SAID}, "done": True},
    {"status_code": 200, "body": {"choices": [{"message": {"role": "assistant", "content": SAID}}]}},
    [{"role": "assistant", "content": SAID}],
]
REQUESTS = [
    {"model": "m", "messages": ASKED},
    {"model": "m", "input": "Which filter fits?"},
    {"contents": [{"role": "user", "parts": [{"text": "Which filter fits?"}]}]},
    ASKED,
]


def read(row: JsonObject) -> list[tuple[str, str]]:
    """Return the roles and texts of the conversation in a row."""
    (messages,) = from_messages(row, SETTINGS)
    return _spoken(messages)


def _spoken(messages: RawMessages) -> list[tuple[str, str]]:
    made = [read_message(at, message) for at, message in enumerate(messages, start=1)]
    return [(one.role, one.content) for one in made]


@pytest.mark.parametrize("names", [("request", "response"), ("input", "output"), ("inputs", "outputs")])
@pytest.mark.parametrize("as_cell", [json.dumps, lambda value: value])
@pytest.mark.parametrize("response", RESPONSES)
def test_answer_is_read_from_the_response_of_each_api(names: tuple[str, str], as_cell: Any, response: Any) -> None:
    row = {names[0]: as_cell(REQUESTS[0]), names[1]: as_cell(response), "latency": 3}
    assert detect_layouts([row])[0].format == "turns"
    assert read(row) == CHAT
    assert {*names} <= {*messages_columns(row, SETTINGS)}


@pytest.mark.parametrize("request_", REQUESTS)
def test_turns_are_read_from_the_request_of_each_api(request_: Any) -> None:
    assert read({"request": json.dumps(request_), "response": RESPONSES[0]}) == CHAT
    assert read({"input": "Which filter fits?", "output": json.dumps(RESPONSES[0])}) == CHAT


def test_system_prompt_and_tools_of_the_request_are_read() -> None:
    body = {"system": "Be brief.", "messages": ASKED, "tools": [{"name": "find"}]}
    read_row = read({"request": json.dumps(body), "response": SAID})
    assert [role for role, _ in read_row] == ["system", "user", "assistant"]
    assert "Be brief." in read_row[0][1] and "find" in read_row[0][1]


def test_answer_that_is_json_stays_as_it_is() -> None:
    assert read({"input": json.dumps(ASKED), "output": '{"fits": true}'})[-1] == ("assistant", '{"fits": true}')
    assert log_columns({"input": '{"order": 3}', "output": '{"fits": true}'}) is None
    assert log_columns({"instruction": "Go on.", "input": json.dumps(ASKED), "output": SAID}) is None


def test_messages_are_answered_by_a_response_beside_them() -> None:
    assert read({"messages": ASKED, "response": SAID}) == CHAT
    assert read({"messages": ASKED, "response": json.dumps(RESPONSES[0])}) == CHAT
    assert "response" in messages_columns({"messages": ASKED, "response": SAID}, SETTINGS)
    whole = [*ASKED, {"role": "assistant", "content": SAID}]
    assert read({"messages": whole, "response": "another answer"}) == CHAT
    assert "response" not in messages_columns({"messages": whole, "response": "another answer"}, SETTINGS)


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        ({"error": {"message": "rate limit"}}, "without an answer"),
        ({"choices": [RESPONSES[0]["choices"][0]] * 2}, "2 answers"),  # type: ignore[call-overload]
        ({"candidates": []}, "without an answer"),
    ],
)
def test_response_without_one_answer_is_refused(response: JsonObject, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        read({"request": REQUESTS[0], "response": response})
