"""Give tools to a chat template in its own form, if it proves that nothing of them is lost; otherwise as text.

Templates differ: some take the arguments of a call as an object, some as JSON in a string, some drop calls or take no
tools at all. So the template must prove, for each conversation, that it writes every part (see `tool_proof`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sft_app.data.chat_templates import TemplateInput, as_template_takes
from sft_app.data.conversation import Conversation
from sft_app.data.messages import read_message
from sft_app.data.tool_calls import as_json, called, parse_json
from sft_app.data.tool_proof import writes_all

TAKES_TOOLS = "_takes_tools"
"""The attribute under which a tokenizer remembers what its chat template has proved."""
WRITTEN_NATIVELY = "Tool definitions and calls are written as the model's chat template writes them."
WRITTEN_AS_TEXT = (
    "Tool definitions and calls are written as text (<tools> and <tool_call>), because the model's chat template "
    "does not take them or would leave a part of them out."
)
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
        return [WRITTEN_NATIVELY]
    return [WRITTEN_AS_TEXT]


def tools_form(messages: Sequence[dict[str, Any]], chat: TemplateInput) -> str:
    """Return how the tools among messages are written in `chat`: "native" or "text"; "" if there are none."""
    if not _have_tools(messages):
        return ""
    return "native" if chat.tools or _have_tools(chat.messages) else "text"


def _have_tools(messages: Sequence[dict[str, Any]]) -> bool:
    return any(key in message for message in messages for key in WITH_TOOLS)


def _as_text(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    if not any(message.keys() - {"role", "content", "weight"} for message in messages):
        return list(messages)
    return [read_message(number, message).as_dict() for number, message in enumerate(messages, start=1)]


def _proves(tokenizer: Any, messages: Sequence[dict[str, Any]], arguments_as_text: bool) -> bool:
    native = _native(messages, arguments_as_text)
    return native is not None and writes_all(tokenizer, *native)


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
