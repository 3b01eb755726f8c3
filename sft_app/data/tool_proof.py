"""Prove that a chat template writes every part of the tools: each call, each result and each definition.

Each part is replaced by a mark of its own, or by another value, and the text of the template must show it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from sft_app.data.chat_templates import TemplateInput, render_template, unused_character
from sft_app.data.tool_calls import as_json, parse_json
from sft_app.errors import DataError

Messages = list[dict[str, Any]]
Tools = list[dict[str, Any]]
QUESTION: Messages = [{"role": "user", "content": "a"}]
FIRST_NUMBER = 7_000_000_000
SWITCHES = (True, False, None)
"""The values of which there are too few for marks."""
NAMING_KEYS = ("name", "description", "enum")
MOST_PROVED = 1000
PROVED_DEFINITIONS = "_proved_definitions"
"""The attribute under which a tokenizer remembers which definitions its chat template writes."""


def writes_all(tokenizer: Any, messages: Messages, tools: Tools | None) -> bool:
    """Return whether the template writes every name, key and value of the tools, as often as it occurs."""
    marks = _Marks(as_json([messages, tools]))
    marked = [_marked_message(message, marks) for message in messages]
    try:
        text = _render(tokenizer, marked, tools)
        if not marks.all_in(text) or not _shows_switches(tokenizer, marked, tools, text):
            return False
        return not tools or _has_whole(text, marked, tools) or _shows_definitions(tokenizer, marked, tools, marks)
    except DataError:
        return False


class _Marks:
    """Replaces every text by a mark of its own, and every number by a number of its own."""

    def __init__(self, used: str) -> None:
        self.used, self.character = used, unused_character([used])
        self.made: list[str] = []
        self.number = FIRST_NUMBER

    def text(self, text: str) -> str:
        """Mark a text that is not empty."""
        if not text.strip():
            return text
        self.made.append(f"{self.character}{len(self.made)}{self.character}")
        return self.made[-1]

    def everywhere(self, value: Any) -> Any:
        """Mark every text, key and number in a value."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.text(str(key)): self.everywhere(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [self.everywhere(inner) for inner in value]
        return value if value in SWITCHES and not _is_number(value) else self._own_number(value)

    def all_in(self, text: str) -> bool:
        """Return whether every mark made so far is in the text."""
        return all(mark in text for mark in self.made)

    def _own_number(self, value: float) -> float:
        self.number += 1
        while str(self.number) in self.used:
            self.number += 1
        self.made.append(str(self.number))
        return self.number if isinstance(value, int) else self.number + 0.5


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _marked_message(message: dict[str, Any], marks: _Marks) -> dict[str, Any]:
    if not message.get("tool_calls"):
        return {**message, "content": marks.text(message["content"])} if message["role"] == "tool" else message
    calls = []
    for call in message["tool_calls"]:
        function = call["function"]
        arguments = marks.everywhere(parse_json(function["arguments"]))
        written = as_json(arguments) if isinstance(function["arguments"], str) else arguments
        calls.append({**call, "function": {"name": marks.text(function["name"]), "arguments": written}})
    return {**message, "content": marks.text(message["content"]), "tool_calls": calls}


def _shows_switches(tokenizer: Any, messages: Messages, tools: Tools | None, text: str) -> bool:
    """Return whether the text changes with each true, false and null among the arguments of the calls."""
    for at, message in enumerate(messages):
        for number, call in enumerate(message.get("tool_calls") or ()):
            as_text = isinstance(call["function"]["arguments"], str)
            arguments = parse_json(call["function"]["arguments"])
            for changed in _changed(arguments, _other_switches):
                function = {**call["function"], "arguments": as_json(changed) if as_text else changed}
                calls = [*message["tool_calls"]]
                calls[number] = {**call, "function": function}
                changed_messages = [*messages[:at], {**message, "tool_calls": calls}, *messages[at + 1 :]]
                if _render(tokenizer, changed_messages, tools) == text:
                    return False
    return True


