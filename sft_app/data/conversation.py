"""The one type that examples have, from file to chat window."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from sft_app.errors import DataError

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True)
class Message:
    role: Role
    content: str


@dataclass(frozen=True)
class Conversation:
    """Messages in order: at most one system message first, then user and assistant in turn, an assistant one last."""

    messages: tuple[Message, ...]

    def as_dicts(self) -> list[dict[str, str]]:
        """The form that chat templates and `data/train.jsonl` take."""
        return [{"role": message.role, "content": message.content} for message in self.messages]

    def assistant_turns(self) -> int:
        return sum(message.role == "assistant" for message in self.messages)


def make_conversation(messages: Iterable[Any]) -> Conversation:
    """Checks and converts a list of `{"role", "content"}`.

    Raises:
        DataError: a message has no known role or no text, or the order cannot be trained on.
    """
    checked = tuple(_make_message(position, message) for position, message in enumerate(messages, start=1))
    _check_order(checked)
    return Conversation(checked)


def _make_message(position: int, message: Any) -> Message:
    if not isinstance(message, dict) or "role" not in message or "content" not in message:
        raise DataError(f'message {position} is not {{"role": …, "content": …}}')
    role, content = message["role"], message["content"]
    if role not in get_args(Role):
        raise DataError(f"message {position} has the role {role!r}; expected one of {', '.join(get_args(Role))}")
    if not isinstance(content, str):
        raise DataError(f"message {position} ({role}) has {type(content).__name__} as content; expected text")
    if _holds_half_a_character(content):
        raise DataError(f"message {position} ({role}) holds half of a character (a lone surrogate)")
    if role != "system" and not content.strip():
        raise DataError(f"message {position} ({role}) is empty")
    return Message(role, content)


def _holds_half_a_character(text: str) -> bool:
    """JSON can spell half of an emoji; no tokenizer takes it and no UTF-8 file holds it."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False


def _check_order(messages: tuple[Message, ...]) -> None:
    if not any(message.role == "assistant" for message in messages):
        raise DataError("there is no assistant message, so there is nothing to learn from")
    turns = messages[1:] if messages[0].role == "system" else messages
    for position, message in enumerate(turns):
        expected = "user" if position % 2 == 0 else "assistant"
        if message.role != expected:
            number = position + 1 + len(messages) - len(turns)
            raise DataError(f"message {number} must come from the {expected}, got {message.role!r}")
    if turns[-1].role != "assistant":
        raise DataError("the last message must come from the assistant, got 'user'")
