"""Read chats that are written as text: lines that begin with who speaks, such as `User:`, or with a date.

WhatsApp exports the latter; the lines of a message below its first have no date.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import pairwise

from sft_app.data.rows import Rejected, Row
from sft_app.data.sources.lines import MAX_ROW_BYTES, UnreadableFileError, decoded_lines
from sft_app.data.spoken_lines import CHAT_DATE, marked_role, turns_of

_NAMED = re.compile(
    r"(?:\[?(?:\d{4}-\d\d-\d\d[ T])?\d{1,2}:\d\d(?::\d\d)?\]?\s+)?<(?P<irc>[@+%&~ ]?[^\W\d][^<>\s/]{0,30})>\s"
    r"|\d{1,2}:\d\d(?: ?[AaPp][Mm])?\t(?P<line>[^\t\n]{1,60})\t"
)
"""A line of IRC's logs, `[12:01] <nick> text`, or of LINE's exports, time, name and text between tabs."""
_NOTICE = re.compile(
    r"\s*(?:\[?(?:\d{4}-\d\d-\d\d[ T])?\d{1,2}:\d\d(?::\d\d)?\]?\s+(?:\*|-!-|-->|<--|---|={2,})|\*{1,3} |--- "
    r"|\d{4}[/.-]\d{1,2}[/.-]\d{1,2}|\d{1,2}:\d\d(?: ?[AaPp][Mm])?\t[^\t]*$)"
)
"""A line that is no message: who joined or left, or the date of those below."""
NAMED = "Lines that name who says them are read as messages; notices and dates between them are left out."
LEAST_NAMED = 0.6
_RULE = re.compile(r"\s*([-=*_#])\1{2,}\s*")
LEAST_TURNS = 2
"""Of the user, and of the assistant: one of each may be a dialogue in prose."""
BLANK = "Blank lines separate the conversations."
RULED = "Lines such as `---` separate the conversations."
WHOLE = "The file is one conversation. Put a line with `---` between several."
LEAST_MESSAGES = 3
LEAST_DATED = 0.2
"""At least this share of the lines begins with a date; the others continue a message."""
DATED = "Each line that begins with a date is read as a message, with the lines below it up to the next date."


def is_chat(text: str) -> bool:
    """Return whether a text begins with a turn, and both user and assistant have several."""
    lines = [line for line in text.splitlines() if line.strip() and not _RULE.fullmatch(line)]
    roles = [role for line in lines if (role := marked_role(line)[0])]
    starts = bool(lines) and bool(marked_role(lines[0])[0])
    return starts and min(roles.count("user"), roles.count("assistant")) >= LEAST_TURNS


def read_chats(head: str, blocks: Iterator[bytes], notes: list[str]) -> Iterator[Row | Rejected]:
    """Read each conversation as a row with `messages`; `head` is the beginning of the text, which shows what separates.

    Raises:
        UnreadableFileError: a line is no text, or a conversation is larger than a row may be.
    """
    is_ruled, is_blank = _separators(head.splitlines())
    notes.append("Lines that begin with who speaks, such as `User:`, are read as turns of a chat.")
    notes.append(RULED if is_ruled else BLANK if is_blank else WHOLE)
    for number, lines in _conversations(decoded_lines(blocks), is_ruled, is_blank):
        yield _row(number, lines)


def _separators(lines: list[str]) -> tuple[bool, bool]:
    """Return whether rules, and whether blank lines, separate conversations."""
    filled = [line for line in lines if line.strip()]
    after_rules = [line for before, line in pairwise(filled) if _RULE.fullmatch(before)]
    after_blanks = [line for before, line in pairwise(lines) if line.strip() and not before.strip()]
    return _are_beginnings(after_rules), _are_beginnings(after_blanks)


def _are_beginnings(lines: list[str]) -> bool:
    """Return whether every line can begin a conversation: it is a turn, but not the assistant's."""
    return bool(lines) and all(marked_role(line)[0] in ("user", "system") for line in lines)


