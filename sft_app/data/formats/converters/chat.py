"""Convert rows that contain messages, either a list or a prompt and a completion, to message lists."""

from __future__ import annotations

import re
from typing import Any

from sft_app.data.formats.converters.api_logs import answer_in, is_response, log_columns, logged_call
from sft_app.data.formats.converters.turn_shapes import find_shape, shaped_messages
from sft_app.data.messages import RawMessages, kind_of, plain_role, role_name, role_named, role_of
from sft_app.data.rows import JsonObject
from sft_app.data.sources.python_literals import parsed_cell
from sft_app.data.tool_calls import TOOL_COLUMNS, definitions_text
from sft_app.errors import DataError
from sft_app.settings import DataSettings

MESSAGE_LIST_COLUMNS = (
    *("messages", "conversations", "conversation", "dialogue", "dialog", "turns", "chat", "contents", "chat_messages"),
    *(
        "mensajes",
        "mensagens",
        "messaggi",
        "nachrichten",
        "mapping",
        "internal",
        "segments",
        "utterances",
        "data",
        "text",
    ),
)
SHORT_TEXT = 20
ROW_OBJECTS = ("data", "request", "body", "conversation", "chat", "sample", "item", "row")
"""Objects that may hold a row's messages, one level down."""
NUMBERED = re.compile(r"([A-Za-z]+)[ _-]?(\d+)")
SYSTEM_COLUMNS = (
    *("system", "system_prompt", "system_message", "systemInstruction", "system_instruction", "meta_instruction"),
    "instructions",
)


def from_messages(row: JsonObject, settings: DataSettings) -> list[RawMessages]:
    """Convert `{"messages": [{"role", "content"}, …]}` or any other list of turns (`turn_shapes`).

    A `system` text and the definitions in `tools` or `functions` go into the system message.

    Raises:
        DataError: the row has no list of messages.
    Source: OpenAI fine-tuning format; TRL conversational format; lm-sys/FastChat, dummy data (ShareGPT);
    LLaMA-Factory, data/README.md (`system` and `tools`).
    """
    turns = row.get("messages") if len(row) == 1 and not settings.assistant else None
    if isinstance(turns, list) and turns and all(map(plain_role, turns)):  # most files hold nothing else
        return [turns]
    if call := logged_call(row):
        return [with_tools(with_system(with_speakers(call.messages, settings), system_text(call.body)), call.body)]
    holder = unwrapped(row)
    column = message_list_column(holder)
    messages = with_speakers(shaped_messages(holder.get(column)) or numbered_turns(row), settings)
    if not messages:
        raise DataError(f"`{column}` must be a list with at least one message")
    if _is_answered_by_response(row, messages):
        messages = [*messages, *answer_in(row["response"], "response")]
    return [with_tools(with_system(messages, system_text(holder)), holder)]


def with_speakers(messages: RawMessages, settings: DataSettings) -> RawMessages:
    """Give the turns of the person named in the setting `assistant` the role assistant, and the others that of user."""
    wanted = settings.assistant.strip().lower()
    if not wanted:
        return messages
    return [
        {**turn, "role": "assistant" if str(role_name(turn)).strip().lower() == wanted else role_of(turn) or "user"}
        if isinstance(turn, dict)
        else turn
        for turn in messages
    ]


def unwrapped(row: JsonObject) -> JsonObject:
    """Return the object that holds a row's messages: the row, or one in it such as `data` or a log's `request`."""
    if find_shape(row.get(message_list_column(row))):
        return row
    objects = [row[name] for name in ROW_OBJECTS if isinstance(row.get(name), dict)]
    return next((one for one in objects if find_shape(one.get(message_list_column(one)))), row)


def system_text(row: JsonObject) -> str:
    """Return the text of a row's system prompt, which may be a list of parts; "" if it has none."""
    return next((text for name in SYSTEM_COLUMNS if (text := _text_of(row.get(name))).strip()), "")


def _text_of(value: Any) -> str:
    if isinstance(value, dict):
        value = value.get("parts", value.get("text", value.get("content")))
    if isinstance(value, str):
        return value.removeprefix("SYSTEM: ")
    if isinstance(value, list):
        return "\n".join(_text_of(part) for part in value)
    return ""


def _is_answered_by_response(row: JsonObject, messages: RawMessages) -> bool:
    """Return whether the answer to a row's messages is in its `response`."""
    response = row.get("response")
    is_open = bool(messages) and role_of(messages[-1]) in ("user", "tool")
    return bool(response) and (is_response(response) or is_open and isinstance(response, str))


def from_prompt_completion(row: JsonObject, settings: DataSettings) -> list[RawMessages]:
    """Convert `{"prompt", "completion"}`, each a text or a list of messages.

    Raises:
        DataError: one of them is something else.
    Source: TRL, "Dataset formats".
    """
    messages = _turns(row.get("prompt"), "user", "prompt") + _turns(row.get("completion"), "assistant", "completion")
    return [with_tools(with_system(messages, system_text(row)), row)]


