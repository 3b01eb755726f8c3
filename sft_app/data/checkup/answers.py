"""Find out whether the answers are what a person would want to learn: not one value, and not ids, names or dates."""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from sft_app.data.checkup.finding import Finding, RowsAt, Severity
from sft_app.data.formats.column_profiles import ID_LENGTH, looks_like_a_date, looks_like_a_name

ENOUGH = 10
"""Fewer conversations show no pattern."""
NEARLY_ALL = 0.9
HANDFUL = 5
HANDFUL_OF = 50
"""A handful of answers is a pattern only among so many conversations."""
LABEL_WORDS = 3
MOST_LABELS = 50
TEXTS_KEPT = 1000
SHOWN = 60

_ADDRESS = re.compile(r"\S+@\S+\.\S+|(?:\w+://|www\.)\S+")
_DATE = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{2,4}(?:[T ,]+\d{1,2}:\d{2}(?::\d{2})?(?:\.\d+)?\s*(?:Z|[ap]m)?)?", re.I)
_NUMBER = re.compile(r"[-+~≈]?\s?[$€£¥]?\s?\d[\d.,:/%\s]*[$€£¥%]?")
_ID = re.compile(r"(?=.*\d)(?=.*[A-Za-z])[A-Za-z0-9#_./-]{3,}")
SHAPES = {"address": "e-mail or web addresses", "date": "dates", "number": "numbers", "id": "ids", "name": "names"}


_COUNTED = r"num(?:ber|éro|ero)s?|número|nummern?|numer|codes?|ids?|sku|referen\w+|referenz|models?|versions?"
_ASKS_FOR = {
    "address": r"e-?mails?|mails?|address(?:es)?|adresse\w*|urls?|links?|web ?sites?",
    "date": r"when|dates?|days?|years?|wann|datum|quand|cuándo|fecha",
    "number": rf"{_COUNTED}|how (?:many|much)|wie ?viele?|combien|cuánt\w+",
    "id": _COUNTED,
    "name": r"who|names?|wer|namen?|qui|quién",
}
_ASKING = {shape: re.compile(rf"\b(?:{words})\b", re.IGNORECASE) for shape, words in _ASKS_FOR.items()}


@dataclass
class Answers:
    """Collects hashes and shapes of all answers, and the text of the first different ones."""

    hashes: array[int] = field(default_factory=lambda: array("q"))
    texts: dict[int, str] = field(default_factory=dict)
    shapes: dict[str, array[int]] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    characters: int = 0
    labels: int = 0

    def add(self, is_text: bool, answers: list[str], question: str = "") -> None:
        """Add the answers of the next conversation, or a plain text, and the first question."""
        whole = answers[0] if len(answers) == 1 else "\n".join(answers)
        index, key = len(self.hashes), hash(whole)
        self.hashes.append(key)
        self.characters += len(whole)
        if len(self.texts) < TEXTS_KEPT:
            self.texts.setdefault(key, whole[: SHOWN + 1])
        if len(whole) <= ID_LENGTH and not is_text:
            self.labels += is_label(whole)
            if shape := _shape(whole.strip()):
                self.shapes.setdefault(shape, array("q")).append(index)
                self.asked[shape] += _ASKING[shape].search(question) is not None

    def mean_length(self) -> float:
        """Return the mean length of an answer in characters."""
        return self.characters / max(1, len(self.hashes))

    def counts(self) -> list[tuple[int, int]]:
        """Return (hash, how many) of the different answers, the most frequent first."""
        hashes = np.frombuffer(self.hashes, dtype=np.int64)
        values, first, counts = np.unique(hashes, return_index=True, return_counts=True)
        order = np.lexsort((first, -counts))[: MOST_LABELS + 1]  # of equally frequent ones the first in the file
        return [(int(values[place]), int(counts[place])) for place in order]

    def are_labels(self) -> bool:
        """Return whether the answers are labels of a few classes, none of which is nearly all."""
        counts, total = self.counts(), len(self.hashes)
        is_few = 1 < len(counts) <= min(MOST_LABELS, total / 2)
        return is_few and self.labels >= NEARLY_ALL * total and counts[0][1] < NEARLY_ALL * total


def is_label(text: str) -> bool:
    """Return whether a text is a word or a few, as a class has."""
    return len(text.split(maxsplit=LABEL_WORDS)) <= LABEL_WORDS


