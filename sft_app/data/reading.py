"""Read a data source as conversations, in passes that never hold all of it in memory."""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from sft_app.data.conversation import Conversation, make_conversation
from sft_app.data.first_rows import ROWS_COUNTED, ROWS_TO_DETECT_LAYOUT, first_rows, is_filled, rows_of
from sft_app.data.formats.column_profiles import list_columns
from sft_app.data.formats.detection import Certainty, DetectedLayout, decide_layout, detect_unless_chosen
from sft_app.data.formats.late_columns import BEYOND, add_late_columns, check_named_columns
from sft_app.data.formats.reading_notes import (
    REASONING_NOTES,
    find_filter,
    reading_notes,
    used_columns,
    why_uncertain,
)
from sft_app.data.formats.registry import LAYOUTS, converter
from sft_app.data.formats.row_chains import Converted, RowChain, find_chain, join_chains
from sft_app.data.formats.row_filters import RowFilter
from sft_app.data.formats.speakers import unclear_assistant
from sft_app.data.formats.usable_rows import unread_texts
from sft_app.data.rows import JsonObject, Rejected, Row
from sft_app.data.sources.data_files import is_on_hub, locate_data
from sft_app.data.sources.hub import HubDataset, fetch_dataset
from sft_app.errors import DataError, NotChosen, NothingUsable
from sft_app.runtime.home import datasets_dir
from sft_app.runtime.progress import ProgressCallback
from sft_app.settings import DataSettings

PREVIEWED = 20_000
"""How many conversations of a file the page can show; the check-up and training read all of them."""


@dataclass(frozen=True)
class DataFile:
    """A file with a known layout: `settings.format` is no longer `auto`.

    `candidates` are the layouts that fit; `joins_rows` means several rows make up a conversation; `notes` describe what
    is not trained on; rows that `row_filter` marks as bad are skipped; `chain` joins rows that continue each other.
    `filled` are the columns that the first rows fill.
    """

    path: Path
    settings: DataSettings
    candidates: list[DetectedLayout]
    column_names: list[str]
    joins_rows: bool = False
    certainty: Certainty = "certain"
    notes: list[str] = field(default_factory=list)
    row_filter: RowFilter | None = None
    chain: RowChain | None = None
    filled: frozenset[str] = frozenset()

    def open_candidates(self) -> list[DetectedLayout]:
        """List the layouts that the user can still choose from; empty once one has been chosen."""
        return [] if self.certainty == "chosen" else self.candidates

    def summary(self, example: Conversation | None) -> JsonObject:
        """Describe how the file is read, with what certainty, and what its first row becomes, for `inspect --json`."""
        return {
            "certainty": self.certainty,
            "why": self.candidates[0].why if self.certainty != "chosen" else "as you chose",
            "notes": self.notes,
            "example": example.as_dicts() if example else [],
        }


@dataclass(frozen=True, slots=True)
class Example:
    """A conversation and the number of the row that its last message came from.

    `unread` is a hash of the texts in the row that are not read; rows that differ there are no copies.
    """

    row: int
    conversation: Conversation
    unread: int = 0


