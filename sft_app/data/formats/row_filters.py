"""Find the columns that label a row's answer as good or bad, to skip rows marked as bad.

Cells and names decide together. A word that can only be a judgement counts under a name that judges (`status`:
rejected), a plain yes or no only under a name that says what it means (`correct`, `flagged`). In all other cases, the
app reports that the column may mark bad answers and keeps the rows.

Source: TRL, "Dataset formats" (unpaired preference: prompt, completion, label); LLaMA-Factory's `kto_tag`.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

from sft_app.data.formats import label_words as known
from sft_app.data.formats.column_names import answer_mark, paired_names
from sft_app.data.formats.column_profiles import normalize

Meaning = Literal["marks", "may mark", "may rate", ""]

MAX_WORDS = 24
LONGEST_WORD = 24
LONGEST_OBJECT = 2000
OTHER = "…"
"""Replaces texts that are too long to be a label, or too many."""
DEEPEST = 3
IN_MESSAGES = "[]."
SIGNS = {"-1", "0", "1"}
NUMBER = re.compile(r"[+-]?\d+([.,/]\d+)?%?")


@dataclass
class ValueCounts:
    """Counts the label words in each column of the rows seen so far."""

    words: dict[str, Counter[str]] = field(default_factory=dict)

    def add(self, row: Mapping[str, Any]) -> None:
        """Count the words of a row."""
        for name, word in _cells(row):
            counted = self.words.setdefault(name, Counter())
            counted[word if word in counted or len(counted) < MAX_WORDS else OTHER] += 1


@dataclass(frozen=True)
class LabelColumn:
    """What the words in a column say about the answers.

    Words in `bad` mark, or may mark, an answer as bad; words in `unclear` mean neither good nor bad. `better_names` are
    column names under which the words would be unambiguous.
    """

    meaning: Meaning
    bad: frozenset[str] = frozenset()
    unclear: tuple[str, ...] = ()
    better_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class RowFilter:
    """The columns that label the answers; a column that was empty so far is judged cell by cell.

    `used` are the columns that the layout reads. `is_compared` means that the answer is one of two (`answer_A`,
    `answer_B`), so that 0 and 1 may say which one is better.
    """

    used: frozenset[str]
    columns: dict[str, LabelColumn]
    is_compared: bool = False

    def column_that_marks_bad(self, row: Mapping[str, Any]) -> str:
        """Return the column that marks the row's answer as bad; "" if none does."""
        for name, word in _cells(row, self.used):
            labels = self.columns.get(name) or _interpret(name, Counter([word]), self.is_compared)
            if labels.meaning == "marks" and word in labels.bad:
                return name
        return ""

    def columns_that(self, *meanings: Meaning) -> list[str]:
        """List the columns with one of these meanings."""
        return [name for name, labels in self.columns.items() if labels.meaning in meanings]


def find_row_filter(counts: ValueCounts, used: Set[str]) -> RowFilter:
    """Interpret the words in each column that is not in `used`, the columns that the layout reads."""
    is_compared = bool(used & set(paired_names(list(counts.words))))
    columns = {
        name: _interpret(name, words, is_compared)
        for name, words in counts.words.items()
        if name not in used and name.split(".")[0] not in used and not _is_unmarked(name, words)
    }
    return RowFilter(frozenset(used), columns, is_compared)


def may_be_class(name: str) -> bool:
    """Return whether a column, such as `label`, may hold classes of the text rather than verdicts on the answer."""
    return bool(_name_words(name) & known.CLASS_NAMES)


def _is_unmarked(name: str, words: Counter[str]) -> bool:
    """Return whether a column such as `deleted` has marked no row so far, so that it is judged cell by cell."""
    return bool(_name_words(name) & known.DISCARDED) and not words.keys() & _interpret_words(name, words).bad


def _interpret(name: str, words: Counter[str], is_compared: bool) -> LabelColumn:
    labels = _interpret_words(name, words)
    is_which = is_compared and labels.meaning == "marks" and words.keys() <= SIGNS
    return LabelColumn("may mark", labels.bad & words.keys()) if is_which else labels


def _interpret_words(name: str, words: Counter[str]) -> LabelColumn:
    name_words = _name_words(name)
    numbers = {word for word in words if NUMBER.fullmatch(word)}
    is_signed = "-1" in words
    bad = _all_bad(name_words, is_signed)
    if not numbers <= SIGNS or numbers and name_words & known.RATES:
        is_of_one = name_words & known.RATES and answer_mark(name)  # `score_chosen`, of the better of two answers
        return LabelColumn("may rate" if len(numbers) > 1 and _can_rate(name_words) and not is_of_one else "")
    unclear = [word for word in words if word not in known.GOOD | known.BAD or word == "0" and is_signed]
    is_mostly_clear = 2 * sum(words[word] for word in unclear) < words.total()
    if is_mostly_clear and _is_about_answers(name_words, words.keys() - set(unclear)):
        return LabelColumn("marks", bad, tuple(unclear))
    if _may_mark(name, name_words, words.keys(), bad, is_mostly_clear):
        better = ("good", "bad") if bad & words.keys() <= known.WEAK_BAD | known.WEAK_GOOD else ("feedback",)
        return LabelColumn("may mark", bad & words.keys(), better_names=better if is_mostly_clear else ())
    return LabelColumn(
        "may rate" if name_words & known.RATES and name_words <= known.RATES and words.keys() != {OTHER} else ""
    )


