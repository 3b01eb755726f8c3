"""Find what is wrong with a dataset, and in which rows. Nothing is changed here; `fixes` does that."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from sft_app.data.checkup.answers import Answers
from sft_app.data.checkup.finding import Finding, Severity, count_of, rows_are
from sft_app.data.checkup.languages import Languages
from sft_app.data.checkup.lengths import TokenLengths
from sft_app.data.checkup.personal_rows import PersonalRows
from sft_app.data.checkup.placeholders import Placeholders
from sft_app.data.checkup.subjects import is_about
from sft_app.data.checkup.text_checks import suspicious
from sft_app.data.duplicates import equal_groups, repeats
from sft_app.data.formats.reading_notes import REASONING_NOTES
from sft_app.data.reading import Example, Reading
from sft_app.data.split import RelatedRows, Split, as_array

OPENING_WORDS = 3
OPENING_CHARACTERS = 60
"""In scripts without spaces, the opening would otherwise be the whole answer."""
OPENINGS_KEPT = 20_000
FEW_CONVERSATIONS = 50
SHARED_BY = 5
MANY, MANY_COPIES = 10, 0.2
"""So many copies, and such a share of the conversations, mean that something went wrong."""
MUCH_LOST = 0.2
ARE, HAVE = ("is", "are"), ("has", "have")

TEXT_WORDS = {
    "encoding": "contain wrongly decoded characters (such as â€™ for an apostrophe)",
    "replacement": "contain replacement characters (�) where a character was lost",
    "control": "contain invisible control characters",
    "html": "contain HTML tags or entities",
    "marker": "contain chat template markers, which the model would take for real ones",
    "inner_marker": "contain chat template markers, or names of both sides, inside a turn; check whether this is meant",
    "personal_email": "contain what looks like an e-mail address",
    "personal_phone": "contain what looks like a phone number",
    "personal_card": "contain what looks like a card number",
    "personal_key": "contain what looks like a password or an access key",
}
MEANT = " So many answers have one that it seems to be meant. If it is not, replace these in the file."
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


@dataclass
class Examination:
    """Collects what the checks need from every conversation: numbers, not texts, so that a million fit in memory."""

    related: RelatedRows = field(default_factory=RelatedRows)
    indexes: dict[str, array[int]] = field(default_factory=dict)
    openings: array[int] = field(default_factory=lambda: array("q"))
    opening_texts: dict[int, str] = field(default_factory=dict)
    answers: Answers = field(default_factory=Answers)
    placeholders: Placeholders = field(default_factory=Placeholders)
    echoes: array[int] = field(default_factory=lambda: array("q"))
    personal: PersonalRows = field(default_factory=PersonalRows)
    languages: Languages = field(default_factory=Languages)

    def add(self, example: Example) -> None:
        """Add an example."""
        index, conversation = len(self), example.conversation
        self.related.add(example.row, conversation, example.unread)
        for kind in {kind for message in conversation.messages for kind in suspicious(message.content)}:
            if not is_about(kind, conversation):
                self.indexes.setdefault(kind, array("q")).append(index)
        self.personal.add(conversation)
        question, answers = conversation.first_user_text(), conversation.answers()
        if answers[0].strip() == question.strip():
            self.echoes.append(index)
        self.answers.add(conversation.is_text(), answers, question)
        self.placeholders.add(conversation)
        self._note_opening(answers[0])
        self.languages.add(index, question, answers[0])

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
    near, whole = related.near_copies(), equal_groups(as_array(related.whole))
    copies = repeats(whole)
    near_copies = np.setdiff1d(repeats(near), copies)
    questions, answers = as_array(related.questions), as_array(related.answers)
    several = np.flatnonzero(_differ_within(questions, answers))
    shared = np.flatnonzero(_differ_within(answers, questions, max(SHARED_BY, round(0.01 * len(examined)))))
    if examined.answers.are_labels():  # of a class
        shared = shared[:0]
    question_count = len(np.unique(questions[several]))
    are_many = len(copies) >= max(MANY, MANY_COPIES * len(examined))
    severity: Severity = "serious" if are_many else "check"
    return [
        *_finding(
            examined, "duplicate", copies, "{} the same as an earlier row.", "drop_duplicates", severity=severity
        ),
        *_finding(
            examined, "near_duplicate", near_copies, "{} almost the same as another row.", "drop_near_duplicates"
        ),
        *_finding(
            examined,
            "same_question",
            several,
            f"{{}} different answers to the same question ({count_of(question_count, 'question')}).",
            "keep_first_answer",
            HAVE,
        ),
        *_finding(examined, "shared_answer", shared, "{} the same answer as many different questions.", verbs=HAVE),
    ]


def find_suspicious_text(examined: Examination) -> list[Finding]:
    """Find suspicious text of each kind, in the order of `TEXT_WORDS`."""
    findings, personal, tasks = [], examined.personal, examined.personal.tasks()
    for kind, words in TEXT_WORDS.items():
        rows = examined.rows_at(personal.indexes(kind) or examined.indexes.get(kind, ()))
        if not rows:
            continue
        said = words.replace("contain", "contains", 1) if len(rows) == 1 else words
        message = f"{count_of(len(rows), 'row')} {said}."
        if kind in tasks:
            findings.append(Finding(kind, rows, message + MEANT))
            continue
        severity: Severity = "serious" if kind.startswith("personal") else "note" if kind == "control" else "check"
        findings.append(Finding(kind, rows, message, TEXT_FIXES.get(kind, ""), severity))
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
    return [Finding("style", examined.rows_at(indexes), message, severity="note")]


def find_leaks(examined: Examination, split: Split) -> list[Finding]:
    """Find held-out conversations with a duplicate or near duplicate in training."""
    trained = np.unique(split.groups[~split.is_heldout])
    leaked = np.flatnonzero(split.is_heldout & np.isin(split.groups, trained))
    message = "{} held out for evaluation, but nearly the same as rows in training; the results will look too good."
    return _finding(examined, "leak", leaked, message, severity="serious")


def find_reading_problems(reading: Reading) -> list[Finding]:
    """Find rows that could only be read with a guess, and skipped rows that could be repaired."""
    findings = [
        Finding("reading_guess", rows, f"{rows_are(len(rows))} {note}.", severity=_severity_of(note))
        for note, rows in reading.noted.items()
    ]
    if reading.repairable:
        message = f"{rows_are(len(reading.repairable))} skipped because of empty or out-of-order turns."
        findings.append(Finding("turns", reading.repairable, message, "repair_turns"))
    return findings


def _severity_of(note: str) -> Severity:
    return "note" if note in REASONING_NOTES.values() else "check"


def find_too_few(conversations: int, passes: float) -> list[Finding]:
    """Warn about too few conversations, or too many passes over them; `passes` is the number of epochs."""
    findings = []
    if conversations < FEW_CONVERSATIONS:
        message = (
            f"Only {count_of(conversations, 'conversation')}: enough to try it out. Results become "
            f"reliable from about 100."
        )
        findings.append(Finding("few", [], message, severity="note"))
    if passes > 8:
        message = f"With these settings every example is seen about {passes:.0f} times and will be memorised."
        findings.append(Finding("passes", [], message, severity="note"))
    return findings


def _finding(
    examined: Examination,
    kind: str,
    indexes: Sequence[int] | np.ndarray,
    message: str,
    fix: str = "",
    verbs: tuple[str, str] = ARE,
    severity: Severity = "check",
) -> list[Finding]:
    """Make one finding, or none if there are no indexes; `{}` in `message` becomes a phrase such as "3 rows are"."""
    rows = examined.rows_at(int(index) for index in indexes)
    return [Finding(kind, rows, message.format(rows_are(len(rows), *verbs)), fix, severity)] if rows else []


def _differ_within(groups: np.ndarray, values: np.ndarray, least: int = 2) -> np.ndarray:
    """Return a mask of the indexes whose group (equal numbers in `groups`) has at least `least` different values."""
    _, group, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    _, value = np.unique(values, return_inverse=True)
    pairs = np.unique(group.astype(np.int64) * len(values) + value)
    return np.bincount(pairs // len(values), minlength=len(sizes))[group] >= least


def find_truncated(lengths: TokenLengths, max_length: int) -> list[Finding]:
    """Find conversations longer than `max_length`, and report how much of their answers is cut off."""
    findings = []
    rows = lengths.cut_rows(max_length)
    if rows:
        lost = 1 - lengths.kept(max_length).trained_tokens
        enough = next((kept.max_length for kept in lengths.kept_table() if kept.trained_tokens == 1.0), None)
        message = (
            f"{rows_are(len(rows), 'is', 'are')} longer than max_length {max_length} and will be cut off at the end; "
            f"{lost:.1%} of the answer tokens are lost."
        )
        advice = f" max_length {enough:,} keeps everything." if enough else ""
        sample = f" (In a sample of {len(lengths.rows):,}.)" if len(lengths.rows) < lengths.total else ""
        severity: Severity = "serious" if lost >= MUCH_LOST else "check"
        findings.append(Finding("cut", rows, message + advice + sample, severity=severity))
    if lengths.refused:
        refused = [row.row for row in lengths.refused]
        message = f"{rows_are(len(refused), 'is', 'are')} rejected by the model's chat template and skipped."
        findings.append(Finding("template", refused, message))
    return findings
