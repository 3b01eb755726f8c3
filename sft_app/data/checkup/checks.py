"""Find what is wrong with a dataset, and in which rows. Nothing is changed here; `fixes` does that."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from sft_app.data.checkup.lengths import TokenLengths
from sft_app.data.checkup.sampling import Sample
from sft_app.data.checkup.text_checks import suspicious
from sft_app.data.duplicates import equal_groups, repeats
from sft_app.data.reading import Example, Reading
from sft_app.data.split import RelatedRows, Split, as_array

LANGUAGE_SAMPLE = 600
LANGUAGE_LETTERS = 40
"""The language of shorter texts cannot be identified reliably."""
OPENING_WORDS = 3
OPENING_CHARACTERS = 60
"""In scripts without spaces, the opening would otherwise be the whole answer."""
OPENINGS_KEPT = 20_000
LANGUAGE_MARGIN = 10.0
"""How far the log-likelihood of the best language must be ahead of the second."""
FEW_CONVERSATIONS = 50
SHARED_BY = 5
ARE, HAVE = ("is", "are"), ("has", "have")

TEXT_WORDS = {
    "encoding": "contain wrongly decoded characters (such as â€™ for an apostrophe)",
    "replacement": "contain replacement characters (�) where a character was lost",
    "control": "contain invisible control characters",
    "html": "contain HTML tags or entities",
    "marker": "contain chat template markers, which the model would take for real ones",
    "personal_email": "contain what looks like an e-mail address",
    "personal_phone": "contain what looks like a phone number",
    "personal_card": "contain what looks like a card number",
    "personal_key": "contain what looks like a password or an access key",
}
TEXT_FIXES = {
    "encoding": "repair_encoding",
    "control": "repair_encoding",
    "html": "strip_html",
    "marker": "remove_markers",
    "personal_email": "mask_personal_data",
    "personal_phone": "mask_personal_data",
    "personal_card": "mask_personal_data",
    "personal_key": "mask_personal_data",
}


@dataclass(frozen=True)
class Finding:
    """One problem in a dataset.

    `rows` are numbered from 1, as in the file. `fix` is a key of `fixes.LABELS`, or "" if there is no fix.
    """

    kind: str
    rows: list[int]
    message: str
    fix: str = ""


@dataclass
class Examination:
    """Collects what the checks need from every conversation: numbers, not texts, so that a million fit in memory."""

    related: RelatedRows = field(default_factory=RelatedRows)
    indexes: dict[str, array[int]] = field(default_factory=dict)
    openings: array[int] = field(default_factory=lambda: array("q"))
    opening_texts: dict[int, str] = field(default_factory=dict)
    language_sample: Sample[tuple[int, str]] = field(default_factory=lambda: Sample(LANGUAGE_SAMPLE))

    def add(self, example: Example) -> None:
        """Add an example."""
        index, conversation = len(self), example.conversation
        self.related.add(example.row, conversation, example.unread)
        for kind in {kind for message in conversation.messages for kind in suspicious(message.content)}:
            self.indexes.setdefault(kind, array("q")).append(index)
        answer = conversation.answers()[0]
        self._note_opening(answer)
        self.language_sample.offer((index, answer[:1000]))

    def __len__(self) -> int:
        return len(self.related.rows)

    def rows_at(self, indexes: Iterable[int]) -> list[int]:
        """Return the row numbers of the conversations at these indexes, sorted and without repeats."""
        rows = self.related.rows
        return sorted({rows[index] for index in indexes})

    def _note_opening(self, answer: str) -> None:
        words = answer.split(maxsplit=OPENING_WORDS)
        opening = " ".join(words[:OPENING_WORDS])[:OPENING_CHARACTERS]
        if opening == " ".join(words):  # a label, or a word or two: nothing follows the opening
            self.openings.append(len(self.openings))
            return
        self.openings.append(hash(opening))
        if len(self.opening_texts) < OPENINGS_KEPT:
            self.opening_texts[hash(opening)] = opening


def find_duplicates(examined: Examination) -> list[Finding]:
    """Find duplicates, near duplicates, questions with several answers, and answers shared by many questions."""
    related = examined.related
    near, whole = related.near.groups(), equal_groups(as_array(related.whole))
    copies = repeats(whole)
    near_copies = np.setdiff1d(repeats(near), copies)
    questions, answers = as_array(related.questions), as_array(related.answers)
    several = np.flatnonzero(_differ_within(questions, answers))
    shared = np.flatnonzero(_differ_within(answers, questions, max(SHARED_BY, round(0.01 * len(examined)))))
    question_count = len(np.unique(questions[several]))
    return [
        *_finding(examined, "duplicate", copies, "{} the same as an earlier row.", "drop_duplicates"),
        *_finding(
            examined, "near_duplicate", near_copies, "{} almost the same as another row.", "drop_near_duplicates"
        ),
        *_finding(
            examined,
            "same_question",
            several,
            f"{{}} different answers to the same question ({_count(question_count, 'question')}).",
            "keep_first_answer",
            HAVE,
        ),
        *_finding(examined, "shared_answer", shared, "{} the same answer as many different questions.", verbs=HAVE),
    ]


def find_suspicious_text(examined: Examination) -> list[Finding]:
    """Find suspicious text of each kind, in the order of `TEXT_WORDS`."""
    findings = []
    for kind, words in TEXT_WORDS.items():
        rows = examined.rows_at(examined.indexes.get(kind, ()))
        if rows:
            said = words.replace("contain", "contains", 1) if len(rows) == 1 else words
            findings.append(Finding(kind, rows, f"{_count(len(rows), 'row')} {said}.", TEXT_FIXES.get(kind, "")))
    return findings


def find_style(examined: Examination) -> list[Finding]:
    """Find out whether many answers begin with the same words."""
    openings = as_array(examined.openings)
    counts = np.bincount(equal_groups(openings))
    most = int(counts.argmax())
    share, opening = counts[most] / len(examined), examined.opening_texts.get(int(openings[most]), "")
    if counts[most] < 10 or share < 0.3 or not opening:
        return []
    indexes = np.flatnonzero(openings == openings[most])
    message = f"{share:.0%} of the answers begin with “{opening}”; the model will learn to begin that way."
    return [Finding("style", examined.rows_at(indexes), message)]


def find_languages(examined: Examination) -> list[Finding]:
    """Find out whether the answers are in several languages, from a sample of answers long enough to identify."""
    by_language: dict[str, list[int]] = {}
    for index, answer in examined.language_sample.items:
        if language := _language(answer):
            by_language.setdefault(language, []).append(index)
    total = sum(map(len, by_language.values()))
    ordered = sorted(by_language.items(), key=lambda entry: -len(entry[1]))
    others = [(language, indexes) for language, indexes in ordered[1:] if len(indexes) >= max(2, 0.02 * total)]
    if not others:
        return []
    shares = ", ".join(f"{len(indexes) / total:.0%} {language}" for language, indexes in [ordered[0], *others])
    rows = examined.rows_at(index for _, indexes in others for index in indexes)
    sample = f" (from a sample of {total:,})" if not examined.language_sample.is_whole() else ""
    return [Finding("language", rows, f"The answers are in several languages: {shares}{sample}.")]


def _language(text: str) -> str:
    """Identify the language, such as "en"; "" for short texts, code, and texts that may well be in either of two."""
    if "```" in text or sum(map(str.isalpha, text)) < LANGUAGE_LETTERS:
        return ""
    from py3langid import rank

    (first, likelihood), (_, second), *_ = rank(text)
    return first if likelihood - second > LANGUAGE_MARGIN else ""


def find_leaks(examined: Examination, groups: np.ndarray, split: Split) -> list[Finding]:
    """Find held-out conversations with a duplicate or near duplicate in training.

    `groups` is int64 (conversations,), as returned by `RelatedRows.groups`.
    """
    trained = np.unique(groups[~split.is_heldout])
    leaked = np.flatnonzero(split.is_heldout & np.isin(groups, trained))
    message = "{} held out for evaluation, but nearly the same as rows in training; the results will look too good."
    return _finding(examined, "leak", leaked, message)


def find_reading_problems(reading: Reading) -> list[Finding]:
    """Find rows that could only be read with a guess, and skipped rows that could be repaired."""
    findings = [
        Finding("reading_guess", rows, f"{_rows_are(len(rows))} {note}.") for note, rows in reading.noted.items()
    ]
    if reading.repairable:
        message = (
            f"{_rows_are(len(reading.repairable))} skipped because of empty or out-of-order turns. This can be fixed."
        )
        findings.append(Finding("turns", reading.repairable, message, "repair_turns"))
    return findings


def find_too_few(conversations: int, passes: float) -> list[Finding]:
    """Warn about too few conversations, or too many passes over them; `passes` is the number of epochs."""
    findings = []
    if conversations < FEW_CONVERSATIONS:
        message = (
            f"Only {_count(conversations, 'conversation')}: enough to try it out. Results become "
            f"reliable from about 100."
        )
        findings.append(Finding("few", [], message))
    if passes > 8:
        message = f"With these settings every example is seen about {passes:.0f} times and will be memorised."
        findings.append(Finding("passes", [], message))
    return findings


def _finding(
    examined: Examination,
    kind: str,
    indexes: Sequence[int] | np.ndarray,
    message: str,
    fix: str = "",
    verbs: tuple[str, str] = ARE,
) -> list[Finding]:
    """Make one finding, or none if there are no indexes; `{}` in `message` becomes a phrase such as "3 rows are"."""
    rows = examined.rows_at(int(index) for index in indexes)
    return [Finding(kind, rows, message.format(_rows_are(len(rows), *verbs)), fix)] if rows else []


def _differ_within(groups: np.ndarray, values: np.ndarray, least: int = 2) -> np.ndarray:
    """Return a mask of the indexes whose group (equal numbers in `groups`) has at least `least` different values."""
    _, group, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    _, value = np.unique(values, return_inverse=True)
    pairs = np.unique(group.astype(np.int64) * len(values) + value)
    return np.bincount(pairs // len(values), minlength=len(sizes))[group] >= least


def _rows_are(rows: int, one: str = "was", several: str = "were") -> str:
    return f"{_count(rows, 'row')} {one if rows == 1 else several}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def find_truncated(lengths: TokenLengths, max_length: int) -> list[Finding]:
    """Find conversations longer than `max_length`, and report how much of their answers is cut off."""
    findings = []
    rows = lengths.cut_rows(max_length)
    if rows:
        lost = 1 - lengths.kept(max_length).trained_tokens
        enough = next((kept.max_length for kept in lengths.kept_table() if kept.trained_tokens == 1.0), None)
        message = (
            f"{_rows_are(len(rows), 'is', 'are')} longer than max_length {max_length} and will be cut off at the end; "
            f"{lost:.1%} of the answer tokens are lost."
        )
        advice = f" max_length {enough:,} keeps everything." if enough else ""
        sample = f" (In a sample of {len(lengths.rows):,}.)" if len(lengths.rows) < lengths.total else ""
        findings.append(Finding("cut", rows, message + advice + sample))
    if lengths.refused:
        refused = [row.row for row in lengths.refused]
        message = f"{_rows_are(len(refused), 'is', 'are')} rejected by the model's chat template and skipped."
        findings.append(Finding("template", refused, message))
    return findings
