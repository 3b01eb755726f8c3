"""Measure how much of the generated answers repeats a training answer word for word. Imports no torch."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from sft_app.data.conversation import make_conversation
from sft_app.data.words import is_unspaced, words_of
from sft_app.runs.memorised import Memorised, RepeatedAnswer
from sft_app.runtime.files import iterate_jsonl

RUN_OF_WORDS = 8
"""Fewer words in a row can be the same by chance. Source: Chowdhery et al. 2022, "PaLM", arXiv 2204.02311, which looks
for 8-grams of its training data in test sets."""
RUN_OF_CHARACTERS = 16
"""The same for scripts without spaces, in which a word has about two characters."""
COMMON_SHARE, FEWEST_COMMON, MOST_COMMON = 0.05, 3, 20
"""A run of words in this share of the training answers is a phrase of the task, such as a sign-off, and not the content
of one answer; but never in fewer than 3 different answers, and always in 20."""
MOSTLY = 0.5
WORST = 10
NOTABLE, MORE_THAN_REFERENCES = 0.1, 0.05
Place = tuple[int, int]
"""A training answer: the line of its conversation in the file, and which of its answers."""


@dataclass(frozen=True)
class AnsweredQuestion:
    """A held-out question with its row, reference answer and both generated answers."""

    row: int
    question: str
    reference: str
    base: str
    tuned: str


@dataclass(frozen=True)
class _Words:
    """The words of a text, and a hash of each run of words in it."""

    text: str

    @cached_property
    def words(self) -> list[str]:
        return words_of(self.text)

    @cached_property
    def length(self) -> int:
        return RUN_OF_CHARACTERS if is_unspaced(self.words) else RUN_OF_WORDS

    @cached_property
    def runs(self) -> list[int]:
        words, length = self.words, self.length
        return [hash(tuple(words[at : at + length])) for at in range(len(words) - length + 1)]

    def within(self, runs: set[int]) -> set[int]:
        """Return the positions of the words that are part of one of these runs."""
        starts = [at for at, run in enumerate(self.runs) if run in runs]
        return {at for start in starts for at in range(start, start + self.length)}


@dataclass(frozen=True)
class _Repeated:
    """How many of a text's `own` words, those outside common phrases, repeat the training answer at `place`.

    `own` is 0 if the text is too short to tell.
    """

    words: int
    own: int
    place: Place | None = None

    @property
    def share(self) -> float:
        return self.words / max(self.own, 1)


@dataclass
class _Repetitions:
    """Where the runs of the generated answers occur among the training answers."""

    wanted: set[int]
    places: dict[int, list[Place]] = field(default_factory=lambda: defaultdict(list))
    answers: set[int] = field(default_factory=set)

    def read(self, train_file: Path) -> None:
        """Read the training answers once. Of answers with the same words, only the first one counts."""
        for line, texts in _training_answers(train_file):
            for turn, text in enumerate(texts):
                words = _Words(text)
                key = hash(tuple(words.words))
                if key not in self.answers:
                    self.answers.add(key)
                    self._add((line, turn), words)

    def _add(self, place: Place, words: _Words) -> None:
        for run in self.wanted.intersection(words.runs):
            if len(self.places[run]) < MOST_COMMON:
                self.places[run].append(place)

    def most_repeated(self, words: _Words) -> _Repeated:
        """Find the training answer that a text repeats most; phrases that many training answers share do not count."""
        many = min(max(math.ceil(COMMON_SHARE * len(self.answers)), FEWEST_COMMON), MOST_COMMON)
        found = {run: self.places[run] for run in words.runs if run in self.places}
        common = words.within({run for run, places in found.items() if len(places) >= many})
        by_place: dict[Place, set[int]] = defaultdict(set)
        for run, places in found.items():
            for place in places if len(places) < many else ():
                by_place[place].add(run)
        own = len(words.words) - len(common) if words.runs else 0
        counts = [_Repeated(len(words.within(runs) - common), own, place) for place, runs in by_place.items()]
        return max(counts, key=lambda one: one.words, default=_Repeated(0, own))


def find_memorised(train_file: Path, answered: Sequence[AnsweredQuestion]) -> Memorised | None:
    """Compare generated answers with the training answers; None if no fine-tuned answer is long enough to tell.

    Runs of words that many training answers share do not count. The file is read line by line, of any size.
    """
    sides = {name: [_Words(getattr(one, name)) for one in answered] for name in ("tuned", "base", "reference")}
    found = _Repetitions({run for side in sides.values() for words in side for run in words.runs})
    if not any(words.runs for words in sides["tuned"]):
        return None
    found.read(train_file)
    repeated = {name: [found.most_repeated(words) for words in side] for name, side in sides.items()}
    return Memorised(
        answers=sum(bool(words.runs) for words in sides["tuned"]),
        short=sum(not words.runs for words in sides["tuned"]),
        tuned=_total_share(repeated["tuned"]),
        base=_total_share(repeated["base"]),
        references=_total_share(repeated["reference"]),
        mostly=sum(one.share >= MOSTLY for one in repeated["tuned"]),
        base_mostly=sum(one.share >= MOSTLY for one in repeated["base"]),
        worst=_worst(train_file, answered, repeated["tuned"]),
    )


def memorised_sentence(found: Memorised) -> str:
    """Say how much is repeated, next to the base model and the reference answers, and what to do about it."""
    counted = f"{found.answers} {'answer' if found.answers == 1 else 'answers'}"
    compared = f"base model {found.base:.0%}, the held-out reference answers {found.references:.0%}"
    if not found.tuned:
        return f"No sign of memorising: the fine-tuned model's {counted} repeat no training answer ({compared})."
    mostly = f" In {found.mostly} of its {counted}, at least half of the words are repeated." if found.mostly else ""
    sentence = (
        f"{found.tuned:.0%} of the words in the fine-tuned model's answers repeat a training answer, "
        f"{RUN_OF_WORDS} or more words in a row ({compared}).{mostly}"
    )
    if is_memorising(found):
        return f"{sentence} Train for fewer epochs, and check that no training answer contains anything private."
    return sentence


def is_memorising(found: Memorised) -> bool:
    """Return whether the answers repeat much, and more than answers to such questions usually do."""
    return found.tuned >= NOTABLE and found.tuned - max(found.base, found.references) >= MORE_THAN_REFERENCES


def _total_share(repeated: Sequence[_Repeated]) -> float:
    return sum(one.words for one in repeated) / max(sum(one.own for one in repeated), 1)


def _worst(
    train_file: Path, answered: Sequence[AnsweredQuestion], repeated: Sequence[_Repeated]
) -> list[RepeatedAnswer]:
    order = sorted(range(len(answered)), key=lambda index: -repeated[index].share)[:WORST]
    places = {index: place for index in order if (place := repeated[index].place) and repeated[index].words}
    texts = _read_places(train_file, set(places.values()))
    return [
        RepeatedAnswer(
            row=answered[index].row,
            question=answered[index].question,
            answer=answered[index].tuned,
            share=repeated[index].share,
            training_row=texts[place][0],
            training_answer=texts[place][1],
        )
        for index, place in places.items()
    ]


def _read_places(train_file: Path, places: set[Place]) -> dict[Place, tuple[int, str]]:
    """Read the row number and text of some training answers."""
    lines = {line for line, _ in places}
    found: dict[Place, tuple[int, str]] = {}
    for line, row in enumerate(iterate_jsonl(train_file)):
        if line in lines:
            texts = make_conversation(row["messages"]).answers()
            found |= {(line, turn): (row.get("row", line + 1), text) for turn, text in enumerate(texts)}
    return found


def _training_answers(train_file: Path) -> Iterable[tuple[int, list[str]]]:
    for line, row in enumerate(iterate_jsonl(train_file)):
        yield line, make_conversation(row["messages"]).answers()
