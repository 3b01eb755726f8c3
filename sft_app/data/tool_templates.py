"""Give tools to a chat template in its own form, if it proves that nothing of them is lost; otherwise as text.

Templates differ: some take the arguments of a call as an object, some as JSON in a string, some drop calls or take no
tools at all. So a call is rendered with marks in place of its names and texts, and each of them must come back.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sft_app.data.chat_templates import TemplateInput, as_template_takes, render_template, unused_character
from sft_app.data.conversation import Conversation, read_message
from sft_app.data.tool_calls import as_json, called, parse_json
from sft_app.errors import DataError

TAKES_TOOLS = "_takes_tools"
"""The attribute under which a tokenizer remembers what its chat template has proved."""
WITH_TOOLS = ("tools", "tool_calls")
PROBE: list[dict[str, Any]] = [
    {
        "role": "system",
        "content": "",
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "weather",
                    "description": "Looks it up.",
                    "parameters": {
                        "type": "object",
                        "properties": {"city": {"type": "string", "description": "Which city."}},
                        "required": ["city"],
                    },
                },
            }
        ],
    },
    {"role": "user", "content": "How warm is it?"},
    {"role": "assistant", "content": "", "tool_calls": [{"name": "weather", "arguments": {"city": "Bonn"}}]},
    {"role": "tool", "content": "Mild"},
    {"role": "assistant", "content": "Mild."},
]


def template_input(tokenizer: Any, messages: Sequence[dict[str, Any]], enable_thinking: bool) -> TemplateInput:
    """Return what the template is given for structured messages: tools in its own form if it takes them, else as text.

    Raises: DataError as `render_template`.
    """
    chat = native_input(tokenizer, messages, enable_thinking) if _have_tools(messages) else None
    return as_template_takes(tokenizer, chat or TemplateInput(_as_text(messages), enable_thinking))


def native_input(tokenizer: Any, messages: Sequence[dict[str, Any]], enable_thinking: bool) -> TemplateInput | None:
    """Return messages and tools in the template's own form; None if it does not take them or would lose a part."""
    known = getattr(tokenizer, TAKES_TOOLS, None)
    if known is None or known[0] != tokenizer.chat_template:
        known = tokenizer.chat_template, [as_text for as_text in (False, True) if _proves(tokenizer, PROBE, as_text)]
        setattr(tokenizer, TAKES_TOOLS, known)
    if not known[1] or not _proves(tokenizer, messages, known[1][0]):
        return None
    native = _native(messages, known[1][0])
    return None if native is None else TemplateInput(native[0], enable_thinking, native[1])


def tool_notes(tokenizer: Any, conversation: Conversation) -> list[str]:
    """Say how the tools of a conversation are written; nothing if it has none."""
    messages = conversation.as_structured()
    if not _have_tools(messages):
        return []
    if native_input(tokenizer, messages, False) is not None:
        return ["Tool definitions and calls are written as the model's chat template writes them."]
    return [
        "Tool definitions and calls are written as text (<tools> and <tool_call>), because the model's chat template "
        "does not take them or would leave a part of them out."
    ]


def _have_tools(messages: Sequence[dict[str, Any]]) -> bool:
    return any(key in message for message in messages for key in WITH_TOOLS)