@dataclass
class Reading:
    """One pass over a file. Iterate it to get the examples; the other fields are complete at the end.

    `noted` lists the rows that needed a guess, by kind of guess. `repairable` lists the rows whose turns are empty or
    out of order but can be repaired (`make_conversation`), which happens only with `repair`.
    """

    file: DataFile
    on_progress: ProgressCallback | None = None
    repair: bool = False
    rows: int = 0
    rejected: list[Rejected] = field(default_factory=list)
    noted: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    repairable: list[int] = field(default_factory=list)

    def __iter__(self) -> Iterator[Example]:
        for item in self._message_lists():
            if isinstance(item, Rejected):
                self.rejected.append(item)
                continue
            for messages in item[1]:
                number = item[0].number
                conversation = self._make_conversation(number, messages)
                if conversation is not None:
                    yield Example(number, self._with_reasoning(number, conversation), item[2])

    def _with_reasoning(self, row: int, conversation: Conversation) -> Conversation:
        """Keep the reasoning before answers or leave it out, as the settings say, and note it either way."""
        if not conversation.has_thought():
            return conversation
        is_kept = self.file.settings.reasoning == "keep"
        note = REASONING_NOTES[self.file.settings.reasoning]
        if self.noted[note][-1:] != [row]:
            self.noted[note].append(row)
        return conversation if is_kept else conversation.without_thoughts()

    def _make_conversation(self, row: int, messages: list[Any]) -> Conversation | None:
        try:
            return make_conversation(messages)
        except DataError as error:
            repaired = _repaired(messages)
            if repaired is not None and self.repairable[-1:] != [row]:
                self.repairable.append(row)
            if repaired is None or not self.repair:
                self.rejected.append(Rejected(row, str(error)))
            return repaired if self.repair else None

    def _message_lists(self) -> Iterator[Converted | Rejected]:
        """Yield each row with its message lists and hash of what is not read, or the rejected row."""
        convert_rows = LAYOUTS[self.file.settings.format].convert_rows
        if self.file.joins_rows and convert_rows:
            for item in convert_rows(self._counted_rows(), self.file.settings):
                yield item if isinstance(item, Rejected) else (item[0], [item[1]], 0)
        elif self.file.chain:
            yield from join_chains(self._converted_rows(), self.file.chain)
        else:
            yield from self._converted_rows()

    def _converted_rows(self) -> Iterator[Converted | Rejected]:
        settings = self.file.settings
        convert = converter(settings)
        for row in self._counted_rows():
            if isinstance(row, Rejected):
                yield row
                continue
            try:
                if self.file.row_filter and (column := self.file.row_filter.column_that_marks_bad(row.values)):
                    raise NotChosen(f"`{column}` marks its answer as bad")
                messages, unread = convert(row.values, settings), 0
                if len(row.values) > 1:
                    unread = unread_texts(row.values, LAYOUTS[settings.format].columns_read(row.values, settings))
                yield row, messages, unread
            except DataError as error:
                yield Rejected(row.number, str(error), by_choice=isinstance(error, NotChosen))

    def _counted_rows(self) -> Iterator[Row | Rejected]:
        rows = rows_of(self.file.path, self.file.settings.sheet, self.on_progress)
        for row in islice(rows, self.file.settings.max_rows):
            self.rows += 1
            if isinstance(row, Row) and row.note:
                self.noted[row.note].append(row.number)
            if isinstance(row, Row) and (new := row.values.keys() - self.file.filled):
                self._note_unread(row, new)
            yield row

    def _note_unread(self, row: Row, new: set[str]) -> None:
        """Note the columns that no first row fills, this row does, and the layout does not read."""
        settings = self.file.settings
        if filled := [name for name in new if is_filled(row.values[name])]:
            read = LAYOUTS[settings.format].columns_read(row.values, settings)
            for name in sorted(set(filled).difference(read)):
                self.noted[BEYOND.format(name, ROWS_COUNTED)].append(row.number)


@dataclass(frozen=True)
class LoadedData:
    """The first examples of a file, in memory. `is_whole` means the file has no others."""

    file: DataFile
    examples: list[Example]
    rejected: list[Rejected]
    rows: int
    is_whole: bool

    @property
    def conversations(self) -> list[Conversation]:
        """List the conversations without their row numbers."""
        return [example.conversation for example in self.examples]


