"""Turn examples into tables that a person can edit, and what the browser sends back into edits. Without Gradio."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from markupsafe import Markup
from pydantic import TypeAdapter, ValidationError

from sft_app.data.checkup.edits import (
    Change,
    Edits,
    can_be_edited,
    fingerprint,
    new_conversation,
    with_plain_line_ends,
)
from sft_app.data.checkup.pages import PAGE_EXAMPLES, ExamplePage
from sft_app.data.conversation import Conversation
from sft_app.data.reading import Example
from sft_app.errors import DataError
from sft_app.runtime.files import json_text
from sft_app.templating import render_html

TITLES = {"system": "System prompt", "user": "Question", "assistant": "Answer", "text": "Text"}
COLUMN_OF = {"system": "system", "user": "user", "tool": "user", "assistant": "assistant", "text": "text"}
LINES_TO_WRITE = 3
TOOLS_NOTE = (
    "Grey cells hold tool definitions, calls or results. They cannot be edited here; their rows can be removed."
)
OTHERS_NOTE = "You have unsaved changes to other data. They come back when you use it again, until you close this page."
_renders = itertools.count()


@dataclass(frozen=True)
class Draft:
    """The unsaved edits of one file, as the browser holds them. `added` has the texts of new examples by role."""

    changes: dict[int, Change] = field(default_factory=dict)
    added: list[dict[str, str]] = field(default_factory=list)

    def edits(self) -> Edits:
        """Return the edits to save. Raises: DataError if a new example is not complete."""
        made = [new_conversation(f"New example {line}", texts) for line, texts in enumerate(self.added, start=1)]
        return Edits(self.changes, [conversation for conversation in made if conversation is not None])


@dataclass(frozen=True)
class Request:
    """What the browser asks for: the page that begins with an index or a row, with the unsaved edits of each file."""

    drafts: dict[str, Draft] = field(default_factory=dict)
    first: int = 0
    row: int | None = None


@dataclass(frozen=True)
class WrittenExamples:
    """What was typed into the empty table: texts by role, with one system prompt for all."""

    system: str
    examples: list[dict[str, str]]


@dataclass(frozen=True)
class Cell:
    """A message in the table. `original` is its text in the file if it was edited."""

    text: str
    is_locked: bool
    attribute: Markup
    original: str | None


def read_request(sent: Any) -> Request:
    """Check what the browser sent. Raises: DataError."""
    request: Request = _checked(Request, sent)
    return request


def read_written(sent: Any) -> list[Conversation]:
    """Return the examples that were written by hand.

    Raises: DataError if one is not complete, or there is none.
    """
    written: WrittenExamples = _checked(WrittenExamples, sent)
    made = [
        new_conversation(f"Line {line}", {**texts, "system": written.system})
        for line, texts in enumerate(written.examples, start=1)
    ]
    conversations = [conversation for conversation in made if conversation is not None]
    if not conversations:
        raise DataError("There are no examples yet. Write at least one question with its answer.")
    return conversations


def edit_table(page: ExamplePage, request: Request, key: str, detail: str, notes: Sequence[str] = ()) -> str:
    """Show a page of examples to edit, with the unsaved edits of the file that has this `key`."""
    draft = request.drafts.get(key, Draft())
    columns = _columns([example.conversation for example in page.examples], draft.added)
    parts = [_part(page.first + place, example, draft) for place, example in enumerate(page.examples)]
    has_locked = any(cell and cell.is_locked for part in parts for line in part["lines"] for cell in line.values())
    has_others = bool(request.drafts.keys() - {key})
    return _render(
        columns,
        has_rows=True,
        title=_rows_in_words(page.examples),
        detail=detail,
        notes=[*notes, *[TOOLS_NOTE] * has_locked, *[OTHERS_NOTE] * has_others],
        has_others=has_others,
        parts=parts,
        added=draft.added,
        key=key,
        draft=json_text(asdict(draft)),
        first=page.first,
        next=page.next,
        previous=max(page.first - PAGE_EXAMPLES, 0) if page.first else None,
        unsaved=_unsaved_in_words(draft),
    )


def table_message(text: str, first: int | None = None, is_problem: bool = False) -> str:
    """Show a message in place of the table. The next one begins with the index `first` if other data is read."""
    values = {"text": text, "first": 0 if is_problem else first, "is_problem": is_problem}
    return render_html("data/example_message.html", render=next(_renders), **values)


def writing_table() -> str:
    """Show an empty table to write examples in."""
    return _render(("user", "assistant"), has_rows=False, title="", parts=[], notes=[], added=[{}] * LINES_TO_WRITE)


def _render(columns: Sequence[str], **values: Any) -> str:
    """Render the table. The number makes each one different, as the browser skips a value that it already shows."""
    attributes = {role: Markup('data-role="{}"').format(role) for role in columns}
    titles = [(role, TITLES[role]) for role in columns]
    return render_html(
        "data/example_table.html", columns=titles, role_attribute=attributes, render=next(_renders), **values
    )


def _columns(conversations: Sequence[Conversation], added: Sequence[Mapping[str, str]]) -> tuple[str, ...]:
    if any(conversation.is_text() for conversation in conversations):
        return ("text",)
    has_system = any(message.role == "system" for conversation in conversations for message in conversation.messages)
    return (*("system",) * (has_system or any("system" in texts for texts in added)), "user", "assistant")


def _part(number: int, example: Example, draft: Draft) -> dict[str, Any]:
    """Describe an example of the table. A message goes on the current line if the columns up to its own are free."""
    change = draft.changes.get(number, Change(""))
    order = list(TITLES)
    lines: list[dict[str, Cell | None]] = []
    last = len(order)
    for index, message in enumerate(example.conversation.messages):
        column = COLUMN_OF[message.role]
        if order.index(column) <= last:
            lines.append(dict.fromkeys(order))
        last = order.index(column)
        before = with_plain_line_ends(message.content)
        text = change.texts.get(index, before)
        original = None if text == before else before
        attribute = Markup('data-message="{}"').format(index)
        lines[-1][column] = Cell(text, not can_be_edited(message), attribute, original)
    return {
        "number": number,
        "row": example.row,
        "was": change.was or fingerprint(example.conversation),
        "removed": change.removed,
        "lines": lines,
    }


def _rows_in_words(examples: Sequence[Example]) -> str:
    first, last = examples[0].row, examples[-1].row
    return f"Row {first:,}" if first == last else f"Rows {first:,} to {last:,}"


def _unsaved_in_words(draft: Draft) -> str:
    """Say how much is not saved, as `example_tables.js` does while a person types."""
    removed = sum(change.removed for change in draft.changes.values())
    counts = {"edited": len(draft.changes) - removed, "removed": removed, "new": len(draft.added)}
    return ", ".join(f"{count:,} {word}" for word, count in counts.items() if count)


def _checked(kind: type[Any], sent: Any) -> Any:
    try:
        return TypeAdapter(kind).validate_json(json.dumps(sent))
    except (ValidationError, TypeError, ValueError):
        raise DataError("The page has not sent the table as expected. Copy what you wrote, then reload it.") from None