def _as_text(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    if not any(message.keys() - {"role", "content", "weight"} for message in messages):
        return list(messages)
    return [read_message(number, message).as_dict() for number, message in enumerate(messages, start=1)]


def _proves(tokenizer: Any, messages: Sequence[dict[str, Any]], arguments_as_text: bool) -> bool:
    """Render the messages with marks in place of names and texts, and return whether each of them comes back."""
    native = _native(messages, arguments_as_text)
    if native is None:
        return False
    marks = _Marks(unused_character([as_json(native)]))
    marked = [_marked_message(message, marks) for message in native[0]]
    tools = [_marked_schema(tool, marks) for tool in native[1]] if native[1] else None
    try:
        plain = render_template(tokenizer, TemplateInput(native[0], False, native[1]))
        text = render_template(tokenizer, TemplateInput(marked, False, tools))
    except DataError:
        return False
    return all(mark in text for mark in marks.of.values()) and all(number in plain for number in _numbers(native[0]))


class _Marks:
    """Replaces each text by a mark of its own, the same text always by the same mark."""

    def __init__(self, character: str) -> None:
        self.character = character
        self.of: dict[str, str] = {}

    def __call__(self, text: str) -> str:
        return self.of.setdefault(text, f"{self.character}{len(self.of)}{self.character}") if text.strip() else text

    def everywhere(self, value: Any) -> Any:
        """Mark every text and key in a value."""
        if isinstance(value, str):
            return self(value)
        if isinstance(value, dict):
            return {self(str(key)): self.everywhere(inner) for key, inner in value.items()}
        return [self.everywhere(inner) for inner in value] if isinstance(value, list) else value


def _marked_schema(value: Any, marks: _Marks) -> Any:
    """Mark the names, descriptions and choices of a definition, but not the words of JSON Schema."""
    if isinstance(value, list):
        return [_marked_schema(inner, marks) for inner in value]
    if not isinstance(value, dict):
        return value
    marked: dict[str, Any] = {}
    for key, inner in value.items():
        if key == "properties" and isinstance(inner, dict):
            marked[key] = {marks(name): _marked_schema(schema, marks) for name, schema in inner.items()}
        elif key in ("name", "description", "enum", "required"):
            marked[key] = marks.everywhere(inner)
        else:
            marked[key] = _marked_schema(inner, marks)
    return marked


def _marked_message(message: dict[str, Any], marks: _Marks) -> dict[str, Any]:
    if not message.get("tool_calls"):
        return {**message, "content": marks(message["content"])} if message["role"] == "tool" else message
    calls = []
    for call in message["tool_calls"]:
        function = call["function"]
        arguments = marks.everywhere(parse_json(function["arguments"]))
        written = as_json(arguments) if isinstance(function["arguments"], str) else arguments
        calls.append({**call, "function": {"name": marks(function["name"]), "arguments": written}})
    return {**message, "content": marks(message["content"]), "tool_calls": calls}


def _numbers(messages: Sequence[dict[str, Any]]) -> list[str]:
    """List the numbers among the arguments of all calls, which are not marked."""
    found: list[str] = []

    def collect(value: Any) -> None:
        if isinstance(value, dict | list):
            for inner in value.values() if isinstance(value, dict) else value:
                collect(inner)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found.append(json.dumps(value))

    for message in messages:
        for call in message.get("tool_calls") or ():
            collect(parse_json(call["function"]["arguments"]))
    return found


def _native(
    messages: Sequence[dict[str, Any]], arguments_as_text: bool
) -> tuple[list[dict[str, Any]], list[dict[str, Any]] | None] | None:
    """Return messages and tools as OpenAI writes them; None if they cannot be written so without losing a part."""
    tools: list[dict[str, Any]] | None = None
    native: list[dict[str, Any]] = []
    names: dict[str, str] = {}
    open_calls: list[str] = []
    for message in messages:
        own = {key: value for key, value in message.items() if key not in WITH_TOOLS}
        if "tools" in message:
            if (tools := _native_tools(message["tools"])) is None:
                return None
            own["content"] = "\n".join(own["content"]) if isinstance(own["content"], list) else own["content"]
            if not own["content"].strip():
                continue
        if "tool_calls" in message:
            calls = [
                _native_call(call, len(names) + at, arguments_as_text) for at, call in enumerate(message["tool_calls"])
            ]
            if None in calls:
                return None
            own["tool_calls"] = calls
            names |= {call["id"]: call["function"]["name"] for call in calls if call}
            open_calls = [call["id"] for call in calls if call]
        if message["role"] == "tool" and names:
            answered = message.get("tool_call_id") or (open_calls.pop(0) if open_calls else next(reversed(names)))
            own |= {"tool_call_id": answered, "name": message.get("name") or names.get(answered, "")}
        native.append(own)
    return native, tools


def _native_tools(tools: Any) -> list[dict[str, Any]] | None:
    tools = parse_json(tools)
    tools = [tools] if isinstance(tools, dict) else tools
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        return None
    wrapped = [
        tool if isinstance(tool.get("function"), dict) else {"type": "function", "function": tool} for tool in tools
    ]
    return wrapped if all(isinstance(tool["function"].get("name"), str) for tool in wrapped) else None


def _native_call(call: Any, number: int, arguments_as_text: bool) -> dict[str, Any] | None:
    outer = parse_json(call)
    inner = called(outer)
    if not isinstance(inner, dict) or not isinstance(inner.get("name"), str):
        return None
    arguments = inner.get("arguments", {})
    if not isinstance(arguments, dict) or inner.keys() - {"name", "arguments", "id", "type"}:
        return None
    id = outer.get("id") if isinstance(outer.get("id"), str) else f"{number:09d}"  # Mistral's have nine characters
    written = as_json(arguments) if arguments_as_text else arguments
    return {"id": id, "type": "function", "function": {"name": inner["name"], "arguments": written}}