def _other_switches(value: Any) -> tuple[Any, ...]:
    if isinstance(value, bool):
        return not value, None, ""
    return (False, "") if value is None else ()


def _changed(value: Any, others: Callable[[Any], tuple[Any, ...]]) -> Iterator[Any]:
    """Yield the value with one leaf after the other replaced by each of its other values."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from ({**value, key: changed} for changed in _changed(inner, others))
    elif isinstance(value, list):
        for at, inner in enumerate(value):
            yield from ([*value[:at], changed, *value[at + 1 :]] for changed in _changed(inner, others))
    else:
        yield from others(value)


def _has_whole(text: str, messages: Messages, tools: Tools) -> bool:
    """Return whether the JSON of each tool is in the text, as often as the tool is defined, and not in a message."""
    said = "".join(str(message["content"]) for message in messages)
    for tool in tools:
        if tool.keys() - {"type", "function"}:
            return False
        forms = [json.dumps(tool["function"], ensure_ascii=False, indent=indent, default=str) for indent in (None, 4)]
        forms.append(json.dumps(tool, ensure_ascii=False, indent=4, default=str))
        if not any(text.count(form) - said.count(form) >= tools.count(tool) for form in forms):
            return False
    return True


def _shows_definitions(tokenizer: Any, messages: Messages, tools: Tools, marks: _Marks) -> bool:
    """Return whether names, descriptions and choices are written here, and the text changes with every other part."""
    marked = [_marked_schema(tool, marks) for tool in tools]
    if not marks.all_in(_render(tokenizer, messages, marked)):
        return False
    proved: dict[str, bool]
    template, proved = getattr(tokenizer, PROVED_DEFINITIONS, (None, {}))
    if template != tokenizer.chat_template or len(proved) == MOST_PROVED:
        proved = {}
        setattr(tokenizer, PROVED_DEFINITIONS, (tokenizer.chat_template, proved))
    key = as_json(tools)
    if key not in proved:
        proved[key] = _changes_with_each_part(tokenizer, tools)
    return proved[key]


def _changes_with_each_part(tokenizer: Any, tools: Tools) -> bool:
    text = _render(tokenizer, QUESTION, tools)
    for at, tool in enumerate(tools):
        for function in _changed_functions(tool["function"]):
            changed = [*tools[:at], {**tool, "function": function}, *tools[at + 1 :]]
            try:
                if _render(tokenizer, QUESTION, changed) == text:
                    return False
            except DataError:
                continue  # the template depends on the part
    return True


def _changed_functions(function: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the function with one part changed; that its parameters are an object goes without saying."""
    for changed in _changed(function, _other_value):
        parameters, now = function.get("parameters"), changed.get("parameters")
        if isinstance(parameters, dict) and isinstance(now, dict) and parameters.get("type") == "object" != now["type"]:
            continue
        yield changed


def _other_value(value: Any) -> tuple[Any, ...]:
    if isinstance(value, str):
        return (f"{value}{unused_character([value])}",)
    return (value + 1,) if _is_number(value) else _other_switches(value)[:2]


def _marked_schema(value: Any, marks: _Marks) -> Any:
    """Mark the names, descriptions and choices of a definition, but not the words of JSON Schema."""
    if isinstance(value, list):
        return [_marked_schema(inner, marks) for inner in value]
    if not isinstance(value, dict):
        return value
    marked: dict[str, Any] = {}
    for key, inner in value.items():
        if key == "properties" and isinstance(inner, dict):
            marked[key] = {marks.text(name): _marked_schema(schema, marks) for name, schema in inner.items()}
        elif key in NAMING_KEYS:
            marked[key] = marks.everywhere(inner)
        else:
            marked[key] = _marked_schema(inner, marks)
    return marked


def _render(tokenizer: Any, messages: Messages, tools: Tools | None) -> str:
    return render_template(tokenizer, TemplateInput(messages, False, tools))
