"""Convert rows of a table of texts to message lists: question and answer, or plain text."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sft_app.data.messages import RawMessages, kind_of
from sft_app.data.rows import JsonObject
from sft_app.errors import DataError
from sft_app.settings import DataSettings


@dataclass(frozen=True)
class ColumnMap:
    """The names of the columns for each role; "" if there is none.

    `context` is text that belongs to the question and is added below it (Alpaca's `input`).
    """

    user: str
    assistant: str
    system: str = ""
    context: str = ""

    def entries(self) -> tuple[str, ...]:
        """Return the map as a value of the setting `columns`: `("user=COLUMN", "assistant=COLUMN", …)`."""
        return tuple(f"{role}={column}" for role, column in vars(self).items() if column)

    def used(self) -> list[str]:
        """List the columns that the map names."""
        return [column for column in vars(self).values() if column]


def from_columns(row: JsonObject, columns: ColumnMap, strict: bool = True) -> list[RawMessages]:
    """Convert a row of a table to a question and its answer, preceded by a system prompt if there is one.

    Unless `strict`, numbers count as text, and every named column must exist.

    Raises:
        DataError: a column is missing or holds no text, or the question or answer is empty.
    """
    if not strict:
        _check_columns(row, columns)
    parts = [_cell(row, columns.user, strict), _cell(row, columns.context, strict, optional=True)]
    question = "\n".join(part for part in parts if part.strip())
    answer = _cell(row, columns.assistant, strict)
    for text, column, meaning in ((question, columns.user, "question"), (answer, columns.assistant, "answer")):
        if not text.strip():
            raise DataError(f"`{_in_one_line(column)}`, the {meaning}, is empty")
    messages = [
        {"role": "system", "content": _cell(row, columns.system, strict, optional=True)},
        {"role": "user", "content": question},
        {"role": "assistant", "content": answer},
    ]
    return [messages if messages[0]["content"].strip() else messages[1:]]


def from_chosen_columns(row: JsonObject, settings: DataSettings) -> list[RawMessages]:
    """Convert a row of any table, with the columns named in the settings. Raises: DataError as `from_columns`."""
    return from_columns(row, ColumnMap(**settings.column_map()), strict=False)


def from_text(row: JsonObject, settings: DataSettings) -> list[RawMessages]:
    """Convert `{"text"}`: plain text that is trained on from beginning to end.

    Raises:
        DataError: the column is missing or holds no text.
    Source: TRL, "Dataset formats".
    """
    return [[{"role": "text", "content": _cell(row, text_column(row) or "text")}]]


def text_column(row: JsonObject) -> str | None:
    """Find the column that holds a row's plain text: `text`, `content`, or the only column."""
    named = next((name for name in ("text", "content") if name in row), None)
    return named or (next(iter(row)) if len(row) == 1 else None)


def text_columns(row: JsonObject, settings: DataSettings) -> list[str]:
    """List the column that `from_text` reads."""
    return [text_column(row) or ""]


def chosen_columns(row: JsonObject, settings: DataSettings) -> list[str]:
    """List the columns that `from_chosen_columns` reads."""
    return list(settings.column_map().values())


def fitting_map(maps: Sequence[ColumnMap], columns: Collection[str]) -> ColumnMap:
    """Choose the first of `maps` whose question and answer are among `columns`, or else the first one."""
    return next((map for map in maps if {map.user, map.assistant} <= set(columns)), maps[0])


def _check_columns(row: JsonObject, columns: ColumnMap) -> None:
    missing = next((column for column in columns.used() if column not in row), None)
    if missing is not None:
        shown = ", ".join(_in_one_line(str(name)) for name in list(row)[:8])
        raise DataError(f"there is no column `{missing}`; the columns are {shown}{' …' if len(row) > 8 else ''}")


def _in_one_line(column: str) -> str:
    return " ".join(column.split())


def _cell(row: JsonObject, column: str, strict: bool = True, optional: bool = False) -> str:
    value = row.get(column)
    if optional and (value is None or value != value):  # pandas writes NaN where a cell is empty
        return ""
    if not strict and isinstance(value, (int, float)) and value == value:
        return str(value)
    if not isinstance(value, str):
        raise DataError(f"`{_in_one_line(column)}` must be text, got {kind_of(value)}")
    return value