def message_list_column(row: JsonObject) -> str:
    """Find the column that holds a row's messages: the first of the usual names that contains a list of turns."""
    is_table = isinstance(row.get("columns"), list)  # pandas' `columns`, `index` and `data`
    present = [name for name in MESSAGE_LIST_COLUMNS if name in row and not (name == "data" and is_table)]
    fits = (name for name in present if (name != "text" or _is_alone(row, name)) and find_shape(row[name]))
    return next(fits, (present or ["messages"])[0])


def _is_alone(row: JsonObject, column: str) -> bool:
    """Return whether a row's only longer text is in this column, so that it does not repeat other columns."""
    others = (value for name, value in row.items() if name != column)
    return not any(isinstance(value, str) and len(value) > SHORT_TEXT for value in others)


def messages_columns(row: JsonObject, settings: DataSettings) -> list[str]:
    """List the columns that `from_messages` reads."""
    if numbered := _numbered_columns(row):
        return [*numbered, *SYSTEM_COLUMNS]
    if logged := log_columns(row):
        return [*logged]
    column = message_list_column(row)
    turns = shaped_messages(row.get(column))
    nested = ["response"] if _is_answered_by_response(row, turns) else []
    nested += [] if turns else [name for name in (*ROW_OBJECTS, "response") if name in row]
    return [column, *nested, *SYSTEM_COLUMNS, *TOOL_COLUMNS]


def prompt_completion_columns(row: JsonObject, settings: DataSettings) -> list[str]:
    """List the columns that `from_prompt_completion` reads."""
    return ["prompt", "completion", *SYSTEM_COLUMNS, *TOOL_COLUMNS]


def role_column(row: JsonObject) -> str:
    """Return the column that holds messages with `role`; "" if there is none."""
    return _column_of_turns(row, "role")


def from_column(row: JsonObject) -> str:
    """Return the column that holds ShareGPT's turns with `from`; "" if there is none."""
    return _column_of_turns(row, "from")


def turns_column(row: JsonObject) -> str:
    """Return the column that holds turns in any other shape; "" if there is none."""
    if numbered := _numbered_columns(row):
        return numbered[0]
    if logged := log_columns(row):
        return logged[0]
    holder = unwrapped(row)
    column = message_list_column(holder)
    return column if find_shape(holder.get(column)) else ""


def numbered_turns(row: JsonObject) -> RawMessages:
    """Read columns such as `user_1`, `bot_1`, `user_2`, `bot_2` as turns; empty ones end the conversation earlier."""
    turns = [(NUMBERED.fullmatch(name), row[name]) for name in _numbered_columns(row)]
    return [{"role": found[1], "content": said} for found, said in turns if found and isinstance(said, str) and said]


def _numbered_columns(row: JsonObject) -> list[str]:
    """List the columns that are turns with a number, in order; [] unless each of two numbers has both roles."""
    found = {name: match for name in row if (match := NUMBERED.fullmatch(name)) and role_named(match[1])}
    roles = [role_named(match[1]) for match in found.values()]
    if min(roles.count("user"), roles.count("assistant")) < 2:
        return []
    return sorted(found, key=lambda name: (int(found[name][2]), role_named(found[name][1]) != "user"))


def completion_column(row: JsonObject) -> str:
    """Return the completion column if it or the prompt is a list of messages; otherwise ""."""
    sides = [row.get("prompt"), row.get("completion")]
    is_pair = all(isinstance(side, (str, list)) for side in sides) and any(isinstance(side, list) for side in sides)
    return "completion" if is_pair else ""


def with_system(messages: RawMessages, text: Any) -> RawMessages:
    """Put the row's own system text before its messages, unless they start with a system message."""
    if not isinstance(text, str) or not text.strip() or _begins_with_system(messages):
        return messages
    return [{"role": "system", "content": text}, *messages]


def with_tools(messages: RawMessages, row: JsonObject) -> RawMessages:
    """Put tool definitions into the system message, from where `make_conversation` writes them as text too."""
    tools = row.get("tools") or row.get("functions")
    if not definitions_text(tools):
        return messages
    if not _begins_with_system(messages):
        return [{"role": "system", "content": "", "tools": tools}, *messages]
    return [{**messages[0], "tools": tools}, *messages[1:]]


def _column_of_turns(row: JsonObject, key: str) -> str:
    column = message_list_column(row)
    turns = parsed_cell(row.get(column))
    has_key = isinstance(turns, list) and any(isinstance(turn, dict) and key in turn for turn in turns)
    return column if has_key else ""


def _begins_with_system(messages: RawMessages) -> bool:
    return bool(messages) and role_of(messages[0]) == "system"


def _turns(value: Any, role: str, column: str) -> RawMessages:
    if find_shape(value) and not isinstance(value, str):
        return shaped_messages(value)
    if isinstance(value, list):
        return value
    if isinstance(value, str):
        return [{"role": role, "content": value}]
    raise DataError(f"`{column}` must be text or a list of messages, got {kind_of(value)}")
