"""Columns that say whether a row's answer is good: rows whose answer is marked as bad are not learnt.

The cells decide with the name. A word that can only judge counts under a name that judges (`status`: rejected), a plain
yes or no only under a name that says what it means (`correct`, `flagged`). Anywhere else the person is told.

Source: TRL, "Dataset formats" (unpaired preference: prompt, completion, label); LLaMA-Factory's `kto_tag`.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field
from typing import Any, Literal

from sft_app.data.formats import judging_words as known
from sft_app.data.formats.column_names import mark, twins
from sft_app.data.formats.profile import plain

Ruling = Literal["marks", "may mark", "may rate", ""]

MOST_WORDS = 24
LONGEST_WORD = 24
LONGEST_OBJECT = 2000
OTHER = "…"
"""Stands for the texts of a column that are too long for a word, or too many."""
DEEPEST = 3
SIGNS = {"-1", "0", "1"}
NUMBER = re.compile(r"[+-]?\d+([.,/]\d+)?%?")


@dataclass
class Tally:
    """The words in each column of the rows seen so far, with the number of their rows."""

    words: dict[str, Counter[str]] = field(default_factory=dict)

    def add(self, row: Mapping[str, Any]) -> None:
        for name, word in _cells(row):
            counted = self.words.setdefault(name, Counter())
            counted[word if word in counted or len(counted) < MOST_WORDS else OTHER] += 1


@dataclass(frozen=True)
class Judgement:
    """What a column's words say: those in `bad` mark the answer as bad, or may; those in `unclear` say neither.

    `better_names` are those under which a column that only may mark bad answers would leave them out."""

    ruling: Ruling
    bad: frozenset[str] = frozenset()
    unclear: tuple[str, ...] = ()
    better_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """What each tallied column says. One whose first cell comes later is judged by the cell at hand.

    `is_compared` says that the answer is one of two (`answer_A`, `answer_B`): 0 and 1 may say then which is better."""

    used: frozenset[str]
    columns: dict[str, Judgement]
    is_compared: bool = False

    def column_that_marks_bad(self, row: Mapping[str, Any]) -> str:
        """The column that marks the row's answer as bad; "" where none does."""
        for name, word in _cells(row, self.used):
            judgement = self.columns.get(name) or _judge(name, Counter([word]), self.is_compared)
            if judgement.ruling == "marks" and word in judgement.bad:
                return name
        return ""

    def ruled(self, *rulings: Ruling) -> list[str]:
        return [name for name, judgement in self.columns.items() if judgement.ruling in rulings]


def find_verdict(tally: Tally, used: Set[str]) -> Verdict:
    """Judges each column beside the `used` ones."""
    is_compared = bool(used & set(twins(list(tally.words))))
    columns = {
        name: _judge(name, words, is_compared)
        for name, words in tally.words.items()
        if name not in used and name.split(".")[0] not in used
    }
    return Verdict(frozenset(used), columns, is_compared)


def is_class(name: str) -> bool:
    """`label`: as often a class of the text as a verdict on the answer."""
    return bool(_name_words(name) & known.CLASS_NAMES)


def _judge(name: str, words: Counter[str], is_compared: bool) -> Judgement:
    found = _by_words(name, words)
    is_which = is_compared and found.ruling == "marks" and words.keys() <= SIGNS
    return Judgement("may mark", found.bad & words.keys()) if is_which else found


def _by_words(name: str, words: Counter[str]) -> Judgement:
    called = _name_words(name)
    numbers = {word for word in words if NUMBER.fullmatch(word)}
    is_signed = "-1" in words
    bad = _all_bad(called, is_signed)
    if not numbers <= SIGNS or numbers and called & known.RATES:
        is_of_one = called & known.RATES and mark(name)  # `score_chosen`, of the better of two answers
        return Judgement("may rate" if len(numbers) > 1 and _can_rate(called) and not is_of_one else "")
    unclear = [word for word in words if word not in known.GOOD | known.BAD or word == "0" and is_signed]
    is_judging = 2 * sum(words[word] for word in unclear) < words.total()
    if is_judging and _says_so(called, words.keys() - set(unclear)):
        return Judgement("marks", bad, tuple(unclear))
    if _may_mark(name, called, words.keys(), bad, is_judging):
        better = ("good", "bad") if bad & words.keys() <= known.WEAK_BAD | known.WEAK_GOOD else ("feedback",)
        return Judgement("may mark", bad & words.keys(), better_names=better if is_judging else ())
    return Judgement("may rate" if called & known.RATES and called <= known.RATES and words.keys() != {OTHER} else "")