def open_data(settings: DataSettings, home: Path, on_progress: ProgressCallback | None = None) -> DataFile:
    """Find the file, or fetch the dataset from the Hub, and decide on the layout.

    Raises:
        DataError: the data cannot be read, or fits no layout.
    """
    path = _locate(settings, home, on_progress)
    first = first_rows(path, settings.sheet)
    rows = first.readable
    if not rows:
        if first.refused is None:
            raise DataError(f"{path.name} contains no rows.")
        raise DataError(f"{path.name} has no readable row. Row {first.refused.row}: {first.refused.reason}.")
    candidates = detect_unless_chosen(rows, settings)
    decided, certainty = decide_layout(candidates, settings)
    late = add_late_columns(rows, first.late, decided, certainty == "chosen")
    if late.settings != decided:
        best = DetectedLayout("columns", candidates[0].why, late.settings.columns, candidates[0].is_certain)
        decided, candidates = late.settings, [best, *candidates[1:]]
    check_named_columns([*list_columns(rows), *first.late], decided)
    is_part = LAYOUTS[decided.format].is_part
    joins_rows = is_part is not None and any(map(is_part, rows))
    row_filter = find_filter(rows, first.counts, decided)
    if certainty != "chosen" and row_filter and (why := why_uncertain(row_filter)):
        candidates = [replace(candidates[0], why=candidates[0].why + why, is_certain=False), *candidates[1:]]
        certainty = "guess"
    chain = find_chain(rows, used_columns(rows, decided)) if LAYOUTS[decided.format].is_exchange else None
    notes = [*first.notes, *reading_notes(rows, decided, row_filter, certainty == "chosen", chain)]
    notes += late.notes
    columns = list_columns(rows)
    return DataFile(path, decided, candidates, columns, joins_rows, certainty, notes, row_filter, chain, first.filled)


def load_data(file: DataFile, most: int | None = None, on_progress: ProgressCallback | None = None) -> LoadedData:
    """Load the first `most` examples of a file, or all of them.

    Raises:
        DataError: the file cannot be read, or has no usable conversation.
    """
    reading = Reading(file, on_progress)
    iterator = iter(reading)
    examples = list(islice(iterator, most))
    is_whole = most is None or next(iterator, None) is None
    if not examples:
        raise no_conversation(file, reading.rejected, reading.repairable)
    return LoadedData(file, examples, reading.rejected, reading.rows, is_whole)


def no_conversation(file: DataFile, rejected: Iterable[Rejected], repairable: Sequence[int] = ()) -> DataError:
    """Build the error for a file without a usable conversation: a question, or the first reason and what fixes it."""
    if question := unclear_assistant(rows_detected_from(file), file.settings):
        return question
    worst, name = next(iter(rejected), Rejected(1, "it is empty")), file.path.name
    reason = f"Row {worst.row}: {worst.reason}."
    said = f"{name} has no usable conversation. {reason}"
    if repairable:
        rows = "1 row" if len(repairable) == 1 else f"{len(repairable):,} rows"
        command = f"inspect {shlex.quote(file.settings.data)} --fix --out fixed.jsonl"
        said += f" {rows} can be fixed: run `{command}`, then use fixed.jsonl."
    return NothingUsable(said, reason, repairable)


def first_example(file: DataFile, candidate: DetectedLayout | None = None) -> Conversation | None:
    """Convert the first usable row with a layout, by default that of the settings; None if no first row is usable."""
    rows = min(ROWS_TO_DETECT_LAYOUT, file.settings.max_rows or ROWS_TO_DETECT_LAYOUT)
    other = {"format": candidate.format, "columns": candidate.columns} if candidate else {}
    settings = file.settings.model_copy(update={**other, "max_rows": rows})
    return next((example.conversation for example in Reading(replace(file, settings=settings))), None)


def rows_detected_from(file: DataFile) -> list[JsonObject]:
    """Return the rows from which the layout was detected."""
    return first_rows(file.path, file.settings.sheet).readable


def read_column_names(settings: DataSettings, home: Path) -> list[str]:
    """List the columns of a table of unknown layout. Raises: DataError if it cannot be read."""
    return list_columns(first_rows(_locate(settings, home, None), settings.sheet).readable)


def _locate(settings: DataSettings, home: Path, on_progress: ProgressCallback | None) -> Path:
    if is_on_hub(settings.data):
        dataset = HubDataset(
            id=settings.data,
            config=settings.dataset_config,
            split=settings.dataset_split,
            revision=settings.dataset_revision,
            max_rows=settings.max_rows,
        )
        return fetch_dataset(dataset, datasets_dir(home), on_progress)
    return locate_data(settings.data)


def _repaired(messages: list[Any]) -> Conversation | None:
    try:
        return make_conversation(messages, repair=True)
    except DataError:
        return None
