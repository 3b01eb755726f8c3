"""Read lines that begin with who speaks, such as `User:` and `Assistant:`."""

from __future__ import annotations

import re
from collections.abc import Iterable

from sft_app.data.messages import RawMessages, Role, role_named

_MARK = re.compile(r"\s{0,3}(?:#{1,4}\s+|>\s+)?(?:\*\*|__)?([^\W\d_][^:：*]{0,24}?)\s?[:：](?:\*\*|__)?(?:\s+|$)")

CHAT_DATE = re.compile(
    r"[\u200e\u200f\s]*\[?\d{1,4}[./-]\d{1,2}[./-]\d{2,4},? \d{1,2}:\d{2}(?::\d{2})?"
    r"(?:\s?[AaPp]\.?\s?[Mm]\.?)?\]?(?: -)? "
)
"""What a line of a chat that WhatsApp exported begins with; marks of the direction of writing may precede it."""


def marked_role(line: str) -> tuple[str, str]:
    """Return the role that a line names, "" if none, and the text after it."""
    found = _MARK.match(line)
    role = _role_of_speaker(found[1]) if found else None
    return (role, line[found.end() :]) if found and role else ("", line)


def _role_of_speaker(name: str) -> Role | None:
    """Return the role of a name, also in `You said` and `ChatGPT said`, which copying from a page of a chat gives."""
    speaker = name.lower().removesuffix(" said")
    return "user" if speaker == "you" and speaker != name.lower() else role_named(speaker)


def turns_of(lines: Iterable[str]) -> RawMessages:
    """Read lines as turns, each with the lines up to the next; [] unless the first line begins one."""
    messages: RawMessages = []
    for line in lines:
        role, said = marked_role(line)
        if role:
            messages.append({"role": role, "content": said})
        elif messages:
            messages[-1]["content"] += f"\n{line}"
        else:
            return []
    return [{**message, "content": message["content"].strip()} for message in messages]


def spoken_turns(text: str) -> RawMessages:
    """Read the turns of a text; [] unless it begins with one, user and assistant alternate, and each says something."""
    messages = turns_of(text.strip().splitlines())
    roles = [message["role"] for message in messages if message["role"] != "system"]
    expected = [("user", "assistant")[at % 2] for at in range(len(roles))]
    is_chat = roles == expected and bool(roles) and len(messages) - len(roles) <= (messages[0]["role"] == "system")
    return messages if is_chat and all(message["content"] for message in messages) else []