def _conversations(
    lines: Iterable[tuple[int, str, str]], is_ruled: bool, is_blank: bool
) -> Iterator[tuple[int, list[tuple[str, str]]]]:
    """Yield the (text, note) of the lines of each conversation, and the number of the first."""
    begins, size, part = 1, 0, list[tuple[str, str]]()
    for number, line, note in lines:
        is_end = bool(_RULE.fullmatch(line)) if is_ruled else is_blank and not line.strip()
        if is_end:
            if part:
                yield begins, part
            part, size = [], 0
            continue
        if not part and not line.strip():
            continue
        begins = begins if part else number
        part.append((line, note))
        size += len(line)
        if size > MAX_ROW_BYTES:
            raise UnreadableFileError("a conversation is larger than a row may be; the rest of the file was not read")
    if part:
        yield begins, part


def _row(number: int, lines: list[tuple[str, str]]) -> Row | Rejected:
    messages = turns_of(line for line, _ in lines)
    if not messages:
        return Rejected(number, f"it begins with no speaker: “{lines[0][0].strip()[:40]}”")
    return Row(number, {"messages": messages}, max(note for _, note in lines))


def is_dated_chat(text: str) -> bool:
    """Return whether the first line and enough of the others begin with a date and a time, as a chat's export does."""
    dated = [CHAT_DATE.match(line) is not None for line in text.splitlines() if line.strip()]
    return any(dated[:1]) and sum(dated) >= max(LEAST_MESSAGES, LEAST_DATED * len(dated))


def read_dated_chat(blocks: Iterator[bytes], notes: list[str]) -> Iterator[Row]:
    """Read each message as a row with `text`, which begins with its date, numbered by its first line.

    Raises:
        UnreadableFileError: a line is no text, or a message is larger than a row may be.
    """
    notes.append(DATED)
    begins, message, guessed, size = 1, list[str](), "", 0
    for number, line, note in decoded_lines(blocks):
        if CHAT_DATE.match(line):
            if message:
                yield _message(begins, message, guessed)
            begins, message, guessed, size = number, [], "", 0
        message.append(line)
        guessed, size = guessed or note, size + len(line)
        if size > MAX_ROW_BYTES:
            raise UnreadableFileError("a message is larger than a row may be; the rest of the file was not read")
    if message:
        yield _message(begins, message, guessed)


def _message(number: int, lines: list[str], note: str) -> Row:
    return Row(number, {"text": "\n".join(lines).strip()}, note)


def is_named_chat(text: str) -> bool:
    """Return whether most lines name who says them, as the logs of IRC and the exports of LINE do."""
    lines = [line for line in text.splitlines() if line.strip()]
    found = [one for line in lines if (one := _NAMED.match(line))]
    has_header = any("\t" in line and not _NAMED.match(line) for line in lines[:4])
    named = {one["irc"] or one["line"] for one in found}
    is_markup = any(f"</{name}>" in text for name in named)
    return (
        len(found) >= max(LEAST_MESSAGES, LEAST_NAMED * len(lines)) and len(named) > 1 and not (is_markup or has_header)
    )


def read_named_chat(blocks: Iterator[bytes], notes: list[str]) -> Iterator[Row]:
    """Read each message as a row with `time`, `speaker` and `text`; what stands above the first is named in a note.

    Raises:
        UnreadableFileError: a line is no text, or a message is larger than a row may be.
    """
    notes.append(NAMED)
    row: Row | None = None
    above = ""
    for number, line, note in decoded_lines(blocks):
        found = _NAMED.match(line)
        if found:
            if row:
                yield row
            speaker = found["irc"] or found["line"]
            row = Row(number, {"speaker": speaker.strip("@+%&~ "), "text": line[found.end() :].strip()}, note)
        elif row and line.strip() and not _NOTICE.match(line):
            row = Row(row.number, {**row.values, "text": f"{row.values['text']}\n{line.strip()}"}, row.note or note)
            if len(row.values["text"]) > MAX_ROW_BYTES:
                raise UnreadableFileError("a message is larger than a row may be; the rest of the file was not read")
        elif line.strip() and not row and not above:
            above = line.strip()
            notes.append(f"The text above the first message is left out: “{above[:40]}”.")
    if row:
        yield row
