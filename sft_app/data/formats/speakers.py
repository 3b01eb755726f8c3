"""Find out who speaks in chats between people, so that it can be asked which of them is the assistant."""

from __future__ import annotations

from collections.abc import Iterable

from sft_app.data.formats.converters.chat import message_list_column, unwrapped
from sft_app.data.formats.converters.exports import said_in_export
from sft_app.data.formats.converters.turn_shapes import shaped_messages
from sft_app.data.messages import RawMessages, first_texts, role_name, role_named, said_in
from sft_app.data.rows import JsonObject
from sft_app.errors import DataError, UnclearAssistantError
from sft_app.settings import DataSettings


def unclear_assistant(rows: Iterable[JsonObject], settings: DataSettings) -> DataError | None:
    """Return the question who of the speakers in lists of turns is the assistant; None if that is not the problem."""
    if settings.format == "exports":
        return _unclear_in_export(rows, settings)
    spoken = turn_speakers(rows)
    wanted = settings.assistant.strip()
    if wanted and len(spoken) > 1 and wanted.lower() not in map(str.lower, spoken):
        return UnclearAssistantError(f"No message is by {wanted!r}.", spoken)
    roles = {role_named(name) for name in spoken}
    if wanted or len(spoken) < 2 or "assistant" in roles or None not in roles:
        return None
    return UnclearAssistantError("The turns are by people.", spoken)


def _unclear_in_export(rows: Iterable[JsonObject], settings: DataSettings) -> DataError | None:
    """Return the question who answers in an export that only names the authors; None if it also says their roles."""
    said = [one for row in rows for one in said_in_export(row)]
    spoken = first_texts((one.name, one.text.strip()) for one in said if one.name)
    wanted = settings.assistant.strip()
    if not spoken or any(one.role == "assistant" for one in said) or wanted.lower() in map(str.lower, spoken):
        return None
    problem = f"No message is by {wanted!r}." if wanted else "The export does not say who of its authors answers."
    return UnclearAssistantError(problem, spoken)


def turn_speakers(rows: Iterable[JsonObject]) -> dict[str, str]:
    """Return who speaks in rows with lists of turns, those who speak most first, each with their first text."""
    turns = [turn for row in rows for turn in _turns(row) if isinstance(role_name(turn), str)]
    return first_texts((role_name(turn).strip(), said_in(turn)) for turn in turns)


def _turns(row: JsonObject) -> RawMessages:
    holder = unwrapped(row)
    return shaped_messages(holder.get(message_list_column(holder))) or []
