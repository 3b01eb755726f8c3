"""Read lists of turns in the shapes that trainers, providers and chat programs write.

To add a shape, add a record to `SHAPES`: how it is recognised, how it becomes messages, and an example.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from sft_app.data.formats.converters.rendered_chats import rendered_turns
from sft_app.data.messages import CONTENT_KEYS, ROLES, RawMessages, role_name, role_named
from sft_app.data.sources.python_literals import parsed_cell

ASKING_KEYS = tuple(name for name, role in ROLES.items() if role == "user") + ("input", "question", "query", "prompt")
ANSWERING_KEYS = tuple(name for name, role in ROLES.items() if role == "assistant") + (
    *("output", "answer", "response", "completion"),
)
BEGIN_OF_CHAT = "<|BEGIN-VISIBLE-CHAT|>"
SPOKEN_MARK = re.compile(r"^\s*<\|\w+\|>:?\s*|\s*<eo\w>\s*$")
"""MOSS writes `<|Human|>: …<eoh>`."""


@dataclass(frozen=True)
class TurnShape:
    """A shape of a list of turns: `is_shape` recognises a value, `messages` converts it.

    One that is not `is_telling` may be something else, so only a telling column name makes it a conversation.
    """

    name: str
    is_shape: Callable[[Any], bool]
    messages: Callable[[Any], RawMessages]
    example: Any
    is_telling: bool = True


def find_shape(value: Any) -> TurnShape | None:
    """Find the shape of a list of turns; None if the value is something else.

    Reading a row asks several times in a row about the same value, so the latest answer is kept.
    """
    known, shape = _latest[0]
    if known is not value or value is None:
        turns = parsed_cell(value)
        shape = next((shape for shape in SHAPES if turns and shape.is_shape(turns)), None)
        _latest[0] = value, shape
    return shape


_latest: list[tuple[Any, TurnShape | None]] = [(None, None)]


def shaped_messages(value: Any) -> RawMessages:
    """Convert a list of turns in any of the shapes; [] if it has none of them."""
    shape = find_shape(value)
    return shape.messages(parsed_cell(value)) if shape else []


def _are_dicts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def _are_turns(value: Any) -> bool:
    return _are_dicts(value) and any(role_name(turn) and turn.keys() & _CONTENT for turn in value)


_CONTENT = {*CONTENT_KEYS, "tool_calls", "observation"}


def _turns(value: Any) -> RawMessages:
    return [message for turn in value for message in _split_parts(turn)]


def _split_parts(turn: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Split a turn of Anthropic's with results and calls of tools, or of ChatGLM's with call and observation."""
    content = turn.get("content")
    parts = [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    results = [part for part in parts if part.get("type") == "tool_result"]
    calls = [part for part in parts if part.get("type") == "tool_use"]
    if "observation" in turn:
        call = {"name": turn.get("name"), "arguments": turn.get("parameters", {})}
        yield {"role": "assistant", "content": "", "tool_calls": [call]}
        yield {"role": "tool", "content": turn["observation"]}
    elif results or calls:
        yield from ({"role": "tool", "content": part.get("content", "")} for part in results)
        rest = [part for part in parts if part not in results and part not in calls]
        called = [{"name": part.get("name"), "arguments": part.get("input", {})} for part in calls]
        if rest or called:
            yield {**turn, "content": rest, **({"tool_calls": called} if called else {})}
    else:
        yield turn


def _are_langchain(value: Any) -> bool:
    return _are_dicts(value) and all(role_named(turn.get("type")) and _langchain(turn) for turn in value)


def _langchain(turn: dict[str, Any]) -> dict[str, Any]:
    data = turn.get("data", turn)
    return data if isinstance(data, dict) and "content" in data else {}


def _langchain_messages(value: Any) -> RawMessages:
    return [{**_langchain(turn), "role": turn["type"]} for turn in value]


def _pair_keys(turn: dict[str, Any]) -> tuple[str, str] | None:
    """Find the keys of the question and its answer in one object of both."""
    called = {key.strip().lower(): key for key in turn}
    ask = next((called[name] for name in ASKING_KEYS if name in called), "")
    answer = next((called[name] for name in ANSWERING_KEYS if name in called), "")
    return (ask, answer) if ask and answer else None


def _are_exchanges(value: Any) -> bool:
    return _are_dicts(value) and all(_pair_keys(turn) for turn in value)


def _exchanges(value: Any) -> RawMessages:
    messages: RawMessages = []
    for turn in value:
        ask, answer = _pair_keys(turn) or ("", "")
        if isinstance(turn.get("system"), str) and turn["system"].strip():
            messages.append({"role": "system", "content": turn["system"]})
        messages += [{"role": "user", "content": _plain(turn[ask])}, _answered(turn, answer)]
    return messages


def _answered(turn: dict[str, Any], answer: str) -> dict[str, Any]:
    """Make the answer's message, which keeps the turn's thought and its mask (XTuner's `need_eos_token` is none)."""
    kept = {key: turn[key] for key in ("reasoning", "reasoning_content", "thinking", "weight", "train") if key in turn}
    return {"role": "assistant", "content": _plain(turn[answer]), **kept}


def _plain(text: Any) -> Any:
    return SPOKEN_MARK.sub("", text) if isinstance(text, str) else text


def _are_numbered(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and bool(value)
        and all(key[:4].lower() == "turn" for key in map(str, value))
        and (_are_exchanges([*value.values()]))
    )


def _are_pairs(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(pair, (list, tuple)) and len(pair) == 2 and all(isinstance(text, str) for text in pair)
        for pair in value
    )


def _pairs(value: Any) -> RawMessages:
    messages: RawMessages = []
    for question, answer in value:
        if question.strip() and question != BEGIN_OF_CHAT:
            messages.append({"role": "user", "content": question})
        messages.append({"role": "assistant", "content": answer})
    return messages


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 1 and all(isinstance(text, str) and text.strip() for text in value)


def _texts(value: Any) -> RawMessages:
    return [{"role": ("user", "assistant")[where % 2], "content": text} for where, text in enumerate(value)]


def _is_rendered(value: Any) -> bool:
    return isinstance(value, str) and bool(rendered_turns(value))


def _are_segments(value: Any) -> bool:
    return _are_dicts(value) and all(isinstance(one.get("label"), bool) and "text" in one for one in value)


def _segments(value: Any) -> RawMessages:
    return [
        {"role": "assistant" if one["label"] else "user", "content": re.sub(r"</?s>", "", str(one["text"])).strip()}
        for one in value
    ]


def _is_mapping(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(node, dict) and {"message", "parent"} <= node.keys() for node in value.values()
    )


def _mapped(value: Any) -> RawMessages:
    """Follow ChatGPT's tree from its last message back to the root: the path that the person saw last."""
    path: RawMessages = []
    at = next(reversed(value), None)
    while at in value and len(path) <= len(value):
        message = value[at]["message"]
        if isinstance(message, dict) and _said(message):
            path.append(message)
        at = value[at].get("parent")
    return path[::-1]


def _are_nested(value: Any) -> bool:
    return _are_dicts(value) and any(turn.get("children") and _are_dicts(turn["children"]) for turn in value)


def _nested(value: Any) -> RawMessages:
    """Follow LibreChat's replies: the last root, and below each message the last reply, which the person saw last."""
    messages: RawMessages = []
    while value and _are_dicts(value):
        turn = value[-1]
        by_user = turn.get("isCreatedByUser")
        role = {"role": "user" if by_user else "assistant"} if isinstance(by_user, bool) else {}
        messages.append({**{key: inner for key, inner in turn.items() if key != "children"}, **role})
        value = turn.get("children")
    return messages


def _said(message: dict[str, Any]) -> bool:
    content = message.get("content")
    parts = content.get("parts") if isinstance(content, dict) else None
    return not isinstance(parts, list) or any(str(part).strip() for part in parts)


SHAPES = (
    TurnShape("rendered chat", _is_rendered, rendered_turns, "### Human: q\n### Assistant: a"),
    TurnShape("segments", _are_segments, _segments, [{"label": False, "text": "q"}, {"label": True, "text": "a"}]),
    TurnShape(
        "nested replies",
        _are_nested,
        _nested,
        [{"role": "user", "text": "q", "children": [{"role": "gpt", "text": "a"}]}],
    ),
    TurnShape("turns with roles", _are_turns, _turns, [{"role": "user", "content": "q"}]),
    TurnShape("LangChain", _are_langchain, _langchain_messages, [{"type": "human", "data": {"content": "q"}}]),
    TurnShape("exchanges", _are_exchanges, _exchanges, [{"human": "q", "assistant": "a"}]),
    TurnShape(
        "numbered exchanges",
        _are_numbered,
        lambda value: _exchanges([*value.values()]),
        {"turn_1": {"Human": "q", "MOSS": "a"}},
    ),
    TurnShape("pairs", _are_pairs, _pairs, [["q", "a"]]),
    TurnShape("alternating texts", _are_texts, _texts, ["q", "a"], is_telling=False),
    TurnShape("tree of messages", _is_mapping, _mapped, {"r": {"message": None, "parent": None}}),
)
"""In the order in which they are tried.

Source: axolotl (segments), LangChain, Firefly and XTuner (exchanges), MOSS, text-generation-webui (pairs), UltraChat,
LIMA (alternating texts), ChatGPT's export (tree of messages), LibreChat (nested replies).
"""
