"""Read the rows of JSON Lines and .json files without loading the whole file."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import orjson

from sft_app.data.rows import Rejected, Row
from sft_app.data.sources.json_values import Position, Text, Value
from sft_app.data.sources.json_wrappers import TABLE_COLUMNS, expand_rows, rows_in_object
from sft_app.data.sources.lines import (
    MAX_ROW_BYTES,
    TooLong,
    UndecodableError,
    UnreadableFileError,
    decode_line,
    split_lines,
)
from sft_app.data.sources.python_literals import MAX_LITERAL_BYTES, parse_python_literal

MAX_OBJECT_BYTES = 2**28
"""An object around the rows is loaded whole to see which of its lists has them; that takes four times its size."""
READ_AS_PYTHON = "read as Python literals, because they are not JSON"
READ_AS_PAIR = "pairs of texts, read as a question and its answer"
_KINDS = {
    list: "a list",
    str: "a string",
    bool: "true or false",
    int: "a number",
    float: "a number",
    type(None): "null",
}
_KEY = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"\s*:\s*', re.DOTALL)
_LIST_OF_OBJECTS = re.compile(rb"\[\s*\{")


def read_jsonl_rows(blocks: Iterator[bytes]) -> Iterator[Row | Rejected]:
    """Read one object per line; blank lines are counted but skipped."""
    for number, line in enumerate(split_lines(blocks), start=1):
        if isinstance(line, TooLong):
            yield Rejected(number, line.reason)
        elif row := parse_row(number, line):
            yield row


def read_json_rows(blocks: Iterator[bytes], notes: list[str] | None = None) -> Iterator[Row | Rejected]:
    """Read the items of a list, consecutive objects, the rows that an object holds, or that object itself.

    A note says how the rows were found if the object around them is not a plain list.

    Raises:
        UnreadableFileError: the text is neither a list nor an object, or it is cut off.
    """
    text, notes = Text(blocks), [] if notes is None else notes
    begin = text.peek()
    if begin == b"[":
        yield from expand_rows(_read_items(text), notes)
    elif begin == b"{":
        yield from expand_rows(_read_objects(text, notes), notes)
    elif begin:
        found = text.window[text.start : text.start + 20].split(b"\n")[0].decode(errors="replace").strip()
        if found.startswith(("//", "/*", "#")):
            raise UnreadableFileError(
                f"the file begins with a comment ({found}), which JSON has not; delete the comments"
            )
        raise UnreadableFileError(
            f"the file must contain a list of rows in [ ] or an object in {{ }}, but begins with {found}"
        )
    if text.peek():
        raise UnreadableFileError(
            f"everything from {text.position_of(text.start)} on is ignored, because the rows end before it"
        )


def parse_row(number: int, source: bytes, position: Position | None = None) -> Row | Rejected | None:
    """Parse the row in `source`; None if it is blank. `position` is its start in the file, None for a whole line."""
    try:
        value = orjson.loads(source)
        if not _holds_huge_number(value):
            return _as_row(number, value)
    except orjson.JSONDecodeError:
        if not source.strip():
            return None
    return _parse_slowly(number, source, position)


def _parse_slowly(number: int, source: bytes, position: Position | None) -> Row | Rejected:
    """Parse with the standard library, which accepts NaN, long integers and lone surrogates and reports positions."""
    if b"\0" in source:
        return Rejected(number, "it contains zero bytes; the file is damaged or not text")
    try:
        text, note = decode_line(source, "line" if position is None else "row")
        value = json.loads(text.removeprefix("\ufeff"))  # left where files were joined
    except UndecodableError as error:
        return Rejected(number, str(error))
    except json.JSONDecodeError as error:
        if (literal := _parse_literal(text)) is not None:
            return _as_row(number, literal, READ_AS_PYTHON)
        return Rejected(
            number, f"not valid JSON: {error.msg.removesuffix(' at')} at {_position_in_file(error, position)}"
        )
    except (ValueError, RecursionError) as error:
        return Rejected(number, f"JSON that cannot be stored: {error}")
    return _as_row(number, value, note)


def _parse_literal(text: str) -> Any:
    """Parse a dict or list as Python prints it; None if it is something else."""
    if not text.lstrip().startswith(("{", "[", "array(")):
        return None
    try:
        value = parse_python_literal(text)
    except ValueError:
        return None
    return None if isinstance(value, list) and text.lstrip().startswith("{") else value  # several dicts in a row


def read_python_rows(blocks: Iterator[bytes], notes: list[str]) -> Iterator[Row | Rejected]:
    """Read a file that is one Python literal, like the JSON that it should have been.

    Raises:
        UnreadableFileError: it is longer than `MAX_LITERAL_BYTES`, or not a literal.
    """
    content = b""
    for block in blocks:
        content += block
        if len(content) > MAX_LITERAL_BYTES:
            raise UnreadableFileError(
                f"the file holds a Python literal, not JSON, of more than {MAX_LITERAL_BYTES / 1e6:.0f} MB; "
                "save it again with json.dump"
            )
    try:
        value = parse_python_literal(content.decode().strip())
        source = json.dumps(value).encode()
    except (ValueError, TypeError) as error:
        raise UnreadableFileError(
            "the file looks like a Python literal, not JSON, but cannot be parsed; save it again with json.dump"
        ) from error
    notes.append("The file holds a Python literal, not JSON; it is read as such.")
    yield from read_json_rows(iter([source]), notes)


def _holds_huge_number(value: Any) -> bool:
    """Return whether orjson may have rounded a number, because it turns integers beyond 64 bits into floats."""
    kind = type(value)
    if kind is float:
        return bool(abs(value) >= 2**63)
    if kind is dict or kind is list:
        for item in value.values() if kind is dict else value:
            if type(item) is not str and _holds_huge_number(item):
                return True
    return False


def _as_row(number: int, value: Any, note: str = "") -> Row | Rejected:
    """Make a row of an object; a list of messages or a pair of texts becomes one."""
    if type(value) is dict:
        return Row(number, value, note)
    if type(value) is list and value and all(type(item) is dict for item in value):
        return Row(number, {"messages": value}, note)
    if type(value) is list and len(value) == 2 and all(type(item) is str for item in value):
        if {text.strip().lower() for text in value} <= TABLE_COLUMNS:
            return Rejected(
                number, f"it holds the names of columns, {value[0]!r} and {value[1]!r}, not a pair of texts"
            )
        return Row(number, {"question": value[0], "answer": value[1]}, note or READ_AS_PAIR)
    return Rejected(number, f"the row must be an object with named columns, got {_KINDS[type(value)]}")


def _position_in_file(error: json.JSONDecodeError, position: Position | None) -> str:
    if position is None:
        return f"column {error.colno}"
    return str(position.after(error.doc[: error.pos].encode(errors="replace")))


def _read_items(text: Text) -> Iterator[Row | Rejected]:
    """Read the rows of the list that starts here."""
    text.peek()
    text.start += 1
    yield from _as_rows(text.values(depth=1))


def _read_objects(text: Text, notes: list[str]) -> Iterator[Row | Rejected]:
    first = next(text.values(depth=0, limit=MAX_OBJECT_BYTES))
    if first.too_long:
        size, most = first.too_long.size / 1e6, MAX_OBJECT_BYTES / 1e6
        raise UnreadableFileError(
            f"an object around all rows can be at most {most:.0f} MB, got {size:.0f} MB; save the rows as JSON Lines"
        )
    if text.peek():
        rest = text.values(depth=0)
        yield from _as_rows(itertools.chain([first], rest))
        return
    lists = list(_lists_of_objects(first))
    if len(lists) == 1:
        inner = Text(iter([lists[0].source]), lists[0].position)
        yield from _read_items(inner)
        if not first.is_whole:
            raise _cut_off(first)
        return
    outer = parse_row(1, first.source, first.position) if first.is_whole else None
    found = rows_in_object(outer.values, notes) if isinstance(outer, Row) else None
    if found is None:
        size = len(first.source)
        too_long = TooLong(size) if size > MAX_ROW_BYTES else None
        yield from _as_rows(iter([replace(first, too_long=too_long)]))
    for number, value in enumerate(found or [], start=1):
        yield _as_row(number, value)


def _lists_of_objects(wrapper: Value) -> Iterator[Value]:
    """Find the values of an object that are lists starting with an object."""
    text = Text(iter([wrapper.source]), wrapper.position)
    text.peek()
    text.start += 1
    for member in text.values(depth=1, limit=None):
        key = _KEY.match(member.source)
        if key and _LIST_OF_OBJECTS.match(member.source, key.end()):
            yield Value(member.source[key.end() :], member.position.after(key.group()))


def _cut_off(value: Value) -> UnreadableFileError:
    end = value.position.after(value.source)
    return UnreadableFileError(f"the file ends at {end} before the row or the list is closed; it seems to be cut off")


def _as_rows(values: Iterator[Value]) -> Iterator[Row | Rejected]:
    for number, value in enumerate(values, start=1):
        if value.too_long:
            yield Rejected(number, value.too_long.reason)
        elif not value.is_whole:
            raise _cut_off(value)
        elif row := parse_row(number, value.source, value.position):
            yield row
