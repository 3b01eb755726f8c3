"""Which conversations are held out: kept from training, so that what was learnt can be measured on them.

Conversations that belong together (copies, near copies, several answers to one question) stay on one side; else the
model would be measured on what it has seen.
"""

from __future__ import annotations

import random
from array import array
from dataclasses import dataclass

import numpy as np

from sft_app.data.conversation import Conversation
from sft_app.data.duplicates import NearDuplicates, equal_groups, merge_groups
from sft_app.errors import DataError
from sft_app.settings import RunSettings

GREETING_CHARACTERS = 25
"""A chat of several turns that opens with less ("Hi", "I need some help") has not asked its question yet."""

SHARED_LINE_CHARACTERS = 100
SHARED_LINE_TIMES = 20
"""A line so long that has stood in so many conversations is an instruction that they share: it makes no near copies of
them."""
LINES_COUNTED = 100_000


@dataclass(frozen=True)
class Split:
    """`is_heldout` is a mask (conversations,). `is_clean` is false when too many belong together to keep them so."""

    is_heldout: np.ndarray
    is_clean: bool


class RelatedRows:
    """Finds what belongs together, from one look at every conversation; the texts are not kept."""

    def __init__(self) -> None:
        self.rows, self.whole = array("q"), array("q")
        self.questions, self.answers = array("q"), array("q")
        self.near = NearDuplicates()
        self._long_lines: dict[int, int] = {}

    def add(self, row: int, conversation: Conversation) -> None:
        question, answer = _question_and_answer(conversation)
        self.rows.append(row)
        self.whole.append(hash(conversation))
        self.questions.append(hash(question) if question else hash(conversation))
        self.answers.append(hash(answer) if question else hash(conversation))
        self.near.add(self._without_shared_lines(conversation.spoken()))

    def groups(self) -> np.ndarray:
        """int64 (conversations,): conversations with the same number belong together."""
        same = [equal_groups(as_array(hashes)) for hashes in (self.rows, self.whole, self.questions)]
        return merge_groups(self.near.groups(), *same)

    def _without_shared_lines(self, text: str) -> str:
        """A text that would lose everything stays as it is."""
        kept = [line for line in text.split("\n") if len(line) < SHARED_LINE_CHARACTERS or not self._is_shared(line)]
        return "\n".join(kept) if any(line.strip() for line in kept) else text

    def _is_shared(self, line: str) -> bool:
        key, lines = hash(line), self._long_lines
        if key in lines or len(lines) < LINES_COUNTED:
            lines[key] = lines.get(key, 0) + 1
        return lines.get(key, 0) > SHARED_LINE_TIMES


def _question_and_answer(conversation: Conversation) -> tuple[str, str]:
    """The words of system and user up to the first question that is more than a greeting, and the answer to it.

    Both are "" for plain text.
    """
    heard, answer, said = [], "", 0
    for message in conversation.messages:
        if message.role == "assistant":
            answer = message.content
            if said >= GREETING_CHARACTERS:
                break
        elif message.role in ("system", "user"):
            heard.append(message.content)
            said += len(message.content) if message.role == "user" else 0
    return "\n".join(heard), answer


def as_array(values: array[int]) -> np.ndarray:
    return np.frombuffer(values, dtype=np.int64) if values else np.empty(0, np.int64)


def heldout_size(total: int, fraction: float, minimum: int, maximum: int) -> int:
    """How many to hold out. Raises: DataError when that would leave nothing to train on."""
    size = min(max(round(total * fraction), minimum), maximum)
    if size >= total:
        raise DataError(
            f"{total} conversations are too few: {size} are held out for evaluation, so none are left to train on."
        )
    return size


def hold_out(groups: np.ndarray, settings: RunSettings) -> Split:
    """The split of a run with these settings. Raises: DataError as `heldout_size`."""
    size = heldout_size(len(groups), settings.heldout_fraction, settings.heldout_min, settings.heldout_max)
    return split_heldout(groups, size, settings.seed)


def split_heldout(groups: np.ndarray, size: int, seed: int) -> Split:
    """Holds out whole groups, `size` conversations in all or a little less; the same seed chooses the same.

    Where the groups are so large that not even half of `size` can be held out, single conversations are.
    """
    order = random.Random(seed).sample(range(len(groups)), len(groups))
    sizes = np.bincount(groups, minlength=len(groups))
    chosen: set[int] = set()
    taken = 0
    for place in order:
        group = int(groups[place])
        if group not in chosen and taken + sizes[group] <= size:
            chosen.add(group)
            taken += int(sizes[group])
        if taken == size:
            break
    if 2 * taken >= size:
        return Split(np.isin(groups, list(chosen)), is_clean=True)
    mask = np.zeros(len(groups), dtype=bool)
    mask[order[:size]] = True
    return Split(mask, is_clean=False)
