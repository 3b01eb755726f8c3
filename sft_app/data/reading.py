"""Read a data source as conversations, in passes that never hold all of it in memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from sft_app.data.conversation import Conversation, make_conversation
from sft_app.data.formats.column_profiles import list_columns
from sft_app.data.formats.detection import Certainty, DetectedLayout, decide_layout, detect_unless_chosen
from sft_app.data.formats.reading_notes import REASONING_NOTES, find_filter, reading_notes, why_uncertain
from sft_app.data.formats.registry import LAYOUTS, converter
from sft_app.data.formats.row_filters import RowFilter, ValueCounts
from sft_app.data.formats.usable_rows import unread_texts, usable_rows
from sft_app.data.rows import JsonObject, Rejected, Row
from sft_app.data.sources.data_files import SUFFIXES, data_suffix, locate_data, read_rows
from sft_app.data.sources.hub import HubDataset, fetch_dataset, is_dataset_id
from sft_app.errors import DataError, NotChosen
from sft_app.runtime.home import datasets_dir
from sft_app.runtime.progress import ProgressCallback
from sft_app.settings import DataSettings

ROWS_TO_DETECT_LAYOUT = 200
ROWS_COUNTED = 20_000
"""How many first rows decide which columns mark bad answers; a column that is empty there is judged cell by cell."""
PREVIEWED = 20_000
"""How many conversations of a file the page can show; the check-up and training read all of them."""


@dataclass(frozen=True)
class DataFile:
    """A file with a known layout: `settings.format` is no longer `auto`.

    `candidates` are the layouts that fit; `joins_rows` means several rows make up a conversation; `notes` describe what
    is not trained on; rows that `row_filter` marks as bad are skipped.
    """

    path: Path
    settings: DataSettings
    candidates: list[DetectedLayout]
    column_names: list[str]
    joins_rows: bool = False
    certainty: Certainty = "certain"
    notes: list[str] = field(default_factory=list)
    row_filter: RowFilter | None = None

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
                conversation = self._make_conversation(item[0], messages)
                if conversation is not None:
                    yield Example(item[0], self._with_reasoning(item[0], conversation), item[2])

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

    def _message_lists(self) -> Iterator[tuple[int, list[Any], int] | Rejected]:
        """Yield each row's number, message lists and hash of what is not read, or the rejected row."""
        settings = self.file.settings
        convert_rows = LAYOUTS[settings.format].convert_rows
        if self.file.joins_rows and convert_rows:
            for item in convert_rows(self._counted_rows(), settings):
                yield item if isinstance(item, Rejected) else (item[0].number, [item[1]], 0)
            return
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
                yield row.number, messages, unread
            except DataError as error:
                yield Rejected(row.number, str(error), by_choice=isinstance(error, NotChosen))

    def _rows(self) -> Iterator[Row | Rejected]:
        path, sheet = self.file.path, self.file.settings.sheet
        return _usable(path, read_rows(path, self.on_progress, sheet=sheet))

    def _counted_rows(self) -> Iterator[Row | Rejected]:
        for row in islice(self._rows(), self.file.settings.max_rows):
            self.rows += 1
            if isinstance(row, Row) and row.note:
                self.noted[row.note].append(row.number)
            yield row


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
    first, readable, counts, file_notes = _look_ahead(path, settings.sheet)
    if not readable:
        if first is None:
            raise DataError(f"{path.name} contains no rows.")
        raise DataError(f"{path.name} has no readable row. Row {first.row}: {first.reason}.")
    candidates = detect_unless_chosen(readable, settings)
    decided, certainty = decide_layout(candidates, settings)
    is_part = LAYOUTS[decided.format].is_part
    joins_rows = is_part is not None and any(map(is_part, readable))
    row_filter = find_filter(readable, counts, decided)
    if certainty != "chosen" and row_filter and (why := why_uncertain(row_filter)):
        candidates = [replace(candidates[0], why=candidates[0].why + why, is_certain=False), *candidates[1:]]
        certainty = "guess"
    notes = [*file_notes, *reading_notes(readable, decided, row_filter, certainty == "chosen")]
    return DataFile(path, decided, candidates, list_columns(readable), joins_rows, certainty, notes, row_filter)


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
    """Build the error for a file without a usable conversation: the first reason, and the fix if one helps."""
    worst = next(iter(rejected), Rejected(1, "it is empty"))
    said = f"{file.path.name} has no usable conversation. Row {worst.row}: {worst.reason}."
    if repairable:
        rows = "1 row" if len(repairable) == 1 else f"{len(repairable):,} rows"
        said += f" {rows} can be fixed: run `inspect {file.path.name} --fix --out fixed.jsonl`, then use fixed.jsonl."
    return DataError(said)


def first_example(file: DataFile, candidate: DetectedLayout | None = None) -> Conversation | None:
    """Convert the first usable row with a layout, by default that of the settings; None if no first row is usable."""
    rows = min(ROWS_TO_DETECT_LAYOUT, file.settings.max_rows or ROWS_TO_DETECT_LAYOUT)
    other = {"format": candidate.format, "columns": candidate.columns} if candidate else {}
    settings = file.settings.model_copy(update={**other, "max_rows": rows})
    return next((example.conversation for example in Reading(replace(file, settings=settings))), None)


def read_column_names(settings: DataSettings, home: Path) -> list[str]:
    """List the columns of a table of unknown layout. Raises: DataError if it cannot be read."""
    return list_columns(_look_ahead(_locate(settings, home, None), settings.sheet)[1])


def _locate(settings: DataSettings, home: Path, on_progress: ProgressCallback | None) -> Path:
    has_ending = data_suffix(Path(settings.data)) in SUFFIXES
    if is_dataset_id(settings.data) and not has_ending and not Path(settings.data).exists():
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


def _look_ahead(path: Path, sheet: str | None) -> tuple[Rejected | None, list[JsonObject], ValueCounts, list[str]]:
    """Read the first `ROWS_COUNTED` rows, for layout detection and row filters.

    Returns the first unreadable row, the rows to detect the layout from, the counted words, and the notes on the file.
    The result is cached until the file changes, because the file is opened again for each choice of columns.
    """
    try:
        stat = path.stat()
    except OSError:  # reading reports what is wrong
        return _first_rows.__wrapped__(path, sheet)
    return _first_rows(path, sheet, stat.st_mtime_ns, stat.st_size)


def _usable(path: Path, rows: Iterator[Row | Rejected]) -> Iterator[Row | Rejected]:
    return usable_rows(rows, path.suffix.lower() == ".parquet")


@lru_cache(maxsize=2)
def _first_rows(
    path: Path, sheet: str | None, *_stamp: int
) -> tuple[Rejected | None, list[JsonObject], ValueCounts, list[str]]:
    refused: Rejected | None = None
    readable: list[JsonObject] = []
    notes: list[str] = []
    counts, most = ValueCounts(), ROWS_COUNTED
    for row in _usable(path, read_rows(path, notes=notes, sheet=sheet)):
        if isinstance(row, Row):
            if len(readable) < ROWS_TO_DETECT_LAYOUT:
                readable.append(row.values)
            counts.add(row.values)
            most -= 1
        else:
            refused = refused or row
        if most == 0:
            break
    return refused, readable, counts, notes
