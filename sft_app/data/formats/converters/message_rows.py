"""Join rows of one message each to conversations: by conversation id or reply, in the order of turns or of time.

Source: exports of Discord, Telegram, Slack, WhatsApp and SillyTavern; Customer Support on Twitter (columns).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from sft_app.data.formats.converters.turn_order import order_keys
from sft_app.data.messages import RawMessages, Role, first_texts, role_named, said_in
from sft_app.data.rows import JsonObject, Rejected, Row
from sft_app.errors import DataError, UnclearAssistantError
from sft_app.settings import DataSettings

USER_FLAGS = {"is_user": True, "isuser": True, "inbound": True, "is_bot": False, "isbot": False, "from_me": False}
"""Columns of true and false, and which of them means the user."""
SPEAKER_COLUMNS = (
    "role",
    "speaker",
    "sender",
    "from",
    "author",
    "author_id",
    "user",
    "username",
    "sender_name",
    "name",
)
TEXT_COLUMNS = ("content", "text", "message", "body", "mes", "utterance", "msg", "value")
ID_COLUMNS = (
    *("conversation_id", "conversationid", "conversation", "dialogue_id", "dialog_id", "chat_id", "session_id"),
    *("sessionid", "thread_id", "thread_ts", "ticket_id", "case_id", "channel_id"),
)
PARENT_COLUMNS = ("in_response_to_tweet_id", "in_reply_to", "reply_to_id", "parent_id")
MESSAGE_IDS = ("tweet_id", "message_id", "id", "uuid")
ORDER_COLUMNS = (
    *("turn", "turn_id", "turn_index", "turn_number", "position", "index", "order", "sequence", "seq", "step"),
    *("message_index", "message_id", "tweet_id", "id", "ts", "timestamp", "time", "date", "datetime", "created_at"),
    *("sent_at", "send_date"),
)
NO_ANSWER = "no one answered it"
CHAT_LINE = re.compile(
    r"\[?\d{1,4}[./-]\d{1,2}[./-]\d{2,4},? \d{1,2}:\d{2}(?::\d{2})?(?:\s?[AaPp]\.?[Mm]\.?)?\]?(?: -)?"
    r" ([^:\n]{1,60}): (.+)",
    re.DOTALL,
)
"""A line of a chat that WhatsApp exported."""


@dataclass
class Spoken:
    """A message of a row: who says what, in which conversation. `role` is None until the speakers are known."""

    row: Row
    speaker: str
    text: str
    role: Role | None
    group: str = ""


def message_columns(row: JsonObject, settings: DataSettings) -> list[str]:
    """List the columns that are read: speaker, text, conversation and order."""
    names = (*USER_FLAGS, *SPEAKER_COLUMNS, *TEXT_COLUMNS, *ID_COLUMNS, *PARENT_COLUMNS, *ORDER_COLUMNS)
    return [name for name in row if name.strip().lower() in names]


def is_message(row: JsonObject) -> bool:
    """Return whether a row is one message: a speaker and a text."""
    return _spoken(Row(0, row)) is not None


def speakers_in(rows: Iterable[JsonObject]) -> list[str]:
    """List who speaks in these rows, each once."""
    found = (_spoken(Row(0, row)) for row in rows)
    return list(dict.fromkeys(one.speaker for one in found if one))


def from_single_row(row: JsonObject, settings: DataSettings) -> list[RawMessages]:
    """Refuse a row that is only one message. Raises: DataError always, because rows are joined to conversations."""
    raise DataError("it contains no speaker and no text, so it is no message")


def conversations_of_messages(
    rows: Iterable[Row | Rejected], settings: DataSettings
) -> Iterator[tuple[Row, RawMessages] | Rejected]:
    """Join rows to conversations, and yield each with its last row; the others are yielded as `Rejected`.

    Raises:
        DataError: it is unclear which speaker is the assistant.
    """
    spoken: list[Spoken] = []
    for row in rows:
        if isinstance(row, Rejected):
            yield row
        elif one := _spoken(row):
            spoken.append(one)
        else:
            yield Rejected(row.number, "it contains no message", by_choice=True)
    _assign_roles(spoken, settings)
    _group_by_reply(spoken)
    groups: dict[str, list[Spoken]] = {}
    for one in spoken:
        groups.setdefault(one.group, []).append(one)
    for group in groups.values():
        yield from _conversation(_in_order(group))


def _conversation(group: list[Spoken]) -> Iterator[tuple[Row, RawMessages] | Rejected]:
    last = max((where for where, one in enumerate(group) if one.role == "assistant"), default=-1)
    yield from (Rejected(one.row.number, NO_ANSWER, by_choice=True) for one in group[last + 1 :])
    messages: RawMessages = []
    for one in group[: last + 1]:
        role = one.role or one.speaker
        if messages and messages[-1]["role"] == role != "tool":
            messages[-1]["content"] += f"\n{one.text}"
        else:
            messages.append({"role": role, "content": one.text})
    if messages:
        yield group[last].row, messages


def _spoken(row: Row) -> Spoken | None:
    values = _cells(row.values)
    name, said = _speaker(values), said_in({key: values[key] for key in TEXT_COLUMNS if key in values})
    text = said if isinstance(said, str) else _joined(said)
    if name is None or not text.strip():
        return None
    group = next((_id(values[key]) for key in ID_COLUMNS if values.get(key) not in (None, "")), "")
    return Spoken(row, name, text.strip(), role_named(name), group or str(values.get("ts", "")))


def _cells(row: JsonObject) -> JsonObject:
    """Return a row's cells under lower-case names, with those of an inner message; a line of a chat as its parts."""
    values = {str(name).strip().lower(): value for name, value in row.items()}
    inner = values.get("message")
    if isinstance(inner, dict):
        return {**values, **_cells(inner)}
    line = values.get("text") if len(values) == 1 else None
    found = CHAT_LINE.match(line) if isinstance(line, str) else None
    return {"speaker": found[1], "text": found[2]} if found else values