def _can_rate(called: Set[str]) -> bool:
    """Numbers under `label` are classes."""
    return bool(called & (known.RATES | known.OPINIONS | known.NO_MEANS_BAD | {"grade"}) - known.CLASS_NAMES)


def _all_bad(called: Set[str], is_signed: bool) -> frozenset[str]:
    """The words that say bad. Where the name itself says bad, a plain yes is one of them."""
    is_turned = bool(called & known.YES_MEANS_BAD) != bool(called & known.NOT)
    weak = known.WEAK_GOOD if is_turned else known.WEAK_BAD
    return known.CLEAR_BAD | known.SENTIMENTS_BAD | (weak - {"0"} if is_signed else weak)


def _says_so(called: Set[str], words: Set[str]) -> bool:
    """Whether the name leaves no doubt that the words are about the answer."""
    if words & known.UNMISTAKABLE or {"chosen", "rejected"} <= words:
        return True
    if not _speaks_of_answers(called):
        return False
    if words & (known.CLEAR_GOOD | known.CLEAR_BAD):
        return True
    if words & (known.SENTIMENTS_GOOD | known.SENTIMENTS_BAD):
        return bool(called & known.OPINIONS) and not called & known.CLASS_NAMES
    return bool(called & (known.OPINIONS | known.NO_MEANS_BAD | known.YES_MEANS_BAD))


def _may_mark(name: str, called: Set[str], words: Set[str], bad: Set[str], is_judging: bool) -> bool:
    """Of a name that says nothing of answers, only words that tell the rows in two are of interest."""
    said = words & bad
    if called and _speaks_of_answers(called):
        return bool(said - known.WEAK_BAD - known.WEAK_GOOD) or bool(said) and len(words) > 1
    return (
        bool(said)
        and is_judging
        and "." not in name
        and len(words) > 1
        and bool(words - SIGNS)
        and bool(words & known.GOOD)
    )


def _speaks_of_answers(called: Set[str]) -> bool:
    said = known.JUDGES | known.OPINIONS | known.NO_MEANS_BAD | known.YES_MEANS_BAD | known.NOT
    return called <= said


def _cells(row: Mapping[str, Any], used: Set[str] = frozenset(), above: str = "", depth: int = 0) -> Iterator[Any]:
    """Name and word of each cell that holds one, also of those in objects: `metadata.label`."""
    for key, value in row.items():
        name = f"{above}{key}"
        if name in used:
            continue
        inner = _object(value)
        if inner is not None and depth < DEEPEST:
            yield from _cells(inner, used, f"{name}.", depth + 1)
        elif not isinstance(value, (list, dict)) and value is not None and value != "" and value == value:
            yield name, _word(value)


def _object(value: Any) -> dict[str, Any] | None:
    """What a cell holds, or the only entry of its list; a CSV file has it as JSON."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, str) and value[:1] == "{" and len(value) <= LONGEST_OBJECT:
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    return value if isinstance(value, dict) else None


def _word(value: Any) -> str:
    """`True`, `1.0`, `Thumbs up` as `true`, `1`, `thumbs_up`."""
    text = str(value).strip()
    if len(text) > LONGEST_WORD:
        return OTHER
    word = plain(text).strip(" .!")
    if NUMBER.fullmatch(word):
        return re.sub(r"[.,]0+$", "", word.removeprefix("+"))
    return "_".join(re.split(r"[\s_-]+", word))


def _name_words(name: str) -> frozenset[str]:
    """What `isGood` or `metadata.answer_is_good` says about the answer: `good`."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    words = {word for word in re.split(r"[\W\d_]+", plain(spaced)) if len(word) > 1 or not word.isascii()}
    return frozenset(words) - known.NOTHING
