"""Refuse rows with pictures or sound, name what is attached to others, and drop what Parquet adds to rows."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any

from sft_app.data.formats.media import attached_note, attached_to_messages, media_reason
from sft_app.data.rows import JsonObject, Rejected, Row

SENTENCE_WORDS = 4
PADDED = ("tools", "functions", "tool_calls", "function_call", "arguments", "parameters")
"""Parquet gives every object under these names the keys of all others, as nulls."""


def usable_rows(rows: Iterable[Row | Rejected], is_parquet: bool) -> Iterator[Row | Rejected]:
    """Yield rows, those with media as `Rejected`; from Parquet, without nulls in the definitions and calls of tools.

    A row with messages that something else is attached to gets a note.
    """
    for row in rows:
        if isinstance(row, Rejected):
            yield row
            continue
        attached = attached_to_messages(row.values)
        if reason := media_reason(row.values, attached):
            yield Rejected(row.number, reason)
            continue
        if is_parquet:
            row = Row(row.number, without_padding(row.values), row.note)
        note = attached_note(attached) if attached else ""
        yield Row(row.number, row.values, ", and ".join(filter(None, (row.note, note)))) if note else row


def without_padding(value: Any, is_inside: bool = False) -> Any:
    """Drop nulls inside the definitions, calls and arguments of tools."""
    if isinstance(value, list):
        return [without_padding(item, is_inside) for item in value]
    if not isinstance(value, dict):
        return value
    kept = {name: inner for name, inner in value.items() if inner is not None or not is_inside}
    return {name: without_padding(inner, is_inside or name in PADDED) for name, inner in kept.items()}


def unread_texts(row: JsonObject, read: Collection[str]) -> int:
    """Return a hash of the sentences and lists in columns that are not read; 0 if there are none."""
    others = [(name, value) for name, value in row.items() if name not in read]
    telling = [(name, repr(value)) for name, value in others if _tells_something(value)]
    return hash(tuple(telling)) if telling else 0


def _tells_something(value: Any) -> bool:
    if isinstance(value, str):
        return len(value.split(maxsplit=SENTENCE_WORDS)) >= SENTENCE_WORDS
    return isinstance(value, (list, dict)) and bool(value)
