"""Choose the held-out conversations, which training does not see and which measure what was learned.

Related conversations (duplicates, near duplicates, several answers to one question) stay on the same side of the
split; otherwise the model would be measured on what it has seen.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sft_app.data.conversation import Conversation, make_conversation
from sft_app.data.duplicates import NearDuplicates, equal_groups, merge_groups
from sft_app.errors import DataError
from sft_app.runtime.files import iterate_jsonl
from sft_app.settings import RunSettings

GREETING_CHARACTERS = 25
"""A multi-turn chat that opens with fewer characters ("Hi", "I need some help") has not asked its question yet."""

SHARED_LINE_CHARACTERS = 100
SHARED_LINE_TIMES = 20
"""A line of this length in this many conversations is a shared instruction, which does not make them related."""
LINES_COUNTED = 100_000

FEWEST_TO_DIVIDE = 24
"""With fewer held-out conversations, the part that judges would be too small to see anything."""
VALIDATION_SHARE = 1 / 3


@dataclass(frozen=True)
class Split:
    """Which conversations are held out, and which of these choose the weights to keep instead of judging them.

    `is_heldout` and `is_validation` are bool masks (conversations,), the second a part of the first; `groups` numbers
    related conversations, int64 (conversations,); `is_clean` is False if they were too many to keep together.
    """

    is_heldout: np.ndarray
    is_validation: np.ndarray
    groups: np.ndarray
    is_clean: bool

    @property
    def is_judging(self) -> np.ndarray:
        judging: np.ndarray = self.is_heldout & ~self.is_validation
        return judging


class RelatedRows:
    """Finds related conversations in one pass, keeping hashes instead of texts."""

    def __init__(self) -> None:
        self.rows, self.whole = array("q"), array("q")
        self.questions, self.answers = array("q"), array("q")
        self.systems = array("q")
        self.near = NearDuplicates()
        self._long_lines: dict[int, int] = {}

    def add(self, row: int, conversation: Conversation, unread: int = 0) -> None:
        """Add a conversation, the row it came from, and a hash of what is not read of it."""
        question, answer = _question_and_answer(conversation)
        self.rows.append(row)
        self.whole.append(hash((conversation, unread)) if unread else hash(conversation))
        self.questions.append(hash(question) if question else hash(conversation))
        self.answers.append(hash(answer) if question else hash(conversation))
        self.systems.append(hash(tuple(message for message in conversation.messages if message.role == "system")))
        self.near.add(self._without_shared_lines(conversation.spoken()))

    def near_copies(self) -> np.ndarray:
        """Group near duplicates with the same system messages, int64 (conversations,)."""
        near = self.near.groups()
        _, system = np.unique(as_array(self.systems), return_inverse=True)
        return equal_groups(near * (len(near) + 1) + system)

    def groups(self) -> np.ndarray:
        """Return a group number for each conversation, int64 (conversations,); related ones have the same number."""
        same = [equal_groups(as_array(hashes)) for hashes in (self.rows, self.whole, self.questions)]
        return merge_groups(self.near.groups(), *same)

    def _without_shared_lines(self, text: str) -> str:
        """Remove the lines that many conversations share, unless nothing would remain."""
        kept = [line for line in text.split("\n") if len(line) < SHARED_LINE_CHARACTERS or not self._is_shared(line)]
        return "\n".join(kept) if any(line.strip() for line in kept) else text

    def _is_shared(self, line: str) -> bool:
        key, lines = hash(line), self._long_lines
        if key in lines or len(lines) < LINES_COUNTED:
            lines[key] = lines.get(key, 0) + 1
        return lines.get(key, 0) > SHARED_LINE_TIMES


def _question_and_answer(conversation: Conversation) -> tuple[str, str]:
    """Return the system and user text up to the first question that is more than a greeting, and its answer.

    Both are "" for plain text.
    """
    question, answer, question_characters = [], "", 0
    for message in conversation.messages:
        if message.role == "assistant":
            answer = message.content
            if question_characters >= GREETING_CHARACTERS:
                break
        elif message.role in ("system", "user"):
            question.append(message.content)
            question_characters += len(message.content) if message.role == "user" else 0
    return "\n".join(question), answer


def opening_question(turns: Iterable[tuple[str, str]]) -> str:
    """Return what the user says, of (role, text) turns, up to the first question that is more than a greeting.

    It is in lower case on one line, without system messages, so that a prompt that was copied out of a conversation has
    the same one; "" if no user speaks.
    """
    return opening_questions(turns)[-1]


def opening_questions(turns: Iterable[tuple[str, str]]) -> list[str]:
    """Return what the user has said before each answer, up to that of `opening_question`, which is the last one.

    A short question is answered like a greeting is, so that each of them may be the one that a prompt asks.
    """
    said: list[str] = []
    openings: list[str] = []
    for role, text in turns:
        if role == "assistant":
            openings.append(_on_one_line(said))
            if sum(map(len, said)) >= GREETING_CHARACTERS:
                return openings
        elif role == "user":
            said.append(text)
    return [*openings, _on_one_line(said)]


def asked_in(file: Path, questions: Collection[str]) -> set[str]:
    """Return those of some opening questions that a conversation of this file of a run begins with.

    Only the questions are kept in memory.
    """
    missing, found = set(questions) - {""}, set[str]()
    for row in iterate_jsonl(file) if missing else ():
        with suppress(DataError):  # an edited file; training skipped the row too
            turns = make_conversation(row["messages"]).messages
            found |= missing.intersection(opening_questions((turn.role, turn.content) for turn in turns))
        if found == missing:
            break
    return found


def _on_one_line(said: list[str]) -> str:
    return " ".join(" ".join(said).split()).casefold()


def as_array(values: array[int]) -> np.ndarray:
    """View an array of 64-bit integers as int64 (values,) without copying."""
    return np.frombuffer(values, dtype=np.int64) if values else np.empty(0, np.int64)


def heldout_size(total: int, fraction: float, minimum: int, maximum: int) -> int:
    """Return how many conversations to hold out. Raises: DataError if none would be left to train on."""
    size = min(max(round(total * fraction), minimum), maximum)
    if size >= total:
        are = "conversation is" if total == 1 else "conversations are"
        raise DataError(
            f"{total} {are} too few: {size} are held out for evaluation, so none are left to train on. "
            "Add conversations, or lower heldout min."
        )
    return size


def hold_out(groups: np.ndarray, settings: RunSettings) -> Split:
    """Split the way a run with these settings does; `groups` is (conversations,). Raises: as `heldout_size`."""
    is_heldout, is_clean = choose_groups(groups, size_to_hold_out(len(groups), settings), settings.seed)
    is_validation = np.zeros_like(is_heldout)
    of_heldout, validation = np.flatnonzero(is_heldout), validation_size(int(is_heldout.sum()), settings)
    if validation:
        numbers = np.unique(groups[of_heldout], return_inverse=True)[1]
        is_chosen, divides_clean = choose_groups(numbers, validation, settings.seed)
        if divides_clean:  # otherwise all of them judge, and the choice is corrected for
            is_validation[of_heldout[is_chosen]] = True
    return Split(is_heldout, is_validation, groups, is_clean)


def size_to_hold_out(total: int, settings: RunSettings) -> int:
    """Return how many of these conversations a run holds out; 0 if files of their own do all that is needed.

    Raises: as `heldout_size`.
    """
    if settings.heldout_data and (settings.validation_data or not settings.chooses_weights()):
        return 0
    return heldout_size(total, settings.heldout_fraction, settings.heldout_min, settings.heldout_max)


def validation_size(heldout: int, settings: RunSettings) -> int:
    """Return how many held-out conversations choose the weights to keep.

    All if a file judges; none if a file chooses, nothing is chosen, or they are too few; else a third.
    """
    if settings.heldout_data:
        return heldout
    if heldout < FEWEST_TO_DIVIDE or settings.validation_data or not settings.chooses_weights():
        return 0
    return round(heldout * VALIDATION_SHARE)


def judging_size(heldout: int, settings: RunSettings) -> int | None:
    """Return how many held-out conversations judge the result; None if a file does, which is not read here."""
    return None if settings.heldout_data else heldout - validation_size(heldout, settings)


def choose_groups(groups: np.ndarray, size: int, seed: int) -> tuple[np.ndarray, bool]:
    """Choose whole groups with `size` conversations in total, or slightly fewer; reproducible for the same seed.

    Returns a bool mask (conversations,), and whether related conversations stayed together: if the groups are so large
    that not even half of `size` fits, single conversations are chosen instead.
    """
    order = random.Random(seed).sample(range(len(groups)), len(groups))
    sizes = np.bincount(groups, minlength=len(groups))
    chosen: set[int] = set()
    held_out = 0
    for index in order:
        group = int(groups[index])
        if group not in chosen and held_out + sizes[group] <= size:
            chosen.add(group)
            held_out += int(sizes[group])
        if held_out == size:
            break
    if 2 * held_out >= size:
        return np.isin(groups, list(chosen)), True
    mask = np.zeros(len(groups), dtype=bool)
    mask[order[:size]] = True
    return mask, False
