"""Read chats that WhatsApp exported: lines that begin with a date, and the further lines of their messages."""

from __future__ import annotations

from collections.abc import Iterator

from sft_app.data.rows import Row
from sft_app.data.sources.lines import MAX_ROW_BYTES, UnreadableFileError, decoded_lines
from sft_app.data.spoken_lines import CHAT_DATE

LEAST_MESSAGES = 3
LEAST_SHARE = 0.2
"""At least this share of the lines begins with a date; the others continue a message."""
NOTE = "Each line that begins with a date is read as a message, with the lines below it up to the next date."


def is_dated_chat(text: str) -> bool:
    """Return whether the first line and enough of the others begin with a date and a time, as a chat's export does."""
    dated = [CHAT_DATE.match(line) is not None for line in text.splitlines() if line.strip()]
    return any(dated[:1]) and sum(dated) >= max(LEAST_MESSAGES, LEAST_SHARE * len(dated))


def read_dated_chat(blocks: Iterator[bytes], notes: list[str]) -> Iterator[Row]:
    """Read each message as a row with `text`, which begins with its date, numbered by its first line.

    Raises:
        UnreadableFileError: a line is no text, or a message is larger than a row may be.
    """
    notes.append(NOTE)
    begins, message, guessed, size = 1, list[str](), "", 0
    for number, line, note in decoded_lines(blocks):
        if CHAT_DATE.match(line):
            if message:
                yield _row(begins, message, guessed)
            begins, message, guessed, size = number, [], "", 0
        message.append(line)
        guessed, size = guessed or note, size + len(line)
        if size > MAX_ROW_BYTES:
            raise UnreadableFileError("a message is larger than a row may be; the rest of the file was not read")
    if message:
        yield _row(begins, message, guessed)


def _row(number: int, lines: list[str], note: str) -> Row:
    return Row(number, {"text": "\n".join(lines).strip()}, note)
