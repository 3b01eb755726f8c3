"""Find the rows in an object that holds a whole table: pandas' orientations, rows by id, splits, and others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from sft_app.data.rows import JsonObject, Rejected, Row

_TRAIN = ("train", "training")
_OTHER_SPLITS = ("test", "testing", "validation", "valid", "val", "dev", "eval", "evaluation", "heldout")
TABLE_COLUMNS = {"question", "answer", "prompt", "response", "completion", "instruction", "input", "output", "text"}
_PLURALS = {"questions": "question", "answers": "answer", "prompts": "prompt", "responses": "response"}
_WORDS_OF_A_TEXT = 4


def rows_in_object(value: JsonObject, notes: list[str]) -> list[Any] | None:
    """Return the rows that an object holds, or None if it is a row itself. A note says how they were found."""
    for find in (_split_rows, _rows_api, _pandas_split, _columns_of_lists, _columns_by_index, _rows_by_id, _faq):
        if (found := find(value)) is not None:
            rows, note = found
            notes.append(note)
            return rows
    return None


def expand_rows(rows: Iterator[Row | Rejected], notes: list[str]) -> Iterator[Row | Rejected]:
    """Replace each row of a SQuAD file by one row for each question in it, and pass on all others."""
    number = 0
    for row in rows:
        expanded = _expanded(row.values, notes) if isinstance(row, Row) else None
        if expanded is None and not number:
            yield row
            continue
        for values in expanded or []:
            number += 1
            yield Row(number, values, row.note if isinstance(row, Row) else "")
        if expanded is None:
            number += 1
            yield replace(row, number=number) if isinstance(row, Row) else replace(row, row=number)


Found = tuple[list[Any], str] | None


def _split_rows(value: JsonObject) -> Found:
    """Take the training rows of `{"train": […], "test": […]}`."""
    lists = {key: rows for key, rows in value.items() if isinstance(rows, list) and rows}
    train = next((key for key in lists if key.lower() in _TRAIN), None)
    others = [key for key in lists if key.lower() in _OTHER_SPLITS]
    if train is None or not others:
        return None
    named = " and ".join(f"`{key}` ({len(lists[key])})" for key in others)
    return lists[train], f"Only the rows under `{train}` are read, not those under {named}."


def _rows_api(value: JsonObject) -> Found:
    """Unwrap an answer of the Hub's rows API, whose rows are under `row`."""
    rows = value.get("rows")
    if not isinstance(rows, list) or not rows or not all(isinstance(_get(item, "row"), dict) for item in rows):
        return None
    return [item["row"] for item in rows], "The rows are taken from `rows`, as the Hub's API returns them."


def _pandas_split(value: JsonObject) -> Found:
    """Join the names and cells of pandas' `split` orientation."""
    names: Any = value.get("columns")
    data: Any = value.get("data")
    if not _is_list_of(names, str) or not _is_list_of(data, list):
        return None
    if not all(len(cells) == len(names) for cells in data):
        return None
    rows = [dict(zip(names, cells, strict=True)) for cells in data]
    return rows, "The rows are joined from `columns` and `data`, as pandas writes them with orient='split'."


def _columns_of_lists(value: JsonObject) -> Found:
    """Turn columns that are lists of equal length into rows."""
    columns = list(value.values())
    if len(columns) < 2 or not all(isinstance(column, list) for column in columns):
        return None
    length = len(columns[0])
    if length < 2 or any(len(column) != length for column in columns):
        return None
    if not any(isinstance(item, str) for column in columns for item in column[:1]):
        return None
    names = [_PLURALS.get(name, name) for name in value]
    rows = [dict(zip(names, cells, strict=True)) for cells in zip(*columns, strict=True)]
    return rows, f"The object holds columns of {length} values each; each position is read as a row."


def _columns_by_index(value: JsonObject) -> Found:
    """Turn pandas' default orientation, `{column: {index: cell}}`, into rows."""
    columns = list(value.values())
    if not _is_list_of(columns, dict) or not all(columns[0].keys() == column.keys() for column in columns):
        return None
    are_numbers = all(key.isdecimal() for key in columns[0]) and not all(key.isdecimal() for key in value)
    if not are_numbers and len(TABLE_COLUMNS & {key.lower() for key in value}) < 2:
        return None
    rows = [{name: column[index] for name, column in value.items()} for index in columns[0]]
    return rows, "Each column is an object by row number, as pandas writes it; the rows are put together from them."


def _rows_by_id(value: JsonObject) -> Found:
    """Take the values of `{id: {…}, id: {…}}` if they share columns."""
    rows = list(value.values())
    if len(rows) < 2 or not _is_list_of(rows, dict) or not set.intersection(*(set(row) for row in rows)):
        return None
    return rows, "The file is an object of rows by id; the ids are not used."


def _faq(value: JsonObject) -> Found:
    """Read `{question: answer}` if most keys are whole questions."""
    texts = list(value)
    if len(texts) < 2 or not _is_list_of(list(value.values()), str):
        return None
    long = sum(1 for key in texts if key.rstrip().endswith(("?", "？")) or len(key.split()) >= _WORDS_OF_A_TEXT)
    if long * 2 < len(texts):
        return None
    rows = [{"question": question, "answer": answer} for question, answer in value.items()]
    return rows, "Each name in the object is read as a question, and its text as the answer."


def _expanded(row: JsonObject, notes: list[str]) -> list[JsonObject] | None:
    paragraphs: Any = row.get("paragraphs")
    if _is_list_of(paragraphs, dict) and all(isinstance(paragraph.get("qas"), list) for paragraph in paragraphs):
        _say_once(
            notes, "The file is in the SQuAD format: each question is a row, below its context, with its first answer."
        )
        return [_squad_row(paragraph, qa) for paragraph in paragraphs for qa in paragraph["qas"]]
    return None


def _squad_row(paragraph: JsonObject, qa: Any) -> JsonObject:
    answers = _get(qa, "answers")
    first = answers[0] if isinstance(answers, list) and answers else None
    texts = [
        text for text in (paragraph.get("context"), _get(qa, "question")) if isinstance(text, str) and text.strip()
    ]
    return {"question": "\n\n".join(texts), "answer": _get(first, "text")}


def _say_once(notes: list[str], note: str) -> None:
    if note not in notes:
        notes.append(note)


def _get(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _is_list_of(value: Any, kind: type) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, kind) for item in value)
