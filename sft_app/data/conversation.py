"""Define `Conversation`, the type of every example, and check messages before they become one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from sft_app.data.messages import END_OF_THOUGHT, Message, Role, read_message
from sft_app.errors import DataError, ModelError

FOLLOWERS: dict[str, set[str]] = {
    "": {"system", "user", "assistant"},
    "system": {"user", "assistant"},
    "user": {"assistant"},
    "assistant": {"user", "tool", "system"},
    "tool": {"tool", "assistant"},
}
"""Which roles may follow a role. A system turn in the middle stays where it is."""
MAY_BE_EMPTY = ("system", "tool")


@dataclass(frozen=True, slots=True)
class Conversation:
    """The messages of an example, in an order that can be trained on.

    It starts with at most one system message, and an untrained greeting of the assistant if there is one; then user
    and assistant alternate (an assistant may call tools in between, and a system message may precede a later question),
    and the assistant comes last. Plain text without a chat is a single message with the role `text`.
    """

    messages: tuple[Message, ...]

    def as_dicts(self) -> list[dict[str, Any]]:
        """Return the messages as text."""
        return [message.as_dict() for message in self.messages]

    def as_structured(self) -> list[dict[str, Any]]:
        """Return the messages as `data/train.jsonl` holds them, with tools as values."""
        return [message.as_structured() for message in self.messages]

    def as_copied(self) -> list[dict[str, Any]]:
        """Return the messages as a cleaned copy holds them: as text, with the values of tools next to it."""
        return [message.as_copied() for message in self.messages]

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

    def without_thoughts(self) -> Conversation:
        """Return the conversation without the thoughts before its answers."""
        return Conversation(tuple(message.rewritten(_without_thought) for message in self.messages))

    def question(self) -> str:
        """Return what comes before the first answer, system prompt and greeting included; "" for plain text."""
        asked = next((where for where, message in enumerate(self.messages) if message.role == "user"), 0)
        first = next((n for n, message in enumerate(self.messages) if message.role == "assistant" and n > asked), 0)
        return "\n".join(message.content for message in self.messages[:first])

    def first_user_text(self) -> str:
        """Return the first message of the user; "" for plain text."""
        return next((message.content for message in self.messages if message.role == "user"), "")

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

    A greeting, the assistant's turn before the first question, is context and never trained on. With `repair`, messages
    that could not be trained on are rearranged: empty messages are dropped, adjacent messages of the same role are
    joined, and anything after the last answer is dropped. A system message in the middle stays there.

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
    return Conversation(tuple(_with_untrained_greeting(checked)))


def _without_thought(text: str) -> str:
    return text.rpartition(END_OF_THOUGHT)[2].lstrip() if END_OF_THOUGHT in text else text


def _with_untrained_greeting(messages: list[Message]) -> list[Message]:
    greets = next((where for where, message in enumerate(messages) if message.role != "system"), 0)
    if messages[greets].role != "assistant":
        return messages
    return [replace(message, trained=False) if where == greets else message for where, message in enumerate(messages)]


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
    roles = [message.role for message in messages]
    if "user" not in roles:
        first = next(where for where, role in enumerate(roles) if role != "system")
        return f"message {first + 1} must come from the user, got {roles[first]!r}"
    if fault := _fault_in_order(roles):
        return fault
    if not any(message.trained for message in messages[roles.index("user") :] if message.role == "assistant"):
        return "every assistant message has weight 0, so there is nothing to learn from"
    return ""


def _fault_in_order(roles: list[Role]) -> str:
    """Explain which message comes at the wrong place; "" if none does."""
    before: str = ""
    for number, role in enumerate(roles, start=1):
        asked = "user" in roles[:number]
        is_late_prompt = role == "assistant" and before == "system" and asked  # a system turn precedes a question
        is_early_tool = role in ("tool", "system") and before == "assistant" and not asked
        if role not in FOLLOWERS[before] or is_late_prompt or is_early_tool:
            expected = "user" if before in ("", "system", "assistant") else "assistant"
            return f"message {number} must come from the {expected}, got {role!r}"
        before = role
    return "" if before == "assistant" else f"the last message must come from the assistant, got {before!r}"


def _repair_order(messages: list[Message]) -> list[Message]:
    """Rearrange messages so that they can be trained on; those of weight 0 stay untrained, even when joined."""
    spoken = [message for message in messages if message.content.strip() or message.role == "tool"]
    while spoken and spoken[0].role == "tool":
        spoken.pop(0)
    while spoken and spoken[-1].role != "assistant":
        spoken.pop()
    answered = next((where for where, message in enumerate(spoken) if message.role == "assistant" and where), 0)
    early = [message for message in spoken[:answered] if message.role == "system"]
    joined: list[Message] = []
    for message in [
        *early,
        *(message for message in spoken[:answered] if message.role != "system"),
        *spoken[answered:],
    ]:
        last = joined[-1] if joined else None
        if last and last.role == message.role != "tool":
            content = f"{last.content}\n\n{message.content}"
            joined[-1] = replace(last, content=content, trained=last.trained and message.trained, structure="")
        else:
            joined.append(message)
    return joined


def prompt_messages(prompt: str, system: str = "") -> list[dict[str, str]]:
    """Return the messages of a conversation that ends with this prompt.

    Raises: ModelError if the prompt is empty.
    """
    if not prompt.strip():
        raise ModelError("The prompt is empty.")
    messages = [{"role": "system", "content": system}] if system.strip() else []
    return [*messages, {"role": "user", "content": prompt}]
