"""Join rows of one message each to conversations: by conversation id or reply, in the order of turns or of time.

Source: exports of Discord, Telegram, Slack, WhatsApp and SillyTavern; Customer Support on Twitter (columns).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from sft_app.data.formats.column_names import in_backticks
from sft_app.data.formats.column_profiles import ID
from sft_app.data.formats.converters.message_cells import (
    ID_COLUMNS,
    KNOWN,
    MESSAGE_IDS,
    OTHER_TEXT_COLUMNS,
    PARENT_COLUMNS,
    TEXT_COLUMNS,
    as_written,
    cells_of,
    id_in,
    internal_column,
    plain_name,
    speaker_in,
)
from sft_app.data.formats.converters.message_order import in_order, telling_ids, unread_times
from sft_app.data.messages import RawMessages, Role, first_texts, role_named, said_in
from sft_app.data.rows import JsonObject, Rejected, Row
from sft_app.errors import DataError, UnclearAssistantError
from sft_app.settings import DataSettings

NO_ANSWER = "no one answered it"
NO_CONVERSATION = "it does not say which conversation it belongs to, as other rows do"
INTERNAL = "it is an internal note (`{}`), which the user did not see"
SEVERAL = "{} are read as the assistant. To leave out what one of them says, delete its rows from the file."
LEFT_OUT = "Internal notes, which {} marks, are left out."
ONE_CONVERSATION = "Nothing says which messages belong together, so the file is read as one conversation."
UNREAD_TIMES = "{} could not be read as times, so messages without a turn number stay in the order of the file."
ONE_OR_MANY = (
    "All {:,} messages would become one conversation, but `{}` may say which belong together: each of its {:,} values "
    "is shared by a user and the assistant. If it does, rename the column to `conversation_id`. If all rows are one "
    "conversation, delete the column."
)


@dataclass
class Spoken:
    """A message of a row: who says what, in which conversation. `role` is None until the speakers are known."""

    row: Row
    speaker: str
    text: str
    role: Role | None
    cells: JsonObject
    group: str = ""


def message_columns(row: JsonObject, settings: DataSettings) -> list[str]:
    """List the columns that are read: speaker, text, conversation, order, and what marks internal notes."""
    internal = internal_column(cells_of(row))
    return [name for name in row if plain_name(str(name)) in KNOWN or plain_name(str(name)) == internal]


def message_notes(rows: list[JsonObject], settings: DataSettings) -> list[str]:
    """Say who the assistant is if several are, what is left out, and what puts messages together and in order."""
    internal = [column for row in rows if (column := internal_column(cells_of(row)))]
    spoken = [one for row in rows if not internal_column(cells_of(row)) and (one := _spoken(Row(0, row)))]
    assistants = list(dict.fromkeys(one.speaker for one in spoken if one.role == "assistant"))
    is_asked = len(assistants) > 1 and not settings.assistant.strip()
    is_one = not any(one.group or id_in(one.cells, PARENT_COLUMNS) for one in spoken)
    groups: dict[str, list[JsonObject]] = {}
    for one in spoken:
        groups.setdefault(one.group, []).append(one.cells)
    unread = next((column for group in groups.values() if (column := unread_times(group))), "")
    return [
        *([SEVERAL.format(in_backticks(assistants, 5))] if is_asked else []),
        *([LEFT_OUT.format(in_backticks([as_written(internal[0], rows)]))] if internal else []),
        *([ONE_CONVERSATION] if is_one and spoken else []),
        *([UNREAD_TIMES.format(in_backticks([as_written(unread, rows)]))] if unread else []),
    ]


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
        elif column := internal_column(cells_of(row.values)):
            yield Rejected(row.number, INTERNAL.format(as_written(column, [row.values])), by_choice=True)
        elif one := _spoken(row):
            spoken.append(one)
        else:
            yield Rejected(row.number, "it contains no message", by_choice=True)
    _assign_roles(spoken, settings)
    groups: dict[str, list[Spoken]] = {}
    for item in _group(spoken):
        if isinstance(item, Rejected):
            yield item
        else:
            groups.setdefault(item.group, []).append(item)
    ids = telling_ids([one.cells for one in spoken])
    for group in groups.values():
        yield from _conversation([group[where] for where in in_order([one.cells for one in group], ids)])


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
    cells = cells_of(row.values)
    name, said = speaker_in(cells), said_in({key: cells[key] for key in TEXT_COLUMNS if key in cells})
    if said is None:
        said = next((cells[key] for key in OTHER_TEXT_COLUMNS if cells.get(key) is not None), None)
    text = said if isinstance(said, str) else _joined(said)
    if name is None or not text.strip():
        return None
    return Spoken(row, name, text.strip(), role_named(name), cells, id_in(cells, ID_COLUMNS))


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


def _group(spoken: list[Spoken]) -> Iterator[Spoken | Rejected]:
    """Yield messages with their conversation: the one they name, the one they reply to, or one for all.

    Raises:
        DataError: none is named, but an unknown column looks as if it did.
    """
    is_named = any(one.group for one in spoken)
    if not is_named:
        _group_by_reply(spoken)
    if len({one.group for one in spoken}) == 1 and (doubt := _unknown_id(spoken)):
        raise DataError(doubt)
    for one in spoken:
        one.group = one.group or (id_in(one.cells, ("ts",)) if is_named else "")
        yield one if one.group or not is_named else Rejected(one.row.number, NO_CONVERSATION)


def _group_by_reply(spoken: list[Spoken]) -> None:
    """Give messages that reply to others the conversation of the first one."""
    ids = [id_in(one.cells, MESSAGE_IDS) for one in spoken]
    parents = {id: id_in(one.cells, PARENT_COLUMNS) for id, one in zip(ids, spoken, strict=True)}
    if not any(parents.values()):
        return
    for one, id in zip(spoken, ids, strict=True):
        seen = {id}
        while (parent := parents.get(id, "")) and parent in parents and parent not in seen:
            id = parent
            seen.add(id)
        one.group = id


def _unknown_id(spoken: list[Spoken]) -> str:
    """Return the question whether an unknown column names the conversations; "" if none looks like it."""
    for name in dict.fromkeys(name for one in spoken for name in one.cells if name not in KNOWN):
        values = [id_in(one.cells, (name,)) for one in spoken]
        roles: dict[str, set[Role | None]] = {}
        for one, value in zip(spoken, values, strict=True):
            roles.setdefault(value, set()).add(one.role)
        if _are_ids(values) and all({"user", "assistant"} <= found for found in roles.values()):
            column = as_written(name, (one.row.values for one in spoken))
            return ONE_OR_MANY.format(len(spoken), column, len(roles))
    return ""


def _are_ids(values: list[str]) -> bool:
    """Return whether values look as if each named a conversation: several runs of rows, or few rows each."""
    distinct = set(values)
    runs = sum(before != after for before, after in pairwise(values)) + 1
    is_several = len(distinct) > 2 or len(distinct) == 2 and all(map(ID.fullmatch, distinct))
    return "" not in distinct and is_several and (runs == len(distinct) or len(distinct) >= len(values) / 4)
