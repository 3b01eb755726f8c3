"""Read the rows of JSON Lines and .json files, splitting them into values without loading the whole file."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import orjson

from sft_app.data.rows import Rejected, Row
from sft_app.data.sources.lines import (
    MAX_ROW_BYTES,
    TooLong,
    UndecodableError,
    UnreadableFileError,
    decode_line,
    split_lines,
)

MAX_OBJECT_BYTES = 2**28
"""An object around the rows is loaded whole to see which of its lists has them; that takes four times its size."""
_KINDS = {
    list: "a list",
    str: "a string",
    bool: "true or false",
    int: "a number",
    float: "a number",
    type(None): "null",
}
# A complete string, or one of the groups: an opening bracket, a closing one, a comma, the quote of an open string.
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|([\[{])|([\]}])|(,)|(")', re.DOTALL)
_OPEN, _CLOSE, _COMMA, _CUT_STRING = 1, 2, 3, 4
_STRING_SO_FAR = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
_KEY = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"\s*:\s*', re.DOTALL)
_LIST_OF_OBJECTS = re.compile(rb"\[\s*\{")
_NOT_SPACE = re.compile(rb"[^ \t\r\n]")


@dataclass(frozen=True, slots=True)
class Position:
    """A position in a text. Line and column count from 1; columns are characters."""

    line: int = 1
    column: int = 1

    def after(self, counted: bytes) -> Position:
        """Return the position after these bytes of the text."""
        lines = counted.count(b"\n")
        last = counted[counted.rfind(b"\n") + 1 :].decode(errors="ignore")
        return Position(self.line + lines, len(last) + (1 if lines else self.column))

    def __str__(self) -> str:
        return f"line {self.line}, column {self.column}"


@dataclass(frozen=True, slots=True)
class Value:
    """The text of a JSON value and its position; `is_whole` is False if the file ends within it."""

    source: bytes
    position: Position
    is_whole: bool = True
    too_long: TooLong | None = None


def read_jsonl_rows(blocks: Iterator[bytes]) -> Iterator[Row | Rejected]:
    """Read one object per line; blank lines are counted but skipped."""
    for number, line in enumerate(split_lines(blocks), start=1):
        if isinstance(line, TooLong):
            yield Rejected(number, line.reason)
        elif row := parse_row(number, line):
            yield row


def read_json_rows(blocks: Iterator[bytes]) -> Iterator[Row | Rejected]:
    """Read the items of a list, consecutive objects, the only list of objects in an object, or that object itself.

    Raises:
        UnreadableFileError: the text is neither a list nor an object, or it is cut off.
    """
    text = Text(blocks)
    begin = text.peek()
    if begin == b"[":
        yield from _read_items(text)
    elif begin == b"{":
        yield from _read_objects(text)
    elif begin:
        found = text.window[text.start : text.start + 20].split(b"\n")[0].decode(errors="replace").strip()
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
            return Row(number, value) if type(value) is dict else _not_an_object(number, value)
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
        return Rejected(
            number, f"not valid JSON: {error.msg.removesuffix(' at')} at {_position_in_file(error, position)}"
        )
    except (ValueError, RecursionError) as error:
        return Rejected(number, f"JSON that cannot be stored: {error}")
    return Row(number, value, note) if isinstance(value, dict) else _not_an_object(number, value)


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


def _not_an_object(number: int, value: Any) -> Rejected:
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


def _read_objects(text: Text) -> Iterator[Row | Rejected]:
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
    else:
        size = len(first.source)
        too_long = TooLong(size) if size > MAX_ROW_BYTES else None
        yield from _as_rows(iter([replace(first, too_long=too_long)]))


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


class Text:
    """Splits JSON text into values through a sliding window; `start` is the index of the next value in the window."""

    def __init__(self, blocks: Iterator[bytes], position: Position | None = None) -> None:
        self.blocks = blocks
        self.window = b""
        self.start = 0
        self.counted = 0  # the byte of the window that `position` refers to
        self.position = position or Position()

    def peek(self) -> bytes:
        """Move to the next byte that is not white space and return it; b"" at the end."""
        while not (found := _NOT_SPACE.search(self.window, self.start)):
            self.start = len(self.window)
            if not self.grow():
                return b""
        self.start = found.start()
        return found.group()

    def position_of(self, byte: int) -> Position:
        """Return the position in the file of a byte in the window."""
        self.position, self.counted = self.position.after(self.window[self.counted : byte]), byte
        return self.position

    def grow(self) -> bool:
        """Drop what comes before `start`, and double the window, so that a long value costs only its length."""
        self.position_of(self.start)
        kept = self.window[self.start :]
        more: list[bytes] = []
        while sum(map(len, more)) <= len(kept) and (block := next(self.blocks, None)) is not None:
            more.append(block)
        self.window, self.start, self.counted = kept + b"".join(more), 0, 0
        return bool(more)

    def values(self, depth: int, limit: int | None = MAX_ROW_BYTES) -> Iterator[Value]:
        """Yield values up to their closing bracket (depth 1) or the end of the text (depth 0).

        A value ends with its bracket or at a comma, so that a missing or extra comma does no harm. A value of more
        than `limit` bytes is skipped and reported.
        """
        reached, level, dropped = self.start, depth, 0
        while True:
            for token in _TOKEN.finditer(self.window, reached):
                kind = token.lastindex
                if kind is None:
                    continue
                if kind == _CUT_STRING:
                    reached = token.start()
                    break
                level += (kind == _OPEN) - (kind == _CLOSE)
                if level > depth or (level == depth and kind == _OPEN):
                    continue
                end = token.end() if level == depth and kind == _CLOSE else token.start()
                value = self._value(end, dropped, limit)
                self.start = token.end()
                if value:
                    dropped = 0
                    yield value
                if level < depth:
                    return
            else:
                reached = len(self.window)
            reached, dropped = self._slide(reached, dropped, limit)
            if reached < 0:
                break
        if self.peek() or depth:
            rest, position = self.window[self.start :], self.position_of(self.start)
            self.start = len(self.window)
            yield Value(rest, position, is_whole=False)

    def _value(self, end: int, dropped: int, limit: int | None) -> Value | None:
        """Return the text between `start` and `end` as a value; None if it is blank."""
        found = _NOT_SPACE.search(self.window, self.start, end)
        size = dropped + end - self.start
        if limit and size > limit:
            return Value(b"", self.position, too_long=TooLong(size))
        return Value(self.window[found.start() : end].rstrip(), self.position_of(found.start())) if found else None

    def _slide(self, reached: int, dropped: int, limit: int | None) -> tuple[int, int]:
        """Read more; of a value that is too long, only the quote of an open string is kept. (-1, _) at the end."""
        if limit and dropped + len(self.window) - self.start > limit:
            string = _STRING_SO_FAR.match(self.window, reached)
            end = string.end() if string else reached
            dropped += end - self.start
            self.position_of(end)
            self.window = (b'"' if string else b"") + self.window[end:]
            self.start, self.counted, reached = 0, 1 if string else 0, 0
            dropped -= self.counted
        reached -= self.start
        return (reached if self.grow() else -1), dropped
