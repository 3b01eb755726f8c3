"""Choose how a text file is read: by its ending, unless its first lines show that it is something else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

from sft_app.data.rows import Rejected, Row
from sft_app.data.sources.chat_texts import (
    is_chat,
    is_dated_chat,
    is_named_chat,
    read_chats,
    read_dated_chat,
    read_named_chat,
)
from sft_app.data.sources.csv_files import (
    CONSISTENT,
    DELIMITERS,
    consistency,
    first_records,
    is_anki,
    read_anki,
    read_csv_rows,
)
from sft_app.data.sources.json_files import parse_row, read_json_rows, read_jsonl_rows, read_python_rows
from sft_app.data.sources.json_values import Text
from sft_app.data.sources.lines import HEAD_BYTES, UnreadableFileError, take_head, whole_lines
from sft_app.data.sources.packed_files import MARKDOWN_SUFFIXES
from sft_app.data.sources.question_texts import are_questions, is_markdown_table, read_markdown_table, read_questions
from sft_app.data.sources.txt_files import read_txt_rows

Kind = Literal[
    "lines",
    "json",
    "python",
    "table",
    "text",
    "markdown table",
    "questions",
    "chat",
    "dated chat",
    "named chat",
    "anki",
]
_USUAL: dict[str, Kind] = {
    ".jsonl": "lines",
    ".ndjson": "lines",
    ".json": "json",
    ".csv": "table",
    ".tsv": "table",
    ".txt": "text",
    ".md": "text",
}
_SAID = {
    "lines": "JSON Lines",
    "json": "JSON over several lines, or a single list",
    "python": "a Python literal",
    "table": "a table",
    "markdown table": "a Markdown table",
    "questions": "questions and answers",
    "chat": "a chat",
    "dated chat": "the export of a chat",
    "named chat": "a chat",
    "anki": "cards",
}
_PYTHON = re.compile(rb"(?:array\(|[\[{\s(])+'")
_JSON_LIST = re.compile(rb'\[\s*[\[{"\]]')
PLAIN_MARKDOWN = (
    "this is a text with markup, without a table or lines that begin with `Q:` and `A:`. To teach answers, write each "
    "question in a line that begins with `Q:` and its answer below it with `A:`, or put both in a table with a column "
    "for each. To train on the text itself, rename it to end in .txt"
)
MOST_NAME_CHARACTERS = 40


def read_text_rows(suffix: str, blocks: Iterator[bytes], notes: list[str]) -> Iterator[Row | Rejected]:
    """Read the rows of a text file, and add a note if it is not what its ending says.

    Raises:
        UnreadableFileError: nothing can be read after this position.
    """
    head, blocks = take_head(blocks)
    usual = _USUAL[suffix]
    kind = _recognise(usual, head)
    if kind != usual and kind != "python":
        notes.append(f"The {suffix} file holds {_SAID[kind]} and is read as that.")
    if kind == "lines":
        return read_jsonl_rows(blocks)
    if kind == "json":
        return read_json_rows(blocks, notes)
    if kind == "python":
        return read_python_rows(blocks, notes)
    if kind == "markdown table":
        return read_markdown_table(blocks, notes)
    if kind == "questions":
        return read_questions(blocks, notes)
    if kind == "dated chat":
        return read_dated_chat(blocks, notes)
    if kind == "named chat":
        return read_named_chat(blocks, notes)
    if kind == "anki":
        return read_anki(whole_lines(head), blocks, notes)
    if kind == "chat":
        return read_chats(whole_lines(head), blocks, notes)
    if suffix in MARKDOWN_SUFFIXES and kind == "text":
        raise UnreadableFileError(PLAIN_MARKDOWN)
    if kind == "table":
        return read_csv_rows(blocks, "\t" if suffix == ".tsv" else None, notes, suffix == ".txt")
    return read_txt_rows(blocks)


def _recognise(usual: Kind, head: bytes) -> Kind:
    text = head[:HEAD_BYTES].lstrip(b"\xef\xbb\xbf \t\r\n")
    if text[:1] in (b"{", b"[") or text.startswith(b"array("):
        usual = _json_kind(usual, text)
    return _text_kind(text.decode(errors="replace")) if usual == "text" else usual


def _text_kind(text: str) -> Kind:
    if is_anki(text):
        return "anki"
    if is_markdown_table(text):
        return "markdown table"
    if are_questions(text):
        return "questions"
    if is_named_chat(text):
        return "named chat"
    if is_dated_chat(text):
        return "dated chat"
    if is_chat(text):
        return "chat"
    return "table" if _is_table(text) else "text"


def _json_kind(usual: Kind, text: bytes) -> Kind:
    """Decide between one value on each line, one value for the file, and a file that only begins like JSON."""
    first, _, rest = text.partition(b"\n")
    following = rest.lstrip()[:1]
    if _PYTHON.match(text):
        return "lines" if _is_row(first) and (text[:1] == b"{" or following == b"[") else "python"
    if _is_row(first):
        if text[:1] == b"{":
            return "json" if usual == "json" else "lines"
        return "lines" if following == b"[" else "json" if not following else usual
    if usual == "json":
        return usual
    if text[:1] == b"[":
        return "json" if _JSON_LIST.match(text) and (following or len(text) >= HEAD_BYTES) else usual
    return "json" if _is_over_several_lines(text) else usual


def _is_row(line: bytes) -> bool:
    return isinstance(parse_row(1, line), Row) or (line[:1] == b"[" and _is_list_of_objects(line))


def _is_list_of_objects(line: bytes) -> bool:
    """Return whether a line is a whole list, whose items are rows."""
    rows = list(read_json_rows(iter([line]))) if line.rstrip().endswith(b"]") else []
    return any(isinstance(row, Row) for row in rows)


def _is_over_several_lines(text: bytes) -> bool:
    """Return whether an object spans several lines, or all that was read."""
    value = next(Text(iter([text])).values(depth=0), None)
    if value is None or b"\n" not in value.source.strip():
        return False
    if value.is_whole:
        return isinstance(parse_row(1, value.source), Row)
    return len(text) >= HEAD_BYTES - 8 and text.partition(b"\n")[0].strip() == b"{"


def _is_table(text: str) -> bool:
    """Return whether every record has as many cells as the first, which are short names."""
    for delimiter in sorted(DELIMITERS, key="\t;|^~,".index):
        records = first_records(text, delimiter)
        if consistency(records) < (CONSISTENT if delimiter == "\t" else 1) or len(records[0]) < 2:
            continue
        names = [cell.strip() for cell in records[0]]
        if all(names) and all(len(name) <= MOST_NAME_CHARACTERS for name in names) and _look_like_names(records[0]):
            return True
    return False


def _look_like_names(cells: list[str]) -> bool:
    """Return whether cells can be names of columns: no sentences, and no blank after the delimiter as in prose."""
    return not any(cell.startswith(" ") or cell.rstrip().endswith((".", "!", ":")) for cell in cells)
