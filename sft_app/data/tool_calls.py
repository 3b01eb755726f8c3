"""Write tool definitions and calls as text, which every chat template supports."""

from __future__ import annotations

import json
from typing import Any

TOOL_COLUMNS = ("tools", "functions")
"""The columns that hold a row's tool definitions."""


def definitions_text(tools: Any) -> str:
    """Write a row's tool definitions, given as JSON or as its text, for the system message; "" if there are none."""
    text = tools if isinstance(tools, str) else as_json(tools) if tools else ""
    return "" if text.strip() in ("", "[]", "{}", "null") else f"# Tools\n<tools>\n{text}\n</tools>"


def calls_of(message: dict[str, Any]) -> list[Any]:
    """Return the tool calls of an assistant's message, each as it is written there."""
    calls = parse_json(message.get("tool_calls") or message.get("function_call") or [])
    return calls if isinstance(calls, list) else [calls]


def call_text(call: Any) -> str:
    """Write a call as text; one that is a text already stays as it is. Source: the Hermes function-calling layout."""
    return f"<tool_call>\n{call if isinstance(call, str) else as_json(called(call))}\n</tool_call>"


def called(call: Any) -> Any:
    """Unwrap OpenAI's object around name and arguments; the arguments are JSON in a string."""
    inner = call.get("function", call) if isinstance(call, dict) else call
    if isinstance(inner, dict) and "arguments" in inner:
        return {**inner, "arguments": parse_json(inner["arguments"])}
    return inner


def parse_json(value: Any) -> Any:
    """Parse a string that contains JSON; any other value is returned unchanged."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def as_json(value: Any) -> str:
    """Return a value as one line of JSON; dates and similar values from Parquet files become text."""
    return json.dumps(value, ensure_ascii=False, default=str)