def _speaker(values: JsonObject) -> str | None:
    """Return who speaks: user or assistant by a flag, else a name or a role."""
    author: JsonObject = next(
        (values[key] for key in ("author", "from", "sender", "user") if isinstance(values.get(key), dict)), {}
    )
    flags = {**values, **{str(key).lower(): value for key, value in author.items()}}
    for flag, means_user in USER_FLAGS.items():
        if str(flags.get(flag, "")).strip().lower() in ("true", "false", "0", "1"):
            return "user" if (str(flags[flag]).strip().lower() in ("true", "1")) == means_user else "assistant"
    named = next((values[key] for key in SPEAKER_COLUMNS if isinstance(values.get(key), (str, int))), None)
    named = author.get("role", author.get("name", author.get("id"))) if author else named
    return None if named is None or not str(named).strip() else str(named).strip()


def _joined(value: Any) -> str:
    """Join Telegram's and Anthropic's lists of parts."""
    if not isinstance(value, list):
        return ""
    texts = (
        part if isinstance(part, str) else part.get("text", "") if isinstance(part, dict) else "" for part in value
    )
    return "".join(text for text in texts if isinstance(text, str))


def _assign_roles(spoken: list[Spoken], settings: DataSettings) -> None:
    """Decide who the assistant is: as the settings say, or as the roles say. Raises: DataError if neither does."""
    wanted = settings.assistant.strip().lower()
    speakers = first_texts((one.speaker, one.text) for one in spoken)
    if wanted and wanted not in map(str.lower, speakers):
        raise UnclearAssistantError(f"No message is by {settings.assistant!r}.", speakers)
    if not wanted and spoken and all(one.role != "assistant" for one in spoken):
        raise UnclearAssistantError("Each row contains one message of a chat between people.", speakers)
    roles = {one.role for one in spoken}
    for one in spoken:
        if wanted:
            is_known = one.role in ("system", "tool")
            one.role = "assistant" if one.speaker.lower() == wanted else one.role if is_known else "user"
        elif "user" not in roles and one.role is None:
            one.role = "user"


def _group_by_reply(spoken: list[Spoken]) -> None:
    """Give messages that reply to others the conversation of the first one."""
    parents: dict[str, str] = {}
    ids: list[str] = []
    for one in spoken:
        values = _cells(one.row.values)
        ids.append(next((_id(values[key]) for key in MESSAGE_IDS if values.get(key) not in (None, "")), ""))
        parents[ids[-1]] = next((_id(values[key]) for key in PARENT_COLUMNS if values.get(key) not in (None, "")), "")
    if not any(parents.values()) or any(one.group for one in spoken):
        return
    for one, id in zip(spoken, ids, strict=True):
        seen = {id}
        while (parent := parents.get(id, "")) and parent in parents and parent not in seen:
            id = parent
            seen.add(id)
        one.group = id


def _id(value: Any) -> str:
    return str(value).strip().removesuffix(".0")  # pandas writes ids as 1.0 where some cells are empty


def _in_order(group: list[Spoken]) -> list[Spoken]:
    """Sort a conversation by its turns, ids or times; one that has none keeps the order of the file."""
    cells = [_cells(one.row.values) for one in group]
    for name in ORDER_COLUMNS:
        keys = order_keys([values.get(name) for values in cells])
        if keys is not None:
            return [group[where] for where in sorted(range(len(group)), key=lambda where: keys[where])]
    return group
