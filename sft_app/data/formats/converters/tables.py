"""Convert rows of a table of texts to message lists: question and answer, or plain text."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache

from sft_app.data.formats.converters.message_cells import plain_name
from sft_app.data.formats.converters.turn_shapes import shaped_messages
from sft_app.data.formats.option_columns import check_option_answer, option_columns, option_list_column, options_of
from sft_app.data.messages import RawMessages, kind_of
from sft_app.data.rows import JsonObject
from sft_app.data.spoken_lines import spoken_turns
from sft_app.data.tool_calls import TOOL_COLUMNS, definitions_text, parse_json
from sft_app.errors import DataError
from sft_app.settings import DataSettings

HISTORY_COLUMNS = ("history", *(f"{one}_history" for one in ("conversation", "chat", "dialogue", "dialog", "message")))
EMPTY_HISTORIES = ("", "[]", "{}", "none", "null", "nan", "n/a", "-")
THOUGHT_COLUMNS = (
    *("reasoning", "reasoning_content", "thinking", "thought", "thoughts", "cot", "complex_cot", "chain_of_thought"),
    *("thinking_trajectory", "thinking_trajectories", "think", "reasoning_trace", "reasoning_steps"),
)


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

    Unless `strict`, numbers count as text, and the columns of the question and the answer must exist.

    Raises:
        DataError: a column is missing or holds no text, or the question or answer is empty.
    """
    if not strict:
        _check_columns(row, columns)
    options = options_of(row, columns.used())
    history, before = _history(row, columns)
    parts = [before, _cell(row, columns.user, strict), _cell(row, columns.context, strict, optional=True)]
    parts += [f"{label}. {text}" for label, text in options]
    question = "\n".join(part for part in parts if part.strip()) if any(map(str.strip, parts[1:])) else ""
    answer = _cell(row, columns.assistant, strict)
    if options:
        check_option_answer(answer, options, columns.assistant)
    for text, column, meaning in ((question, columns.user, "question"), (answer, columns.assistant, "answer")):
        if not text.strip():
            raise DataError(f"`{_in_one_line(column)}`, the {meaning}, is empty")
    system = {"role": "system", "content": _cell(row, columns.system, strict, optional=True)}
    tools = next((row[name] for name in TOOL_COLUMNS if definitions_text(row.get(name))), None)
    if tools is not None:
        system["tools"] = tools
    replied = _answer(answer, tools is not None, _thought(row, columns))
    messages = [*history, {"role": "user", "content": question}, replied]
    return [[system, *messages] if system["content"].strip() or tools is not None else messages]


def extra_columns(row: JsonObject, columns: ColumnMap) -> list[str]:
    """List the columns that belong to the example by their names: history, reasoning, tools and options."""
    used = columns.used()
    thoughts = [name for name in row if _is_thought(name)][:1]
    named = [
        *(name for name in row if _is_history(name) and row[name]),
        *(name for name in TOOL_COLUMNS if row.get(name)),
    ]
    return [name for name in (*named, *thoughts, *_option_columns(row, used)) if name not in used]


def _history(row: JsonObject, columns: ColumnMap) -> tuple[RawMessages, str]:
    """Return the turns before the question, and what is text without turns. Raises: DataError if it is neither."""
    turns: RawMessages = []
    texts: list[str] = []
    for name in (name for name in row if _is_history(name) and name not in columns.used()):
        value = row[name]
        if read := shaped_messages(value) or (spoken_turns(value) if isinstance(value, str) else []):
            turns += read
        elif isinstance(value, str):
            texts += [value.strip()] if value.strip().lower() not in EMPTY_HISTORIES else []
        elif isinstance(value, list) and all(isinstance(one, str) for one in value):
            texts += value
        elif isinstance(value, (list, dict)) and value:
            raise DataError(f"`{_in_one_line(name)}` contains {kind_of(value)} that is no list of turns")
    return turns, "\n".join(texts)


@lru_cache(maxsize=1024)
def _is_history(name: str) -> bool:
    return plain_name(name) in HISTORY_COLUMNS


def _answer(text: str, has_tools: bool, thought: str) -> JsonObject:
    """Make the answer's message; in a row with tools, one that is a JSON list of calls becomes calls (xLAM)."""
    calls = parse_json(text) if has_tools else None
    if isinstance(calls, list) and calls and all(isinstance(one, dict) and "name" in one for one in calls):
        return {"role": "assistant", "content": "", "tool_calls": calls}
    return {"role": "assistant", "content": text, **({"reasoning": thought} if thought else {})}


@lru_cache(maxsize=1024)
def _is_thought(name: str) -> bool:
    return re.sub(r"[\W_]+", "_", name.strip().lower()) in THOUGHT_COLUMNS


def _thought(row: JsonObject, columns: ColumnMap) -> str:
    """Return the reasoning that a row has in a column of its own; of several traces, the first."""
    value = next((row[name] for name in row if _is_thought(name) and name not in columns.used()), "")
    value = value[0] if isinstance(value, list) and value else value
    return value if isinstance(value, str) else ""


def _option_columns(row: JsonObject, used: Sequence[str]) -> list[str]:
    """List the columns that hold one option of a multiple-choice question each, or the one that lists its options."""
    columns = option_columns(tuple(row))
    if columns and not columns.keys() & set(used):
        return list(columns)
    listed = option_list_column(row, used)
    return [listed] if listed else []


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
    return [*settings.column_map().values(), *extra_columns(row, ColumnMap(**settings.column_map()))]


def fitting_map(maps: Sequence[ColumnMap], columns: Collection[str]) -> ColumnMap:
    """Choose the first of `maps` whose question and answer are among `columns`, or else the first one."""
    return next((map for map in maps if {map.user, map.assistant} <= set(columns)), maps[0])


def _check_columns(row: JsonObject, columns: ColumnMap) -> None:
    missing = next((column for column in (columns.user, columns.assistant) if column not in row), None)
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
