"""Fix findings. A fix never changes the source: it makes a cleaned copy and records what was done."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from sft_app.data.checkup.finding import count_of
from sft_app.data.checkup.markers import remove_markers
from sft_app.data.checkup.personal_data import mask_personal_data
from sft_app.data.checkup.personal_rows import PersonalRows
from sft_app.data.checkup.placeholders import Placeholders
from sft_app.data.checkup.subjects import is_about
from sft_app.data.checkup.text_checks import repair_encoding, strip_html
from sft_app.data.conversation import Conversation
from sft_app.data.duplicates import equal_groups, repeats
from sft_app.data.reading import DataFile, Example, Reading, no_conversation
from sft_app.data.rows import JsonObject, Rejected
from sft_app.data.split import RelatedRows, as_array
from sft_app.errors import DataError
from sft_app.runtime.files import write_json_atomically, write_jsonl_atomically
from sft_app.runtime.progress import ProgressCallback

LABELS = {
    "repair_turns": "Fix empty or out-of-order turns",
    "repair_encoding": "Repair wrongly decoded characters and remove invisible ones",
    "strip_html": "Convert HTML to plain text",
    "remove_markers": "Remove chat template markers at the ends of a turn",
    "mask_personal_data": "Replace addresses, numbers and keys with [email], [phone], …",
    "drop_placeholders": "Remove rows with a placeholder such as #N/A, TODO or [deleted]",
    "drop_duplicates": "Remove exact duplicates",
    "drop_near_duplicates": "Remove near duplicates",
    "keep_first_answer": "Keep only the first answer to each question",
}
BY_HAND = {"edited": "Edited by hand", "removed": "Removed by hand", "added": "Added by hand"}
"""What a person did to a copy (`edits`), under the names that its record has."""
RECOMMENDED = (
    "repair_turns",
    "repair_encoding",
    "remove_markers",
    "mask_personal_data",
    "drop_placeholders",
    "drop_duplicates",
)
"""Fixes that hardly ever remove anything the author intended."""
REWRITES: dict[str, Callable[[str], str]] = {
    "repair_encoding": repair_encoding,
    "strip_html": strip_html,
    "remove_markers": remove_markers,
    "mask_personal_data": mask_personal_data,
}


MOST_COPIES = 1000
"""Records of copies that name each other as their source would go on for ever."""


@dataclass(frozen=True)
class AppliedFix:
    """A fix, or what was done by hand, and the rows it changed, removed or added (those of the copy)."""

    fix: str
    rows: list[int]

    def sentence(self) -> str:
        """Return a sentence that says what the fix did and to how many rows."""
        label = {**LABELS, **BY_HAND}[self.fix]
        return f"{label}: {count_of(len(self.rows), 'row')}"


@dataclass(frozen=True)
class Cleaning:
    """How a cleaned copy was made, as stored in `<copy>.cleaning.json`.

    `settings` are the `DataSettings` of the source; `left_out` are the rows that no fix could repair.
    """

    source: str
    settings: JsonObject
    applied: list[AppliedFix]
    left_out: list[Rejected]


def read_cleaning(copy: Path) -> Cleaning | None:
    """Read the record of how a cleaned copy was made; None for any other file."""
    try:
        record = json.loads(_record_path(copy).read_bytes())
        applied = record["applied"] if "applied" in record else record["deeds"]  # as earlier versions called them
        left_out = [Rejected(**row) for row in record["left_out"]]
        return Cleaning(record["source"], record["settings"], [AppliedFix(**fix) for fix in applied], left_out)
    except (OSError, ValueError, LookupError, TypeError):
        return None


def cleaning_history(copy: Path) -> list[Cleaning]:
    """List how a copy came about, from the original on: a copy can be made of another. [] for any other file."""
    history: list[Cleaning] = []
    while (cleaning := read_cleaning(copy)) and len(history) < MOST_COPIES:
        history.insert(0, cleaning)
        copy = Path(cleaning.source)
    return history


def write_cleaned_copy(
    file: DataFile, fixes: Sequence[str], copy: Path, on_progress: ProgressCallback | None = None
) -> Cleaning:
    """Apply `fixes` to the conversations of `file` and write them to `copy` as JSONL, next to `<copy>.cleaning.json`.

    Raises:
        DataError: a fix is unknown, no conversation would remain, the copy would overwrite the source, or it cannot
            be written.
    """
    unknown = sorted(set(fixes) - set(LABELS))
    if unknown:
        raise DataError(f"There is no fix {unknown[0]!r}. Choose from {', '.join(LABELS)}.")
    check_destination(file.path, copy)
    first = _FixedReading(file, fixes, lambda share: on_progress(share / 2) if on_progress else None)
    related, placeholders, personal = RelatedRows(), Placeholders(), PersonalRows()
    for example in first.reading:  # a row that only a fix makes equal to another is no duplicate
        related.add(example.row, example.conversation, example.unread)
        placeholders.add(example.conversation)
        if "mask_personal_data" in fixes:
            personal.add(first.rewrite(example))
    if not len(related.rows):
        raise no_conversation(file, first.reading.rejected)
    dropped = _dropped(related, placeholders, fixes)
    if sum(map(len, dropped.values())) == len(related.rows):
        raise DataError(
            f"The fixes would remove every row of {file.path.name}. Check which columns hold the questions and answers."
        )
    report = (lambda share: on_progress(0.5 + share / 2)) if on_progress else (lambda share: None)
    second = _FixedReading(file, fixes, report, personal.kept())
    removed = set().union(*(set(indexes.tolist()) for indexes in dropped.values()))
    kept = (example.conversation for index, example in enumerate(second) if index not in removed)

    def record() -> Cleaning:
        applied = [AppliedFix(fix, sorted(set(rows))) for fix, rows in second.changed.items()]
        rows = related.rows
        applied += [AppliedFix(fix, sorted({rows[index] for index in indexes})) for fix, indexes in dropped.items()]
        return Cleaning(str(file.path), file.settings.model_dump(mode="json"), applied, second.reading.rejected)

    return write_copy(copy, kept, record)


def write_copy(copy: Path, conversations: Iterable[Conversation], record: Callable[[], Cleaning]) -> Cleaning:
    """Write conversations to `copy` one by one, then what `record` returns next to it, and return this.

    Raises: DataError if they cannot be written.
    """
    try:
        copy.parent.mkdir(parents=True, exist_ok=True)
        write_jsonl_atomically(copy, ({"messages": conversation.as_copied()} for conversation in conversations))
        cleaning = record()
        write_json_atomically(_record_path(copy), asdict(cleaning))
    except OSError as error:
        raise DataError(f"The cleaned copy could not be written to {copy}: {error.strerror or error}.") from error
    return cleaning


def _record_path(copy: Path) -> Path:
    return copy.with_name(f"{copy.name}.cleaning.json")


def check_destination(source: Path, copy: Path) -> None:
    """Raises: DataError if the copy is not called JSONL, or it or its record would overwrite the source."""
    if copy.suffix.lower() not in (".jsonl", ".ndjson"):
        raise DataError(
            f"The cleaned copy is written as JSONL, got the name {copy.name}. Choose a name that ends in .jsonl."
        )
    if any(path.exists() and path.samefile(source) for path in (copy, _record_path(copy))):
        raise DataError(f"{copy} would overwrite the source {source.name}. Choose another name for the cleaned copy.")


class _FixedReading:
    """Reads the source and rewrites its texts; `changed` lists the rows each fix changed.

    Without `kept`, which are the kinds and values that are not masked, nothing is masked.
    """

    def __init__(
        self,
        file: DataFile,
        fixes: Iterable[str],
        on_progress: ProgressCallback,
        kept: Collection[str] | None = None,
    ) -> None:
        self.repairs = "repair_turns" in fixes
        self.reading = Reading(file, on_progress, repair=self.repairs)
        self.rewrites = {fix: rewrite for fix, rewrite in REWRITES.items() if fix in set(fixes)}
        if kept is None:
            self.rewrites.pop("mask_personal_data", None)
        elif "mask_personal_data" in self.rewrites:
            self.rewrites["mask_personal_data"] = lambda text: mask_personal_data(text, kept)
        self.changed: dict[str, list[int]] = {fix: [] for fix in LABELS if fix in self.rewrites}

    def __iter__(self) -> Iterator[Example]:
        for example in self.reading:
            yield Example(example.row, self.rewrite(example), example.unread)
        if self.repairs:
            self.changed = {"repair_turns": self.reading.repairable, **self.changed}

    def rewrite(self, example: Example) -> Conversation:
        """Rewrite until nothing changes, because a decoded entity may be a character that an earlier fix removes."""
        before, conversation = None, example.conversation
        while conversation != before:
            before = conversation
            for fix, rows in self.changed.items():
                after = _map_texts(conversation, self.rewrites[fix])
                if after != conversation and not is_about(fix, conversation):
                    rows.append(example.row)
                    conversation = after
        return conversation


def _map_texts(conversation: Conversation, rewrite: Callable[[str], str]) -> Conversation:
    """Rewrite every message; a message that would become empty keeps its text."""
    return Conversation(tuple(message.rewritten(rewrite) for message in conversation.messages))


def _dropped(related: RelatedRows, placeholders: Placeholders, fixes: Sequence[str]) -> dict[str, np.ndarray]:
    """Find the indexes that each fix removes, apart from those that earlier fixes already removed."""
    questions, answers = as_array(related.questions), as_array(related.answers)
    ways: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "drop_placeholders": lambda left: np.array(placeholders.fixable(), dtype=np.int64),
        "drop_duplicates": lambda left: repeats(equal_groups(as_array(related.whole)[left])),
        "drop_near_duplicates": lambda left: repeats(equal_groups(related.near_copies()[left])),
        "keep_first_answer": lambda left: _other_answers(questions[left], answers[left]),
    }
    left = np.arange(len(related.rows))
    dropped: dict[str, np.ndarray] = {}
    for fix, find in ways.items():
        if fix in fixes:
            dropped[fix] = left[find(left)]
            left = np.setdiff1d(left, dropped[fix])
    return dropped


def _other_answers(questions: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """Find the indexes whose answer is not the first answer to its question."""
    return np.flatnonzero(answers != answers[equal_groups(questions)])
