"""Split JSON text into values through a sliding window, without loading the whole file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from sft_app.data.sources.lines import MAX_ROW_BYTES, TooLong

# A complete string, or one of the groups: an opening bracket, a closing one, a comma, the quote of an open string.
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|([\[{])|([\]}])|(,)|(")', re.DOTALL)
_OPEN, _CLOSE, _COMMA, _CUT_STRING = 1, 2, 3, 4
_STRING_SO_FAR = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
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