def _can_rate(name_words: Set[str]) -> bool:
    """Return whether numbers under this name may be ratings; under `label` they are classes."""
    return bool(name_words & (known.RATES | known.OPINIONS | known.NO_MEANS_BAD | {"grade"}) - known.CLASS_NAMES)


def _all_bad(name_words: Set[str], is_signed: bool) -> frozenset[str]:
    """List the words that mean bad. If the name itself means bad, a plain yes is one of them."""
    is_turned = bool(name_words & known.YES_MEANS_BAD) != bool(name_words & known.NOT)
    weak = known.WEAK_GOOD if is_turned else known.WEAK_BAD
    return known.CLEAR_BAD | known.SENTIMENTS_BAD | (weak - {"0"} if is_signed else weak)


def _is_about_answers(name_words: Set[str], words: Set[str]) -> bool:
    """Return whether the name leaves no doubt that the words are about the answer."""
    if words & known.UNMISTAKABLE or {"chosen", "rejected"} <= words:
        return True
    if not _names_answers(name_words):
        return False
    if words & (known.CLEAR_GOOD | known.CLEAR_BAD):
        return True
    if words & (known.SENTIMENTS_GOOD | known.SENTIMENTS_BAD):
        return bool(name_words & known.OPINIONS) and not name_words & known.CLASS_NAMES
    return bool(name_words & (known.OPINIONS | known.NO_MEANS_BAD | known.YES_MEANS_BAD))


def _may_mark(name: str, name_words: Set[str], words: Set[str], bad: Set[str], is_mostly_clear: bool) -> bool:
    """Return whether words may mark bad answers; under an unrelated name, only if they split the rows in two."""
    matches = words & bad
    sentiments = known.SENTIMENTS_GOOD | known.SENTIMENTS_BAD | {"neutral"}
    if name_words & known.ORDINARY and words <= known.WEAK_GOOD | known.WEAK_BAD | sentiments:
        return False
    if name_words and _names_answers(name_words):
        return bool(matches - known.WEAK_BAD - known.WEAK_GOOD) or bool(matches) and len(words) > 1
    return (
        bool(matches)
        and is_mostly_clear
        and "." not in name
        and len(words) > 1
        and bool(words - SIGNS)
        and bool(words & known.GOOD)
    )


def _names_answers(name_words: Set[str]) -> bool:
    judging_words = known.JUDGES | known.OPINIONS | known.NO_MEANS_BAD | known.YES_MEANS_BAD | known.NOT
    return name_words <= judging_words


def _cells(
    row: Mapping[str, Any], used: Set[str] = frozenset(), above: str = "", depth: int = 0
) -> Iterator[tuple[str, str]]:
    """Yield the name and word of each cell that holds one, including cells of nested objects (`metadata.label`)."""
    for key, value in row.items():
        name = f"{above}{key}"
        if name in used:
            yield from _message_verdicts(name, value)
            continue
        inner = _object(value)
        if inner is not None and depth < DEEPEST:
            yield from _cells(inner, used, f"{name}.", depth + 1)
        elif isinstance(value, list) and not depth:
            yield from _message_verdicts(name, value)
        elif not isinstance(value, (list, dict)) and value is not None and value != "" and value == value:
            yield name, _word(value)


def _message_verdicts(name: str, turns: Any) -> Iterator[tuple[str, str]]:
    """Yield the verdicts on single messages in a list, such as `messages[].feedback`."""
    for turn in turns if isinstance(turns, list) else []:
        for key, value in turn.items() if isinstance(turn, dict) else []:
            if isinstance(value, (str, bool, int)) and value != "" and _name_words(str(key)) & known.MESSAGE_VERDICTS:
                yield f"{name}{IN_MESSAGES}{key}", _word(value)


def _object(value: Any) -> dict[str, Any] | None:
    """Read a cell that is an object, a list of one object, or either as JSON in a CSV file; None otherwise."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, str) and value[:1] == "{" and len(value) <= LONGEST_OBJECT:
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    return value if isinstance(value, dict) else None


def _word(value: Any) -> str:
    """Normalise a cell to one word: `True`, `1.0`, `Thumbs up` become `true`, `1`, `thumbs_up`."""
    text = str(value).strip()
    if len(text) > LONGEST_WORD:
        return OTHER
    word = normalize(text).strip(" .!")
    if NUMBER.fullmatch(word):
        return re.sub(r"[.,]0+$", "", word.removeprefix("+"))
    return "_".join(re.split(r"[\s_-]+", word))


@lru_cache(maxsize=4096)  # the keys of every message in a file are looked at
def _name_words(name: str) -> frozenset[str]:
    """Return the words in a name that say something about the answer: `good` in `metadata.answer_is_good`."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name.rpartition(IN_MESSAGES)[2])
    words = {word for word in re.split(r"[\W\d_]+", normalize(spaced)) if len(word) > 1 or not word.isascii()}
    return frozenset(words) - known.NEUTRAL_NAME_WORDS
