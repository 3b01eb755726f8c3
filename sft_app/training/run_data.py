"""Divide a run's conversations into those that train, choose the weights, and judge them."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from sft_app.data.conversation import Conversation
from sft_app.data.reading import DataFile, Reading, no_conversation, open_data
from sft_app.data.split import RelatedRows, hold_out, opening_questions
from sft_app.errors import DataError
from sft_app.settings import DataSettings, RunSettings

# Rows of another file are not related to the rows with the same numbers.
ROWS_PER_FILE = 2**40


@dataclass(frozen=True)
class Part:
    """Some of a file's conversations: `chosen` is a bool mask, `groups` numbers related ones (conversations,)."""

    file: DataFile
    chosen: np.ndarray
    groups: np.ndarray

    def rows(self) -> Iterator[dict[str, Any]]:
        """Read the file again and yield its chosen conversations, with their groups.

        Raises: DataError if the file has more or fewer conversations than before.
        """
        for example, is_chosen, group in zip_longest(Reading(self.file), self.chosen, self.groups):
            if example is None or is_chosen is None:
                raise DataError(f"{self.file.path.name} changed while it was being read. Try again.")
            if is_chosen:
                yield {"row": example.row, "group": int(group), "messages": example.conversation.as_structured()}


@dataclass(frozen=True)
class RunData:
    """The parts of a run's data; `validation` is None if the judging conversations also choose the weights.

    `reading` is the pass over the file to train on. `notes` say what of it is not trained on because of other files.
    """

    reading: Reading
    conversations: int
    train: Part
    judging: Part
    validation: Part | None
    notes: list[str] = field(default_factory=list)


def open_heldout_files(settings: RunSettings, home: Path) -> dict[str, DataFile]:
    """Open the files that are held out, by the name of their setting, each with a layout of its own.

    Raises: DataError that names the file.
    """
    named = {name: getattr(settings, name) for name in ("heldout_data", "validation_data")}
    opened = {}
    for name, source in named.items():
        try:
            if source:
                opened[name] = open_heldout_file(source, settings, home)
        except DataError as error:
            raise DataError(f"{name.replace('_', ' ').capitalize()} ({source}): {error}") from error
    return opened


def open_heldout_file(source: str, settings: DataSettings, home: Path) -> DataFile:
    """Open a file that is held out. Its layout is detected, whatever that of the training data. Raises: DataError."""
    auto: dict[str, Any] = {"format": "auto", "columns": (), "max_rows": None, "sheet": None}
    return open_data(settings.reading().model_copy(update={**auto, "data": source}), home)


def divide_data(
    file: DataFile, heldout: dict[str, DataFile], settings: RunSettings, tests: Collection[str] = ()
) -> RunData:
    """Read all files once, without keeping conversations, and divide them.

    Conversations of `file` that are related to one of a held-out file are not trained on, because a model would be
    measured on what it has seen; for the same reason, the judging file's are not chosen by. Conversations that begin
    with the question of a test, and those related to them, neither train nor choose; `tests` are the opening questions
    (`split.opening_question`), each of which is looked for before every short turn (`split.opening_questions`).

    Raises: DataError if there are too few.
    """
    related, reading, asks = RelatedRows(), Reading(file), _Asks(tests)
    for example in reading:
        related.add(example.row, example.conversation)
        asks.add(example.conversation)
    if not (total := len(related.rows)):
        raise no_conversation(file, reading.rejected, reading.repairable)
    ends = [total]
    for number, other in enumerate(heldout.values(), start=1):
        pass_over = Reading(other)
        for example in pass_over:
            related.add(number * ROWS_PER_FILE + example.row, example.conversation)
            asks.add(example.conversation)
        if len(related.rows) == ends[-1]:
            raise no_conversation(other, pass_over.rejected, pass_over.repairable)
        ends.append(len(related.rows))
    groups = related.groups()
    own = dict(zip(heldout, np.split(groups, ends)[1:], strict=False))
    is_asked = np.isin(groups, asks.groups(groups))
    split = hold_out(groups[:total], settings)
    is_copy = np.isin(groups[:total], np.concatenate([*own.values(), np.empty(0, groups.dtype)]))
    train = Part(file, ~split.is_heldout & ~is_copy & ~is_asked[:total], groups[:total])
    judging = Part(file, split.is_judging, groups[:total])
    if "heldout_data" not in own and not judging.chosen.any():
        raise DataError("No conversation is left to judge the result. Hold out more, or name a file that judges.")
    if not train.chosen.any():
        raise DataError(
            f"Nothing is left to train on: every conversation of {file.path.name} is a copy of a held-out one or asks "
            "what a test asks. Add other examples, hold out another file, or choose other tests."
        )
    if "heldout_data" in own:
        judging = _whole(heldout["heldout_data"], own["heldout_data"])
    candidates = Part(file, split.is_validation, groups[:total])
    if "validation_data" in own:
        candidates = _whole(heldout["validation_data"], own["validation_data"])
    choice = _Choice.among(candidates, judging, groups[is_asked])
    copies = int((is_copy & ~split.is_heldout).sum())
    kept_out = int((is_asked[:total] & ~is_copy & ~split.is_judging).sum())
    if "validation_data" in own:
        kept_out += int((choice.is_asked & ~choice.is_judged).sum())
    notes = [*_judging_note(heldout, judging), *choice.note("validation_data" in own), *_left_out(copies, kept_out)]
    return RunData(reading, total, train, judging, choice.part, notes)


