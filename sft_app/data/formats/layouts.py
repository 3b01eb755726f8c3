"""Rows to conversations: one small function for each layout that people bring.

A converter takes a row and gives the message lists in it, several where a row holds several answers. It raises
`DataError` for a row that cannot be used, and `NotChosen` for one that the settings leave out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sft_app.data.conversation import ROLES, as_json, kind_of
from sft_app.data.formats.column_names import SYSTEM_NAMES
from sft_app.data.formats.contests import from_code_contests
from sft_app.data.formats.preferences import before_column, chosen_column, preferred_messages
from sft_app.data.formats.profile import plain
from sft_app.data.formats.trees import from_reply_tree
from sft_app.errors import DataError
from sft_app.settings import DataSettings

Messages = list[Any]
Converter = Callable[[dict[str, Any], DataSettings], list[Messages]]

TURN_COLUMNS = ("messages", "conversations", "conversation", "dialogue", "dialog", "turns", "chat")


@dataclass(frozen=True)
class ColumnMap:
    """Which columns of a table hold what; "" where there is none."""

    user: str
    assistant: str
    system: str = ""
    context: str = ""

    def entries(self) -> tuple[str, ...]:
        """As the setting `columns` has them."""
        return tuple(f"{role}={column}" for role, column in vars(self).items() if column)

    def used(self) -> list[str]:
        return [column for column in vars(self).values() if column]


TABLES: dict[str, list[ColumnMap]] = {
    # Source: stanford_alpaca, README.
    "alpaca": [ColumnMap("instruction", "output", context="input")],
    # Source: databricks-dolly-15k, data set card.
    "dolly": [ColumnMap("instruction", "response", context="context")],
    # Source: teknium1/GPTeacher; its README says `output`, its files `response`.
    "gpteacher": [ColumnMap("instruction", answer, context="input") for answer in ("response", "output")],
    # Source: nomic-ai/gpt4all-j-prompt-generations, data set card.
    "gpt4all": [ColumnMap("prompt", "response")],
    # Source: Open-Orca/OpenOrca, data set card, for the system prompt.
    "question_answer": [
        ColumnMap(question, answer, system="system_prompt")
        for question in ("question", "query")
        for answer in ("answer", "response")
    ],
}


def from_messages(row: dict[str, Any], settings: DataSettings) -> list[Messages]:
    """`{"messages": [{"role", "content"}, …]}`, also with a `system` text and the definitions of `tools`.

    Source: OpenAI fine-tuning format; TRL conversational format.
    """
    column = turn_column(row)
    messages = row.get(column)
    if not isinstance(messages, list) or not messages:
        raise DataError(f"`{column}` must be a list with at least one message")
    return [_with_tools(_with_system(messages, row.get("system")), row)]


def from_sharegpt(row: dict[str, Any], settings: DataSettings) -> list[Messages]:
    """`{"conversations": [{"from", "value"}, …]}`, also with `system` and `tools`.

    Source: lm-sys/FastChat, dummy data; LLaMA-Factory, data/README.md, for the last two.
    """
    return from_messages(row, settings)


def from_prompt_completion(row: dict[str, Any], settings: DataSettings) -> list[Messages]:
    """`{"prompt", "completion"}`, each a text or a list of messages. Source: TRL, "Dataset formats"."""
    messages = _turns(row.get("prompt"), "user", "prompt") + _turns(row.get("completion"), "assistant", "completion")
    return [_with_tools(messages, row)]


def from_preference(row: dict[str, Any], settings: DataSettings) -> list[Messages]:
    """`{"prompt", "chosen", "rejected"}` with messages or dialogues: what leads to the chosen answer, and it."""
    before = row.get(before_column(row) or "")
    tools = before if isinstance(before, dict) else row
    return [_with_tools(_with_system(preferred_messages(row), _system_text(row)), tools)]


def from_text(row: dict[str, Any], settings: DataSettings) -> list[Messages]:
    """`{"text"}`: plain text, learnt from its first word to its last. Source: TRL, "Dataset formats"."""
    return [[{"role": "text", "content": _cell(row, text_column(row) or "text")}]]


def from_columns(row: dict[str, Any], columns: ColumnMap, strict: bool = True) -> list[Messages]:
    """A row of a table. Unless `strict`, numbers are taken as text and every named column must be there."""
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


def turn_column(row: dict[str, Any]) -> str:
    """The column that holds a row's messages: the first of the usual ones with a list in it."""
    there = [name for name in TURN_COLUMNS if name in row]
    return next((name for name in there if isinstance(row[name], list) and row[name]), (there or ["messages"])[0])


def text_column(row: dict[str, Any]) -> str | None:
    """The column that holds a row's plain text: the one of that name, or the only one there is."""
    named = next((name for name in ("text", "content") if name in row), None)
    return named or (next(iter(row)) if len(row) == 1 else None)


