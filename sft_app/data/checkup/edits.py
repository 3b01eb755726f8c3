"""Edit conversations by hand. Like a fix, this never changes the source: it makes a copy and records what was done."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sft_app.data.checkup.fixes import AppliedFix, Cleaning, check_destination, write_copy
from sft_app.data.conversation import Conversation, make_conversation
from sft_app.data.messages import END_OF_THOUGHT, START_OF_THOUGHT, Message
from sft_app.data.reading import DataFile, Example, Reading
from sft_app.data.tool_calls import as_json
from sft_app.errors import DataError
from sft_app.runtime.progress import ProgressCallback

TOOL_MARKS = ("<tools>", "<tool_call>")


@dataclass(frozen=True)
class Change:
    """What was done to one conversation: the new texts of its messages, by their index, or its removal.

    `was` is the conversation's fingerprint, so that no other conversation is changed should the file have changed.
    """

    was: str
    texts: dict[int, str] = field(default_factory=dict)
    removed: bool = False


@dataclass(frozen=True)
class Edits:
    """The changes by the conversation's index in the file, and the new conversations to append, in order."""

    changes: dict[int, Change] = field(default_factory=dict)
    added: list[Conversation] = field(default_factory=list)


def fingerprint(conversation: Conversation) -> str:
    """Return the same short text for the same conversation, also in another process."""
    return hashlib.blake2b(as_json(conversation.as_copied()).encode(), digest_size=12).hexdigest()


def can_be_edited(message: Message) -> bool:
    """Return whether a message is only text. The text of tools must agree with their values, so it stays as it is."""
    has_tools = message.role == "tool" or message.structure or any(mark in message.content for mark in TOOL_MARKS)
    return not has_tools


def edited(row: int, conversation: Conversation, texts: Mapping[int, str]) -> Conversation:
    """Return a conversation with new texts for some of its messages; one whose text is now empty is left out.

    Raises: DataError, naming the `row`, if the result cannot be trained on, or an edited message holds tools.
    """
    new = dict(enumerate(conversation.messages))
    for index, text in texts.items():
        before = new.get(index)
        if before is None or not can_be_edited(before):
            raise DataError(f"Row {row:,} contains tools, which cannot be edited here. Discard this change.")
        if text == with_plain_line_ends(before.content):
            continue
        _check_thought(row, before.content, text)
        new[index] = Message(before.role, text, before.trained)
    if list(new.values()) == list(conversation.messages):
        return conversation
    kept = [message for index, message in new.items() if message.content.strip() or index not in texts]
    if not any(message.content.strip() for message in kept):
        raise DataError(f"Row {row:,} is empty. Write something, or remove the row.")
    try:
        return make_conversation([message.as_copied() for message in kept])
    except DataError as error:
        raise _unfit(row, new, texts, str(error)) from None


def new_conversation(where: str, texts: Mapping[str, str]) -> Conversation | None:
    """Make a conversation of the texts of a system, user and assistant message, or of one `text`; None without any.

    Raises: DataError, naming `where` they were written, if the question or the answer is missing.
    """
    said = {role: with_plain_line_ends(text).strip() for role, text in texts.items()}
    if not any(text for role, text in said.items() if role != "system"):
        return None
    if "text" not in said:
        if not said.get("user"):
            raise DataError(f"{where} has an answer but no question. Write the question, or clear the answer.")
        if not said.get("assistant"):
            raise DataError(f"{where} has a question but no answer. Write the answer, or clear the question.")
    roles = ("text",) if "text" in said else ("system", "user", "assistant")
    try:
        return make_conversation({"role": role, "content": said[role]} for role in roles if said.get(role))
    except DataError as error:
        raise DataError(f"{where} cannot be used: {error}.") from None


def with_plain_line_ends(text: str) -> str:
    """Return a text as a browser's text field holds it."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def write_edited_copy(
    file: DataFile, edits: Edits, copy: Path, on_progress: ProgressCallback | None = None
) -> Cleaning:
    """Write the conversations of `file` with `edits` to `copy` as JSONL, next to `<copy>.cleaning.json`.

    It takes one pass and holds one conversation at a time. Those that were not edited are written as they are.

    Raises:
        DataError: an edit cannot be trained on, nothing is changed or would remain, the file is no longer the one that
            was edited, the copy would overwrite the source, or it cannot be written.
    """
    if not edits.changes and not edits.added:
        raise DataError("There is nothing to save yet. Edit, remove or add an example first.")
    check_destination(file.path, copy)
    editing = _EditedReading(file, edits, on_progress)
    write_copy(copy, editing, editing.record)
    return editing.record()


class _EditedReading:
    """Reads the source once with the edits applied; `done` lists the rows that were edited, removed and added."""

    def __init__(self, file: DataFile, edits: Edits, on_progress: ProgressCallback | None) -> None:
        self.edits = edits
        self.reading = Reading(file, on_progress)
        self.done: dict[str, list[int]] = {"edited": [], "removed": [], "added": []}

    def __iter__(self) -> Iterator[Conversation]:
        written = met = 0
        for index, example in enumerate(self.reading):
            change = self.edits.changes.get(index)
            met += change is not None
            conversation = example.conversation if change is None else self._changed(example, change)
            if conversation is not None:
                written += 1
                yield conversation
        if met < len(self.edits.changes):
            raise _changed_meanwhile(self.reading.file)
        for conversation in self.edits.added:
            written += 1
            self.done["added"].append(written)
            yield conversation
        if not written:
            raise DataError("Every example would be removed. Keep at least one.")

    def record(self) -> Cleaning:
        """Return the record of the copy, without what was not done."""
        file = self.reading.file
        applied = [AppliedFix(name, sorted(set(rows))) for name, rows in self.done.items() if rows]
        return Cleaning(str(file.path), file.settings.model_dump(mode="json"), applied, self.reading.rejected)

    def _changed(self, example: Example, change: Change) -> Conversation | None:
        if fingerprint(example.conversation) != change.was:
            raise _changed_meanwhile(self.reading.file)
        if change.removed:
            self.done["removed"].append(example.row)
            return None
        conversation = edited(example.row, example.conversation, change.texts)
        if conversation != example.conversation:
            self.done["edited"].append(example.row)
        return conversation


def _check_thought(row: int, before: str, text: str) -> None:
    """Refuse a thought that has lost its end: all of the answer would be one. Raises: DataError."""
    if START_OF_THOUGHT in text and END_OF_THOUGHT not in text and END_OF_THOUGHT in before:
        raise DataError(
            f"The thought in row {row:,} has no end. Write {END_OF_THOUGHT} after it, or remove {START_OF_THOUGHT} too."
        )


def _unfit(row: int, new: Mapping[int, Message], texts: Mapping[int, str], fault: str) -> DataError:
    """Say what is missing in the words of the table."""
    empty = next((new[index] for index in sorted(texts) if not new[index].content.strip()), None)
    if empty is None:
        return DataError(f"Row {row:,} cannot be used: {fault}. Change it, or remove the row.")
    missing, other = ("answer", "question") if empty.role == "assistant" else ("question", "answer")
    return DataError(
        f"Row {row:,} has {'an' if other == 'answer' else 'a'} {other} without {'an' if other == 'question' else 'a'} "
        f"{missing}. Write the {missing}, or clear the {other} too to remove this turn."
    )


def _changed_meanwhile(file: DataFile) -> DataError:
    return DataError(
        f"{file.path.name} is no longer the file that you edited, so nothing was saved. Copy what you wrote, discard "
        "the changes, and edit again."
    )
