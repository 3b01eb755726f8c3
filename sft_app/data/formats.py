"""Rows to conversations: one small function for each layout that people bring."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from sft_app.data.conversation import Conversation, make_conversation
from sft_app.data.sources import NumberedRow, Rejected, read_rows
from sft_app.errors import DataError

ROWS_LOOKED_AT = 50


@dataclass(frozen=True)
class LoadedData:
    """A file after conversion: nothing is lost, every row is in one of the two lists.

    `row_numbers[i]` is the row that `conversations[i]` came from.
    """

    format: str
    conversations: list[Conversation]
    row_numbers: list[int]
    rejected: list[Rejected]

    @property
    def rows(self) -> int:
        return len(self.conversations) + len(self.rejected)


def from_messages(row: dict[str, Any]) -> Conversation:
    """`{"messages": [{"role", "content"}, …]}`. Source: OpenAI fine-tuning format, TRL conversational format."""
    messages = row.get("messages")
    if not isinstance(messages, list) or not messages:
        raise DataError("`messages` must be a list with at least one message")
    return make_conversation(messages)


def from_prompt_completion(row: dict[str, Any]) -> Conversation:
    """`{"prompt", "completion"}`, each a text or a list of messages. Source: TRL, "Dataset formats"."""
    return make_conversation(
        _turns(row.get("prompt"), "user", "prompt") + _turns(row.get("completion"), "assistant", "completion")
    )


def from_alpaca(row: dict[str, Any]) -> Conversation:
    """`{"instruction", "input", "output"}`, `input` often empty. Source: stanford_alpaca, README."""
    parts = [_text(row, "instruction"), _text(row, "input", default="")]
    question = "\n".join(part for part in parts if part.strip())
    return make_conversation(
        [{"role": "user", "content": question}, {"role": "assistant", "content": _text(row, "output")}]
    )


CONVERTERS: dict[str, Callable[[dict[str, Any]], Conversation]] = {
    "messages": from_messages,
    "prompt_completion": from_prompt_completion,
    "alpaca": from_alpaca,
}
COLUMNS = {
    "messages": {"messages"},
    "prompt_completion": {"prompt", "completion"},
    "alpaca": {"instruction", "output"},
}


def detect_format(rows: Iterable[dict[str, Any]]) -> str:
    """The first known layout whose columns all stand in one of the rows.

    Raises:
        DataError: none fits; names the columns there are.
    """
    seen: set[str] = set()
    for row in rows:
        for name, columns in COLUMNS.items():
            if columns <= row.keys():
                return name
        seen |= row.keys()
    expected = "; ".join(" + ".join(sorted(columns)) for columns in COLUMNS.values())
    raise DataError(f"The columns {', '.join(sorted(map(str, seen))) or '(none)'} fit no known layout ({expected}).")


def load_conversations(path: Path, format: str = "auto") -> LoadedData:
    """Reads and converts a whole file.

    Raises:
        DataError: the file cannot be read, fits no layout, or has no usable row.
    """
    rows = read_rows(path)
    first, readable = _look_ahead(rows)
    if not readable:
        reason = f"row {first[0].row}: {first[0].reason}" if first and isinstance(first[0], Rejected) else "no rows"
        raise DataError(f"{path.name} has no readable row ({reason}).")
    name = detect_format(readable) if format == "auto" else format
    loaded = _convert_all(chain(first, rows), name)
    if not loaded.conversations:
        worst = loaded.rejected[0]
        raise DataError(f"{path.name} has no usable conversation. Row {worst.row}: {worst.reason}.")
    return loaded


def _look_ahead(rows: Iterator[NumberedRow | Rejected]) -> tuple[list[NumberedRow | Rejected], list[dict[str, Any]]]:
    """All rows up to the fiftieth readable one, and the readable ones of them."""
    first: list[NumberedRow | Rejected] = []
    readable: list[dict[str, Any]] = []
    for row in rows:
        first.append(row)
        if not isinstance(row, Rejected):
            readable.append(row[1])
        if len(readable) == ROWS_LOOKED_AT:
            break
    return first, readable


def _convert_all(rows: Iterable[NumberedRow | Rejected], name: str) -> LoadedData:
    loaded = LoadedData(name, [], [], [])
    for row in rows:
        if isinstance(row, Rejected):
            loaded.rejected.append(row)
            continue
        number, values = row
        try:
            loaded.conversations.append(CONVERTERS[name](values))
            loaded.row_numbers.append(number)
        except DataError as error:
            loaded.rejected.append(Rejected(number, str(error)))
    return loaded


def _turns(value: Any, role: str, column: str) -> list[Any]:
    if isinstance(value, list):
        return value
    if isinstance(value, str):
        return [{"role": role, "content": value}]
    raise DataError(f"`{column}` must be a text or a list of messages, got {type(value).__name__}")


def _text(row: dict[str, Any], column: str, default: str | None = None) -> str:
    value = row.get(column)
    if value is None:
        value = default
    if not isinstance(value, str):
        raise DataError(f"`{column}` must be a text, got {type(value).__name__}")
    return value
