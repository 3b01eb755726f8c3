"""Measure how much of the generated answers repeats a training answer word for word. Imports no torch."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
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
COMMON_SHARE, FEWEST_COMMON, MOST_COMMON = 0.05, 5, 20
"""A run of words in this share of the training answers is a phrase of the task, such as a sign-off, and not the content
of one answer; but never in fewer than 5 answers that otherwise differ, and always in 20."""
NEAR_COPY = 0.5
"""Answers that share this much of their pairs of words are near copies, such as one text with several greetings. What
they share is learnt by heart most easily, so they count as one."""
TEMPLATE_SHARE, FEWEST_TEMPLATE = 0.5, 10
"""But a run in this share of the training answers, and in 10 or more, is a phrase of the task in any case."""
MOSTLY = 0.5
WORST = 10
Place = tuple[int, int]
"""A training answer: the line of its conversation in the file, and which of its answers."""
Pairs = frozenset[tuple[str, str]]


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

    @cached_property
    def key(self) -> int:
        return hash(tuple(self.words))

    @property
    def is_short(self) -> bool:
        return bool(self.words) and not self.runs

    def pairs(self) -> Pairs:
        """Return the pairs of words that follow each other."""
        return frozenset(pairwise(self.words))

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
    """Where the runs of the generated answers, and the short answers as a whole, occur among the training answers.

    `places` are the first answers that have a run, `distinct` the first of them that are no near copies of each other.
    """

    wanted: set[int]
    wanted_short: set[int]
    places: dict[int, list[Place]] = field(default_factory=lambda: defaultdict(list))
    distinct: dict[int, list[Place]] = field(default_factory=lambda: defaultdict(list))
    counts: Counter[int] = field(default_factory=Counter)
    answers: set[int] = field(default_factory=set)
    short: dict[int, Place] = field(default_factory=dict)
    _pairs: dict[Place, Pairs] = field(default_factory=dict)

    def read(self, train_file: Path) -> None:
        """Read the training answers once. Of answers with the same words, only the first one counts."""
        for line, texts in _training_answers(train_file):
            for turn, text in enumerate(texts):
                words = _Words(text)
                if words.key not in self.answers:
                    self.answers.add(words.key)
                    self._add((line, turn), words)

    def _add(self, place: Place, words: _Words) -> None:
        if words.key in self.wanted_short:
            self.short[words.key] = place
        shared = self.wanted.intersection(words.runs)
        self.counts.update(shared)
        pairs = words.pairs() if shared else frozenset()
        near: dict[Place, bool] = {}
        for run in shared:
            if len(self.places[run]) < MOST_COMMON:
                self.places[run].append(place)
            if len(self.distinct[run]) < MOST_COMMON and not self._has_near_copy(run, pairs, near):
                self.distinct[run].append(place)
                self._pairs[place] = pairs

    def _has_near_copy(self, run: int, pairs: Pairs, near: dict[Place, bool]) -> bool:
        """Return whether an answer is a near copy of one that has this run; `near` keeps what was compared."""
        for other in self.distinct[run]:
            if other not in near:
                near[other] = len(pairs & self._pairs[other]) >= NEAR_COPY * len(pairs | self._pairs[other])
            if near[other]:
                return True
        return False

    def is_common(self, run: int) -> bool:
        """Return whether a run is a phrase of the task, and not the content of one answer."""
        total = len(self.answers)
        many = min(max(math.ceil(COMMON_SHARE * total), FEWEST_COMMON), MOST_COMMON)
        return len(self.distinct[run]) >= many or self.counts[run] >= max(TEMPLATE_SHARE * total, FEWEST_TEMPLATE)

    def most_repeated(self, words: _Words) -> _Repeated:
        """Find the training answer that a text repeats most; phrases that many training answers share do not count."""
        found = {run: self.places[run] for run in words.runs if run in self.places}
        shared = {run for run in found if self.is_common(run)}
        common = words.within(shared)
        by_place: dict[Place, set[int]] = defaultdict(set)
        for run, places in found.items():
            for place in places if run not in shared else ():
                by_place[place].add(run)
        own = len(words.words) - len(common) if words.runs else 0
        counts = [_Repeated(len(words.within(runs) - common), own, place) for place, runs in by_place.items()]
        return max(counts, key=lambda one: one.words, default=_Repeated(0, own))

    def whole(self, words: _Words) -> _Repeated | None:
        """Return the training answer that a short text is the same as; None if it is long, or there is none."""
        place = self.short.get(words.key) if words.is_short else None
        return None if place is None else _Repeated(len(words.words), len(words.words), place)


def find_memorised(train_file: Path, answered: Sequence[AnsweredQuestion]) -> Memorised | None:
    """Compare generated answers with the training answers; None if no fine-tuned answer is long enough to tell.

    Runs of words that many training answers share do not count. Short answers are compared as a whole; one that is the
    same as a held-out reference answer is usual for the task. The file is read line by line, of any size.
    """
    sides = {name: [_Words(getattr(one, name)) for one in answered] for name in ("tuned", "base", "reference")}
    every = [words for side in sides.values() for words in side]
    found = _Repetitions({run for words in every for run in words.runs}, {one.key for one in every if one.is_short})
    if not any(words.words for words in sides["tuned"]):
        return None
    found.read(train_file)
    repeated = {name: [found.most_repeated(words) for words in side] for name, side in sides.items()}
    usual = {words.key for words in sides["reference"]}
    whole = {
        name: [None if words.key in usual else found.whole(words) for words in sides[name]]
        for name in ("tuned", "base")
    }
    long = [words for words in sides["tuned"] if words.runs]
    if not long and not any(whole["tuned"]):
        return None
    return Memorised(
        answers=len(long),
        short=len(answered) - len(long),
        short_repeated=sum(one is not None for one in whole["tuned"]),
        base_short_repeated=sum(one is not None for one in whole["base"]),
        short_references=_whole_share(found, sides["reference"]),
        common=1 - sum(one.own for one in repeated["tuned"]) / max(sum(len(words.words) for words in long), 1),
        tuned=_total_share(repeated["tuned"]),
        base=_total_share(repeated["base"]),
        references=_total_share(repeated["reference"]),
        mostly=sum(one.share >= MOSTLY for one in repeated["tuned"]),
        base_mostly=sum(one.share >= MOSTLY for one in repeated["base"]),
        worst=_worst(train_file, answered, [a or b for a, b in zip(whole["tuned"], repeated["tuned"], strict=True)]),
    )


def _total_share(repeated: Sequence[_Repeated]) -> float:
    return sum(one.words for one in repeated) / max(sum(one.own for one in repeated), 1)


def _whole_share(found: _Repetitions, texts: Sequence[_Words]) -> float:
    """Return the share of the short texts that are the same as a training answer."""
    short = [words for words in texts if words.is_short]
    return sum(found.whole(words) is not None for words in short) / max(len(short), 1)


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
