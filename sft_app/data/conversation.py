"""Define `Conversation`, the type of every example, and check messages before they become one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from sft_app.data.tool_calls import as_json, call_text, calls_of, definitions_text
from sft_app.errors import DataError, ModelError

Role = Literal["system", "user", "assistant", "tool", "text"]
RawMessages = list[Any]
"""Messages as they are in a file, before `make_conversation` checks them."""

ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "function_call": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
    "tool_response": "tool",
    "text": "text",
}
"""The names that files use for roles. Source: OpenAI fine-tuning format; ShareGPT and OASST datasets."""
FOLLOWERS: dict[str, set[str]] = {
    "": {"system", "user"},
    "system": {"user"},
    "user": {"assistant"},
    "assistant": {"user", "tool"},
    "tool": {"tool", "assistant"},
}
START_OF_THOUGHT = "<think>"
END_OF_THOUGHT = "</think>"
SAYING_KEYS = {"content", "value", "tool_calls", "function_call", "tools"}
TOOL_RESULT_KEYS = ("name", "tool_call_id")
MAY_BE_EMPTY = ("system", "tool")
VALUE_KINDS = {
    bool: "true or false",
    int: "a number",
    float: "a number",
    str: "a string",
    list: "a list",
    dict: "an object",
}


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation.

    `content` is all of it as text, with tool definitions and calls. `trained` is false for an assistant turn that is
    only context (OpenAI's `weight: 0`). `structure` is JSON with what chat templates that know tools take instead: the
    content without them, and `tools`, `tool_calls`, or a result's `name` and `tool_call_id`.
    """

    role: Role
    content: str
    trained: bool = True
    structure: str = field(default="", compare=False)

    def as_dict(self) -> dict[str, Any]:
        """Return the message as text: `role`, `content`, and `weight: 0` if it is only context."""
        weight = {} if self.trained else {"weight": 0}
        return {"role": self.role, "content": self.content, **weight}

    def rewritten(self, rewrite: Callable[[str], str]) -> Message:
        """Return the message with its text rewritten, unless nothing would remain.

        If the text of its tools changes too, it is text from then on.
        """
        text = rewrite(self.content)
        if not text.strip() or text == self.content:
            return self
        said = json.loads(self.structure).get("content") if self.structure else None
        if isinstance(said, str):
            again = read_message(1, {**self.as_structured(), "content": rewrite(said)})
            return again if again.content == text else replace(self, content=text, structure="")
        return replace(self, content=text, structure=self.structure if said is None else "")

    def as_structured(self) -> dict[str, Any]:
        """Return the message with its tools as values. `make_conversation` reads it back."""
        return {**self.as_dict(), **(json.loads(self.structure) if self.structure else {})}


@dataclass(frozen=True, slots=True)
class Conversation:
    """The messages of an example, in an order that can be trained on.

    It starts with at most one system message; then user and assistant alternate (an assistant may call tools in
    between), and the assistant comes last. Plain text without a chat is a single message with the role `text`.
    """

    messages: tuple[Message, ...]

    def as_dicts(self) -> list[dict[str, Any]]:
        """Return the messages as text."""
        return [message.as_dict() for message in self.messages]

    def as_structured(self) -> list[dict[str, Any]]:
        """Return the messages as `data/train.jsonl` holds them, with tools as values."""
        return [message.as_structured() for message in self.messages]

    def assistant_turns(self) -> int:
        """Count the assistant's messages."""
        return sum(message.role == "assistant" for message in self.messages)

    def is_text(self) -> bool:
        """Return whether this is plain text without a chat."""
        return self.messages[0].role == "text"

    def has_thought(self) -> bool:
        """Return whether an answer contains a thought, as the models that write them mark it."""
        return self.thoughts() > 0

    def thoughts(self) -> int:
        """Count the answers that contain a thought."""
        return sum(message.role == "assistant" and END_OF_THOUGHT in message.content for message in self.messages)

    def question(self) -> str:
        """Return what comes before the first answer, system prompt included; "" for plain text."""
        first = next((where for where, message in enumerate(self.messages) if message.role == "assistant"), 0)
        return "\n".join(message.content for message in self.messages[:first])

    def answers(self) -> list[str]:
        """List the texts that are trained on, turn by turn."""
        return [
            message.content for message in self.messages if message.role in ("assistant", "text") and message.trained
        ]

    def spoken(self) -> str:
        """Return all text except the system prompt, which many conversations share."""
        return "\n".join(message.content for message in self.messages if message.role != "system")


def make_conversation(messages: Iterable[Any], repair: bool = False) -> Conversation:
    """Check and convert a list of `{"role", "content"}`, or of ShareGPT's `{"from", "value"}`.

    With `repair`, messages that could not be trained on are rearranged: empty messages are dropped, system messages
    come first, adjacent messages of the same role are joined, and anything before the first question or after the
    last answer is dropped.

    Raises:
        DataError: a message has an unknown role or no text, or the order cannot be trained on.
    """
    checked = [read_message(position, message) for position, message in enumerate(messages, start=1)]
    fault = _fault(checked)
    if fault and repair:
        checked = _repair_order(checked)
        fault = _fault(checked)
    if fault:
        raise DataError(fault)
    return Conversation(tuple(checked))