def used_columns(row: dict[str, Any], settings: DataSettings) -> list[str]:
    """The columns of a row that are read under a layout that has been decided on; reply trees and contests use all."""
    beside = ["system", "tools", "functions"]
    if settings.format in TABLES:
        return table_columns(settings.format, row).used()
    if settings.format == "columns":
        return list(settings.column_map().values())
    if settings.format in ("messages", "sharegpt"):
        return [turn_column(row), *beside]
    if settings.format == "prompt_completion":
        return ["prompt", "completion", *beside[1:]]
    if settings.format == "preference":
        return [chosen_column(row) or "", before_column(row) or "", *SYSTEM_NAMES, *beside]
    return [text_column(row) or ""] if settings.format == "text" else list(row)


def system_column(names: Any) -> str:
    """The column with the system prompt; "" where none is called so."""
    return next((name for name in names if plain(str(name)) in SYSTEM_NAMES), "")


def table_columns(name: str, row_columns: Any) -> ColumnMap:
    """The columns that the table layout `name` has in a row; its usual ones when the row has none of them."""
    fitting = [columns for columns in TABLES[name] if {columns.user, columns.assistant} <= set(row_columns)]
    return (fitting or TABLES[name])[0]


def converter(settings: DataSettings) -> Converter:
    """The function for a layout that has been decided on. Raises: DataError when columns have to be named first."""
    name = settings.format
    if name in TABLES:
        return lambda row, _: from_columns(row, table_columns(name, row))
    if name == "columns":
        if not settings.columns:
            raise DataError(
                "The columns of the question and the answer are not chosen. Give them as user=COLUMN, assistant=COLUMN."
            )
        named = ColumnMap(**settings.column_map())
        return lambda row, _: from_columns(row, named, strict=False)
    return CONVERTERS[name]


CONVERTERS: dict[str, Converter] = {
    "messages": from_messages,
    "sharegpt": from_sharegpt,
    "prompt_completion": from_prompt_completion,
    "oasst": from_reply_tree,
    "code_contests": from_code_contests,
    "preference": from_preference,
    "text": from_text,
}


def _system_text(row: dict[str, Any]) -> Any:
    return row.get(system_column(row))


def _with_system(messages: Messages, text: Any) -> Messages:
    """A row's own system text, unless its messages begin with one."""
    if not isinstance(text, str) or not text.strip() or _begins_with_system(messages):
        return messages
    return [{"role": "system", "content": text}, *messages]


def _with_tools(messages: Messages, row: dict[str, Any]) -> Messages:
    """Tool definitions stand in the system message, as text, which every chat template carries."""
    tools = row.get("tools") or row.get("functions")
    text = tools if isinstance(tools, str) else as_json(tools) if tools else ""
    if text.strip() in ("", "[]", "{}", "null"):
        return messages
    definitions = f"# Tools\n<tools>\n{text}\n</tools>"
    if not _begins_with_system(messages):
        return [{"role": "system", "content": definitions}, *messages]
    said = messages[0].get("content", messages[0].get("value")) or []
    parts = [f"{said}\n"] if isinstance(said, str) else said  # parts are joined by a line break
    if not isinstance(parts, list):
        raise DataError(f"message 1 (system) has {kind_of(said)} as content; expected text")
    return [{"role": "system", "content": [*parts, definitions]}, *messages[1:]]


def _begins_with_system(messages: Messages) -> bool:
    first = messages[0] if messages and isinstance(messages[0], dict) else {}
    role = first.get("role", first.get("from"))
    return isinstance(role, str) and ROLES.get(role.strip().lower()) == "system"


def _turns(value: Any, role: str, column: str) -> Messages:
    if isinstance(value, list):
        return value
    if isinstance(value, str):
        return [{"role": role, "content": value}]
    raise DataError(f"`{column}` must be text or a list of messages, got {kind_of(value)}")


def _check_columns(row: dict[str, Any], columns: ColumnMap) -> None:
    missing = next((column for column in columns.used() if column not in row), None)
    if missing is not None:
        shown = ", ".join(_in_one_line(str(name)) for name in list(row)[:8])
        raise DataError(f"there is no column `{missing}`; the columns are {shown}{' …' if len(row) > 8 else ''}")


def _in_one_line(column: str) -> str:
    return " ".join(column.split())


def _cell(row: dict[str, Any], column: str, strict: bool = True, optional: bool = False) -> str:
    value = row.get(column)
    if optional and (value is None or value != value):  # pandas writes NaN where a cell is empty
        return ""
    if not strict and isinstance(value, (int, float)) and value == value:
        return str(value)
    if not isinstance(value, str):
        raise DataError(f"`{_in_one_line(column)}` must be text, got {kind_of(value)}")
    return value