class _Asks:
    """Finds the conversations that begin with the question of a test."""

    def __init__(self, tests: Collection[str]) -> None:
        self._tests, self._found = set(tests) - {""}, array("b")

    def add(self, conversation: Conversation) -> None:
        turns = ((message.role, message.content) for message in conversation.messages)
        self._found.append(bool(self._tests) and not self._tests.isdisjoint(opening_questions(turns)))

    def groups(self, groups: np.ndarray) -> np.ndarray:
        """Return the numbers of the groups with such a conversation; `groups` is (conversations,), in order."""
        return np.unique(groups[np.array(self._found, dtype=bool)])


@dataclass(frozen=True)
class _Choice:
    """Conversations that are to choose the weights, and bool masks (conversations,) of those that may not.

    These are what tests ask (`is_asked`), and what also judges (`is_judged`).
    """

    candidates: Part
    is_asked: np.ndarray
    is_judged: np.ndarray

    @classmethod
    def among(cls, candidates: Part, judging: Part, asked: np.ndarray) -> _Choice:
        """`asked` are the groups of the conversations that ask what a test asks, in any order."""
        judged = judging.groups[judging.chosen]
        return cls(candidates, *(np.isin(candidates.groups, unchosen) for unchosen in (asked, judged)))

    @property
    def part(self) -> Part | None:
        """Return those that may choose; None if there is none, and the conversations that judge choose as well."""
        chosen = self.candidates.chosen & ~self.is_asked & ~self.is_judged
        return Part(self.candidates.file, chosen, self.candidates.groups) if chosen.any() else None

    def note(self, is_own_file: bool) -> list[str]:
        """Say that the conversations of a file choose, or why none of the candidates may."""
        whose = "The held-out conversations that were to choose the weights"
        if is_own_file:
            whose = f"The conversations of {self.candidates.file.path.name}"
        if self.part:
            return [f"{whose} choose which weights are kept."] if is_own_file else []
        reasons = {"asked by your tests": self.is_asked, "nearly the same as conversations that judge": self.is_judged}
        found = [reason for reason, mask in reasons.items() if (mask & self.candidates.chosen).any()]
        if not found:
            return []
        return [f"{whose} are all {' or '.join(found)}, so the conversations that judge choose the weights as well."]


def _whole(file: DataFile, groups: np.ndarray) -> Part:
    return Part(file, np.ones(len(groups), dtype=bool), groups)


def _judging_note(heldout: dict[str, DataFile], judging: Part) -> list[str]:
    if file := heldout.get("heldout_data"):
        return [f"The result is judged on the {int(judging.chosen.sum()):,} conversations of {file.path.name}."]
    return []


def _left_out(copies: int, asked: int) -> list[str]:
    """Say how many conversations are not used, as copies of held-out ones or because tests ask the same."""
    notes = []
    if copies:
        they = "it is" if copies == 1 else "they are"
        notes.append(f"{_are(copies)} not trained on, because {they} nearly the same as held-out ones.")
    if asked:
        reason = "because your tests ask the same"
        notes.append(f"{_are(asked)} neither trained on nor used to choose the weights, {reason}.")
    return notes


def _are(count: int) -> str:
    return "1 conversation is" if count == 1 else f"{count:,} conversations are"