def read_message(position: int, message: Any) -> Message:
    """Check and convert a message. Raises: DataError, naming its `position`, which counts from 1."""
    if not isinstance(message, dict):
        raise DataError(f"message {position} needs a `role` and a `content`")
    role_name = message.get("role", message.get("from"))
    if role_name is None or not message.keys() & SAYING_KEYS:
        raise DataError(f"message {position} needs a `role` and a `content`")
    role = ROLES.get(role_name.strip().lower()) if isinstance(role_name, str) else None
    if role is None:
        raise DataError(
            f"message {position} has the role {_short(role_name)}; expected system, user, assistant or tool"
        )
    where = f"message {position} ({role})"
    said = _content(message.get("content", message.get("value")), where)
    calls = calls_of(message)
    if role_name.strip().lower() == "function_call" and said.strip() and "<tool_call>" not in said:
        said, calls = "", [said, *calls]
    content = "\n".join(part for part in (said, *map(call_text, calls)) if part)
    structure: dict[str, Any] = {"content": said, "tool_calls": calls} if calls else {}
    if role == "system" and (definitions := definitions_text(message.get("tools"))):
        parts = isinstance(message.get("content"), list)  # they are joined by a line break
        content = ("\n" if parts else "\n\n").join(part for part in (said, definitions) if part)
        structure = {"content": [said] if parts else said, "tools": message["tools"]}
    if role == "tool":
        structure = {key: message[key] for key in TOOL_RESULT_KEYS if isinstance(message.get(key), str)}
    written = as_json(structure) if structure else ""
    if _holds_half_a_character(content + written):
        raise DataError(f"{where} contains an incomplete character (a lone surrogate)")
    weight = message.get("weight", 1)
    if weight not in (0, 1, None):
        raise DataError(f"{where} has weight {_short(weight)}; expected 0 or 1")
    is_trained = weight != 0 and message.get("train") is not False  # `train` is Axolotl's key
    return Message(role, content, trained=role != "assistant" or is_trained, structure=written)


def _content(value: Any, where: str) -> str:
    """Read a text, or OpenAI's list of parts; only text and refusals can be trained on."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if not isinstance(value, list):
        raise DataError(f"{where} has {kind_of(value)} as content; expected text")
    return "\n".join(_part_text(part, where) for part in value)


def _part_text(part: Any, where: str) -> str:
    text = part
    if isinstance(part, dict):
        kind = part.get("type", "text")
        if kind not in ("text", "refusal"):
            raise DataError(f"{where} contains a part of type {_short(kind)}; only text can be trained on")
        text = part.get(kind)
    if not isinstance(text, str):
        raise DataError(f"{where} contains a part that is not text")
    return text


def kind_of(value: Any) -> str:
    """Describe the kind of a value for an error message; NaN is an empty cell written by pandas."""
    is_missing = value is None or value != value
    return "nothing" if is_missing else VALUE_KINDS.get(type(value), type(value).__name__)


def _holds_half_a_character(text: str) -> bool:
    """Return whether a text contains half an emoji, which JSON can spell but tokenizers and UTF-8 files reject."""
    if text.isascii():
        return False
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False


def _fault(messages: list[Message]) -> str:
    """Explain why messages cannot be trained on; "" if they can."""
    for number, message in enumerate(messages, start=1):
        if message.role not in MAY_BE_EMPTY and not message.content.strip():
            return f"message {number} ({message.role}) is empty"
    if not messages:
        return "it contains no message"
    if messages[0].role == "text" and len(messages) == 1:
        return ""
    if not any(message.role == "assistant" for message in messages):
        return "there is no assistant message, so there is nothing to learn from"
    before = ""
    for number, message in enumerate(messages, start=1):
        if message.role not in FOLLOWERS[before]:
            expected = "user" if before in ("", "system", "assistant") else "assistant"
            return f"message {number} must come from the {expected}, got {message.role!r}"
        before = message.role
    if before != "assistant":
        return f"the last message must come from the assistant, got {before!r}"
    if not any(message.trained for message in messages if message.role == "assistant"):
        return "every assistant message has weight 0, so there is nothing to learn from"
    return ""


def _repair_order(messages: list[Message]) -> list[Message]:
    """Rearrange messages so that they can be trained on; those of weight 0 stay untrained, even when joined."""
    spoken = [message for message in messages if message.content.strip() or message.role == "tool"]
    system = [message for message in spoken if message.role == "system"]
    turns = [message for message in spoken if message.role != "system"]
    while turns and turns[0].role in ("assistant", "tool"):
        turns.pop(0)
    while turns and turns[-1].role in ("user", "tool"):
        turns.pop()
    joined: list[Message] = []
    for message in system + turns:
        last = joined[-1] if joined else None
        if last and last.role == message.role != "tool":
            content = f"{last.content}\n\n{message.content}"
            joined[-1] = replace(last, content=content, trained=last.trained and message.trained, structure="")
        else:
            joined.append(message)
    return joined


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}…"


def prompt_messages(prompt: str, system: str = "") -> list[dict[str, str]]:
    """Return the messages of a conversation that ends with this prompt.

    Raises: ModelError if the prompt is empty.
    """
    if not prompt.strip():
        raise ModelError("The prompt is empty.")
    messages = [{"role": "system", "content": system}] if system.strip() else []
    return [*messages, {"role": "user", "content": prompt}]
