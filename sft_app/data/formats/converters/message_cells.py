"""Know the columns of rows of one message each, however their names are written: `Ticket ID`, `ticketId`, `Ticket #`.

Source: exports of Discord, Telegram, Slack, WhatsApp, SillyTavern and help desks; Customer Support on Twitter.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from sft_app.data.rows import JsonObject
from sft_app.data.spoken_lines import CHAT_DATE

USER_FLAGS = {"is_user": True, "isuser": True, "inbound": True, "is_bot": False, "isbot": False, "from_me": False}
USER_FLAGS |= {"incoming": True, "is_incoming": True, "is_created_by_user": True}
"""Columns of true and false, and which of them means the user."""
SPEAKER_COLUMNS = (
    *("role", "author_type", "sender_type", "author_role", "sender_role", "speaker", "sender", "from", "author"),
    *("author_id", "user", "username", "sender_name", "name"),
)
TEXT_COLUMNS = ("content", "text", "message", "body", "mes", "utterance", "msg", "value")
OTHER_TEXT_COLUMNS = ("body_text", "plain_body", "comment", "comment_body", "message_body", "message_text")
"""They hold the text of a message if none of the usual columns does."""
_CHATS = ("conversation", "conv", "convo", "dialogue", "dialog", "chat", "session", "thread", "ticket", "case", "call")
_ENDINGS = ("_id", "id", "_uuid", "_key", "_number", "_no", "_num", "_nr", "_ref")
ID_COLUMNS = (
    *(f"{chat}{ending}" for chat in (*_CHATS, "interaction") for ending in _ENDINGS),
    *("thread_ts", "conversation", "dialogue", "dialog", "chat", "session", "thread", "ticket", "channel_id"),
)
PARENT_COLUMNS = ("in_response_to_tweet_id", "in_reply_to", "reply_to_id", "parent_id")
MESSAGE_IDS = ("tweet_id", "message_id", "id", "uuid")
TURN_COLUMNS = (
    *("turn", "turn_id", "turn_index", "turn_number", "turn_no", "message_index", "message_number", "message_no"),
    *("msg_number", "msg_no", "msg_index", "sequence", "sequence_number", "seq", "seq_no"),
)
PLACE_COLUMNS = ("position", "order", "step", "index")
"""They number the turns of a conversation only if the numbers are close together: a shop's `order` does not."""
TIME_COLUMNS = (
    *(
        "created_at",
        "created",
        "created_on",
        "timestamp",
        "time_stamp",
        "ts",
        "sent_at",
        "sent_on",
        "sent",
        "send_date",
    ),
    *("sent_date", "posted_at", "datetime", "date_time", "message_time", "time", "date"),
)
ROW_IDS = ("message_id", "tweet_id", "id", "index")
INTERNAL_FLAGS = {
    **dict.fromkeys(("private", "is_private", "internal", "is_internal", "is_note", "is_internal_note"), True),
    **dict.fromkeys(("internal_note", "private_note"), True),
    **dict.fromkeys(("public", "is_public"), False),
}
"""Columns of true and false, and which of them marks a note that the user never saw."""
INTERNAL_KINDS = ("internal", "note", "internal note", "private note", "internal comment", "private comment")
KINDS = {
    "visibility": (*INTERNAL_KINDS, "private"),
    **dict.fromkeys(("type", "message_type", "comment_type"), INTERNAL_KINDS),
}
"""Columns of words, and which of them mark such a note. A `type` may be that of the chat, which may be private."""
YES, NO = ("true", "1", "1.0", "yes"), ("false", "0", "0.0", "no")
KNOWN = frozenset(
    (
        *USER_FLAGS,
        *SPEAKER_COLUMNS,
        *TEXT_COLUMNS,
        *OTHER_TEXT_COLUMNS,
        *ID_COLUMNS,
        *PARENT_COLUMNS,
        *TURN_COLUMNS,
        *PLACE_COLUMNS,
    )
    + (*TIME_COLUMNS, *ROW_IDS, *INTERNAL_FLAGS)
)
CHAT_LINE = re.compile(rf"{CHAT_DATE.pattern}([^:\n]{{1,60}}): (.+)", re.DOTALL)
"""A line of a chat that WhatsApp exported."""
NO_MESSAGE = re.compile(
    r"\u200e.*|<[^<>\n]{3,40}>|(?:this message was deleted|you deleted this message|diese nachricht wurde gelöscht"
    r"|ce message a été supprimé|(?:se )?elimin[óo] este mensaje|mensagem apagada|messaggio eliminato)\.?",
    re.DOTALL | re.IGNORECASE,
)
"""What WhatsApp writes in place of a picture or a deleted message, and its notices, which have a mark in front."""


@lru_cache(maxsize=4096)
def plain_name(name: str) -> str:
    """Write a column's name in one way: `ticketId`, `Ticket-ID` and `ticket_id` are the same, and `#` is a number."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.replace("#", " number "))
    return re.sub(r"[\W_]+", "_", parted).strip("_").lower()


def cells_of(row: JsonObject) -> JsonObject:
    """Return a row's cells under plain names, with those of an inner message; a line of a chat as its parts."""
    values: JsonObject = {}
    for name, value in row.items():
        values.setdefault(plain_name(str(name)), value)
    inner = values.get("message")
    if isinstance(inner, dict):
        return {**values, **cells_of(inner)}
    line = values.get("text") if len(values) == 1 else None
    found = CHAT_LINE.match(line) if isinstance(line, str) else None
    if found is None:
        return values
    return {"speaker": found[1], "text": "" if NO_MESSAGE.fullmatch(found[2].strip()) else found[2]}


def speaker_in(cells: JsonObject) -> str | None:
    """Return who speaks: user or assistant by a flag, else a name or a role."""
    author: JsonObject = next(
        (cells[key] for key in ("author", "from", "sender", "user") if isinstance(cells.get(key), dict)), {}
    )
    flags = {**cells, **{plain_name(str(key)): value for key, value in author.items()}}
    for flag, means_user in USER_FLAGS.items():
        if (is_set := _flag(flags.get(flag))) is not None:
            return "user" if is_set == means_user else "assistant"
    named = next((cells[key] for key in SPEAKER_COLUMNS if isinstance(cells.get(key), (str, int))), None)
    named = author.get("role", author.get("name", author.get("id"))) if author else named
    return None if named is None or not str(named).strip() else str(named).strip()


def internal_column(cells: JsonObject) -> str:
    """Return the column that marks a message as a note that the user never saw; "" if none does."""
    flagged = (name for name, means in INTERNAL_FLAGS.items() if _flag(cells.get(name)) is means)
    kinds = (name for name, words in KINDS.items() if plain_name(str(cells.get(name))).replace("_", " ") in words)
    return next(flagged, "") or next(kinds, "")


def as_written(plain: str, rows: Iterable[JsonObject]) -> str:
    """Return how the first of these rows that has a column writes its name."""
    return next((str(name) for row in rows for name in row if plain_name(str(name)) == plain), plain)


def id_in(cells: JsonObject, names: tuple[str, ...]) -> str:
    """Return the first id under one of these names; "" if there is none."""
    for name in names:
        value = cells.get(name)
        value = value.get("id") if isinstance(value, dict) else value
        if value not in (None, "") and value == value and not isinstance(value, list):
            return str(value).strip().removesuffix(".0")  # pandas writes ids as 1.0 where some cells are empty
    return ""


def _flag(value: Any) -> bool | None:
    word = str(value).strip().lower()
    return True if word in YES else False if word in NO else None