def find_constant_answers(answers: Answers, rows_at: RowsAt) -> list[Finding]:
    """Find out whether nearly all answers are the same, or one of a handful of texts."""
    total, counts = len(answers.hashes), answers.counts() if answers.hashes else []
    if total < ENOUGH:
        return []
    most, count = counts[0]
    if count >= NEARLY_ALL * total:
        said = f"{_percent(count, total)} of the answers are the same: {_quoted(answers.texts.get(most, ''))}."
        advice = " The model will learn to give this answer to everything. Check which column is the answer."
        is_rare_class = count < total and _are_classes(answers, counts, total)
        return [_of_values(answers, [most], rows_at, said + advice, "check" if is_rare_class else "serious")]
    top = counts[:HANDFUL]
    is_handful = total >= HANDFUL_OF and sum(number for _, number in top) >= NEARLY_ALL * total
    if not is_handful or answers.labels >= 0.5 * total:  # a few labels are a classification
        return []
    share = _percent(sum(number for _, number in top), total)
    said = f"{share} of the answers are one of {len(top)} texts, such as {_quoted(answers.texts.get(most, ''))}."
    advice = " The model will learn only these. Check which column is the answer."
    return [_of_values(answers, [value for value, _ in top], rows_at, said + advice, "serious")]


def find_echoes(echoes: Sequence[int], total: int, rows_at: RowsAt) -> list[Finding]:
    """Find out whether nearly all answers repeat their question; `echoes` are the indexes of those that do."""
    if total < ENOUGH or len(echoes) < NEARLY_ALL * total:
        return []
    said = f"{_percent(len(echoes), total)} of the answers are the same as the question."
    advice = " The model will learn to repeat what it is asked. Check which column is the answer."
    return [Finding("answer_is_question", rows_at(echoes), said + advice, "", "serious")]


def find_odd_answers(answers: Answers, rows_at: RowsAt, unused: Iterable[str]) -> list[Finding]:
    """Find out whether nearly all answers are ids, numbers, names, dates or addresses.

    `unused` are columns of texts that are not read; without them, numbers and names may be what is asked for.
    """
    total, different = len(answers.hashes), len(answers.counts()) if answers.hashes else 0
    if total < ENOUGH or answers.are_labels():
        return []
    for shape, words in SHAPES.items():
        indexes = answers.shapes.get(shape, array("q"))
        if len(indexes) < NEARLY_ALL * total or different < min(ENOUGH, total / 2):
            continue
        if answers.asked[shape] >= NEARLY_ALL * len(indexes):  # the questions ask for this
            continue
        is_doubtful = bool(list(unused)) or shape in ("address", "id")
        said = f"{_percent(len(indexes), total)} of the answers are {words}. Check which column is the answer."
        return [Finding("odd_answers", rows_at(indexes), said, "", "serious" if is_doubtful else "check")]
    return []


def _are_classes(answers: Answers, counts: list[tuple[int, int]], total: int) -> bool:
    """Return whether the rare answers are labels too that occur more than once, as with spam among mail."""
    others = counts[1:]
    is_repeated = len(counts) <= MOST_LABELS and all(count > 1 for _, count in others)
    return answers.labels >= NEARLY_ALL * total and is_repeated


def _of_values(answers: Answers, values: list[int], rows_at: RowsAt, said: str, severity: Severity) -> Finding:
    indexes = np.flatnonzero(np.isin(np.frombuffer(answers.hashes, dtype=np.int64), values))
    return Finding("constant_answers", rows_at(indexes.tolist()), said, "", severity)


def _shape(text: str) -> str:
    if _ADDRESS.fullmatch(text):
        return "address"
    if any(map(str.isdigit, text)):
        if _DATE.fullmatch(text) or (" " in text and looks_like_a_date(text)):
            return "date"
        return "number" if _NUMBER.fullmatch(text) else "id" if _ID.fullmatch(text) else ""
    return "name" if looks_like_a_name(text) else ""


def _percent(part: int, total: int) -> str:
    """Round down, so that only all are 100%."""
    return f"{100 * part // total}%"


def _quoted(text: str) -> str:
    line = " ".join(text.split())
    return f"“{line}”" if len(line) <= SHOWN else f"“{line[:SHOWN].rstrip()} …”"
