"""From a data source to conversations, one pass at a time and never the whole of it in memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from sft_app.data.conversation import Conversation, make_conversation
from sft_app.data.formats.detection import guess_formats
from sft_app.data.formats.guess import Certainty, Guess
from sft_app.data.formats.profile import column_names
from sft_app.data.formats.registry import LAYOUTS, converter
from sft_app.data.formats.unused import doubts, unused_notes, verdict_of
from sft_app.data.formats.verdicts import Tally, Verdict
from sft_app.data.rows import Progress, Rejected, Row
from sft_app.data.sources.data_files import SUFFIXES, data_suffix, locate_data, read_rows
from sft_app.data.sources.hub import HubDataset, fetch_dataset, is_dataset_id
from sft_app.errors import DataError, NotChosen
from sft_app.runtime.home import datasets_dir
from sft_app.settings import DataSettings

ROWS_LOOKED_AT = 200
ROWS_TALLIED = 20_000
"""So many decide which columns mark bad answers. A column that is empty up to here is judged cell by cell."""
PREVIEWED = 20_000
"""Conversations of a file that can be turned to in the page; the check-up and training take all of them."""


@dataclass(frozen=True)
class DataFile:
    """A file whose layout is decided: `settings.format` is no longer `auto`.

    `guesses` are the readings that fit; `joins_rows` says that several rows make up one conversation; `notes` say what
    of the file is not learnt; rows that `verdict` calls bad are left out.
    """

    path: Path
    settings: DataSettings
    guesses: list[Guess]
    column_names: list[str]
    joins_rows: bool = False
    certainty: Certainty = "certain"
    notes: list[str] = field(default_factory=list)
    verdict: Verdict | None = None

    def open_guesses(self) -> list[Guess]:
        """The readings that are still to be decided between: none where a person has chosen."""
        return [] if self.certainty == "chosen" else self.guesses

    def told(self, example: Conversation | None) -> dict[str, Any]:
        """How the file is read, how sure that is, and what becomes of its first row."""
        return {
            "certainty": self.certainty,
            "why": self.guesses[0].why if self.certainty != "chosen" else "as you chose",
            "notes": self.notes,
            "example": example.as_dicts() if example else [],
        }


@dataclass(frozen=True, slots=True)
class Example:
    """A conversation with the row that it came from (that its last message came from)."""

    row: int
    conversation: Conversation


@dataclass
class Reading:
    """One pass over a file: iterate it for the examples; the rest is known at its end.

    `noted` has the rows for which something had to be guessed, by what it was; `repairable` those whose turns are
    empty or out of order and can be mended (`make_conversation`), which is done only with `repair`.
    """

    file: DataFile
    on_progress: Progress | None = None
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
                conversation = self._converse(item[0], messages)
                if conversation is not None:
                    yield Example(item[0], conversation)

    def _converse(self, row: int, messages: list[Any]) -> Conversation | None:
        try:
            return make_conversation(messages)
        except DataError as error:
            mended = _mend(messages)
            if mended is not None and self.repairable[-1:] != [row]:
                self.repairable.append(row)
            if mended is None or not self.repair:
                self.rejected.append(Rejected(row, str(error)))
            return mended if self.repair else None

    def _message_lists(self) -> Iterator[tuple[int, list[Any]] | Rejected]:
        """Row number and the message lists in it."""
        settings = self.file.settings
        convert_rows = LAYOUTS[settings.format].convert_rows
        if self.file.joins_rows and convert_rows:
            for item in convert_rows(self._counted_rows(), settings):
                yield item if isinstance(item, Rejected) else (item[0].number, [item[1]])
            return
        convert = converter(settings)
        for row in self._counted_rows():
            if isinstance(row, Rejected):
                yield row
                continue
            try:
                if self.file.verdict and (column := self.file.verdict.column_that_marks_bad(row.values)):
                    raise NotChosen(f"`{column}` marks its answer as bad")
                yield row.number, convert(row.values, settings)
            except DataError as error:
                yield Rejected(row.number, str(error), by_choice=isinstance(error, NotChosen))

    def _counted_rows(self) -> Iterator[Row | Rejected]:
        for row in islice(read_rows(self.file.path, self.on_progress), self.file.settings.max_rows):
            self.rows += 1
            if isinstance(row, Row) and row.note:
                self.noted[row.note].append(row.number)
            yield row


@dataclass(frozen=True)
class LoadedData:
    """The first examples of a file in memory. `is_whole` says whether they are all of them."""

    file: DataFile
    examples: list[Example]
    rejected: list[Rejected]
    rows: int
    is_whole: bool

    @property
    def conversations(self) -> list[Conversation]:
        return [example.conversation for example in self.examples]


def open_data(settings: DataSettings, home: Path, on_progress: Progress | None = None) -> DataFile:
    """Finds the file, or fetches the data set from the Hub, and decides on the layout.

    Raises:
        DataError: it cannot be read, or fits no layout.
    """
    path = _locate(settings, home, on_progress)
    first, readable, tally = _look_ahead(path)
    if not readable:
        if first is None:
            raise DataError(f"{path.name} contains no rows.")
        raise DataError(f"{path.name} has no readable row. Row {first.row}: {first.reason}.")
    guesses = _guesses(readable, settings)
    decided, certainty = _decide(guesses, settings)
    is_part = LAYOUTS[decided.format].is_part
    joins_rows = is_part is not None and any(map(is_part, readable))
    verdict = verdict_of(readable, tally, decided)
    if certainty != "chosen" and verdict and (why := doubts(verdict)):
        guesses = [replace(guesses[0], why=guesses[0].why + why, is_certain=False), *guesses[1:]]
        certainty = "guess"
    notes = unused_notes(readable, decided, verdict, certainty == "chosen")
    return DataFile(path, decided, guesses, column_names(readable), joins_rows, certainty, notes, verdict)


def _decide(guesses: list[Guess], settings: DataSettings) -> tuple[DataSettings, Certainty]:
    if settings.format != "auto":
        return settings, "chosen"
    if settings.columns:
        return settings.model_copy(update={"format": "columns"}), "chosen"
    best = guesses[0]
    decided = settings.model_copy(update={"format": best.format, "columns": best.columns})
    return decided, "certain" if best.is_certain else "guess"


def load_data(file: DataFile, most: int | None = None, on_progress: Progress | None = None) -> LoadedData:
    """The first `most` examples of a file, or all.

    Raises:
        DataError: the file cannot be read, or has no usable conversation.
    """
    reading = Reading(file, on_progress)
    iterator = iter(reading)
    examples = list(islice(iterator, most))
    is_whole = most is None or next(iterator, None) is None
    if not examples:
        raise no_conversation(file, reading.rejected)
    return LoadedData(file, examples, reading.rejected, reading.rows, is_whole)


def no_conversation(file: DataFile, rejected: Iterable[Rejected]) -> DataError:
    """The error of a file in which nothing can be trained on, with the first reason."""
    worst = next(iter(rejected), Rejected(1, "nothing in it"))
    return DataError(f"{file.path.name} has no usable conversation. Row {worst.row}: {worst.reason}.")


def first_example(file: DataFile, guess: Guess | None = None) -> Conversation | None:
    """What a reading, by default the one decided on, makes of the first row that it can use; None when it can use none
    of those looked at."""
    rows = min(ROWS_LOOKED_AT, file.settings.max_rows or ROWS_LOOKED_AT)
    other = {"format": guess.format, "columns": guess.columns} if guess else {}
    settings = file.settings.model_copy(update={**other, "max_rows": rows})
    return next((example.conversation for example in Reading(replace(file, settings=settings))), None)


def read_column_names(settings: DataSettings, home: Path) -> list[str]:
    """Of a table whose layout nobody knows. Raises: DataError when it cannot be read."""
    return column_names(_look_ahead(_locate(settings, home, None))[1])


def _locate(settings: DataSettings, home: Path, on_progress: Progress | None) -> Path:
    has_ending = data_suffix(Path(settings.data)) in SUFFIXES
    if is_dataset_id(settings.data) and not has_ending and not Path(settings.data).exists():
        wanted = HubDataset(
            id=settings.data,
            config=settings.dataset_config,
            split=settings.dataset_split,
            revision=settings.dataset_revision,
            max_rows=settings.max_rows,
        )
        return fetch_dataset(wanted, datasets_dir(home), on_progress)
    return locate_data(settings.data)


def _mend(messages: list[Any]) -> Conversation | None:
    try:
        return make_conversation(messages, repair=True)
    except DataError:
        return None


def _look_ahead(path: Path) -> tuple[Rejected | None, list[dict[str, Any]], Tally]:
    """Of the first `ROWS_TALLIED`: the first that cannot be read, those looked at, and the words of all.

    Kept for the file as it is, since it is opened again for each choice of columns.
    """
    try:
        found = path.stat()
    except OSError:  # reading says what is wrong
        return _first_rows.__wrapped__(path)
    return _first_rows(path, found.st_mtime_ns, found.st_size)


@lru_cache(maxsize=2)
def _first_rows(path: Path, *_stamp: int) -> tuple[Rejected | None, list[dict[str, Any]], Tally]:
    refused: Rejected | None = None
    readable: list[dict[str, Any]] = []
    tally, most = Tally(), ROWS_TALLIED
    for row in read_rows(path):
        if isinstance(row, Row):
            if len(readable) < ROWS_LOOKED_AT:
                readable.append(row.values)
            tally.add(row.values)
            most -= 1
        else:
            refused = refused or row
        if most == 0:
            break
    return refused, readable, tally


def _guesses(rows: list[dict[str, Any]], settings: DataSettings) -> list[Guess]:
    """No guess is needed when the layout is given."""
    try:
        return guess_formats(rows)
    except DataError:
        if settings.format != "auto" or settings.columns:
            return []
        raise
