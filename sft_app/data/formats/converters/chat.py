"""Convert rows that contain messages, either a list or a prompt and a completion, to message lists."""

from __future__ import annotations

from typing import Any

from sft_app.data.conversation import ROLES, RawMessages, kind_of
from sft_app.data.rows import JsonObject
from sft_app.data.tool_calls import definitions_text
from sft_app.errors import DataError
from sft_app.settings import DataSettings

MESSAGE_LIST_COLUMNS = ("messages", "conversations", "conversation", "dialogue", "dialog", "turns", "chat")
TOOL_COLUMNS = ("tools", "functions")


def from_messages(row: JsonObject, settings: DataSettings) -> list[RawMessages]:
    """Convert `{"messages": [{"role", "content"}, …]}` or `{"conversations": [{"from", "value"}, …]}`.

    A `system` text and the definitions in `tools` or `functions` go into the system message.

    Raises:
        DataError: the row has no list of messages.
    Source: OpenAI fine-tuning format; TRL conversational format; lm-sys/FastChat, dummy data (ShareGPT);
    LLaMA-Factory, data/README.md (`system` and `tools`).
    """
    column = message_list_column(row)
    messages = row.get(column)
    if not isinstance(messages, list) or not messages:
        raise DataError(f"`{column}` must be a list with at least one message")
    return [with_tools(with_system(messages, row.get("system")), row)]


def from_prompt_completion(row: JsonObject, settings: DataSettings) -> list[RawMessages]:
    """Convert `{"prompt", "completion"}`, each a text or a list of messages.

    Raises:
        DataError: one of them is something else.
    Source: TRL, "Dataset formats".
    """
    messages = _turns(row.get("prompt"), "user", "prompt") + _turns(row.get("completion"), "assistant", "completion")
    return [with_tools(messages, row)]


def message_list_column(row: JsonObject) -> str:
    """Find the column that holds a row's messages: the first of the usual names that contains a list."""
    present = [name for name in MESSAGE_LIST_COLUMNS if name in row]
    return next((name for name in present if isinstance(row[name], list) and row[name]), (present or ["messages"])[0])


def messages_columns(row: JsonObject, settings: DataSettings) -> list[str]:
    """List the columns that `from_messages` reads."""
    return [message_list_column(row), "system", *TOOL_COLUMNS]


def prompt_completion_columns(row: JsonObject, settings: DataSettings) -> list[str]:
    """List the columns that `from_prompt_completion` reads."""
    return ["prompt", "completion", *TOOL_COLUMNS]


def role_column(row: JsonObject) -> str:
    """Return the column that holds messages with `role`; "" if there is none."""
    return _column_of_turns(row, "role")


def from_column(row: JsonObject) -> str:
    """Return the column that holds ShareGPT's turns with `from`; "" if there is none."""
    return _column_of_turns(row, "from")


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
    turns = row.get(column)
    has_key = isinstance(turns, list) and any(isinstance(turn, dict) and key in turn for turn in turns)
    return column if has_key else ""


def _begins_with_system(messages: RawMessages) -> bool:
    first = messages[0] if messages and isinstance(messages[0], dict) else {}
    role = first.get("role", first.get("from"))
    return isinstance(role, str) and ROLES.get(role.strip().lower()) == "system"


def _turns(value: Any, role: str, column: str) -> RawMessages:
    if isinstance(value, list):
        return value
    if isinstance(value, str):
        return [{"role": role, "content": value}]
    raise DataError(f"`{column}` must be text or a list of messages, got {kind_of(value)}")
