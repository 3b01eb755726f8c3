"""Find turns that only fill a gap: the error of a spreadsheet, `N/A`, `TODO`, `asdf` or `[deleted]`.

Some of these words can be an answer, such as `None` where nothing is asked for. They count as placeholders only where
nearly all other answers are sentences, and have a fix only where they are rare.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from sft_app.data.checkup.finding import Finding, RowsAt, rows_are
from sft_app.data.conversation import Conversation

SHOWN, TEXTS_SHOWN = 40, 4
SENTENCE_WORDS = 4
UNSPACED_SENTENCE = 12
"""Characters of a sentence in a script without spaces."""
SENTENCES = 0.8
"""The share of the other turns that must be sentences before a word that can be meant is a placeholder."""
RARE = 0.05
FEW = 2
ERRORS = {
    *("#n/a", "#n/d", "#nv", "#ref!", "#value!", "#div/0!", "#name?", "#null!", "#num!", "#spill!", "#calc!"),
    *("#getting_data", "#field!", "#blocked!", "#connect!", "#error!", "#wert!", "#bezug!", "#zahl!", "#valeur!"),
    *("#nombre!", "#nom?", "#bezug", "#¡valor!", "#¡ref!", "#¿nombre?", "#valore!", "#rif!", "#nome?"),
}
GONE = {"[deleted]", "[removed]", "[deleted by user]", "[removed by moderator]", "<na>", "[no content]"}
EMPTY = {
    *(
        "n/a",
        "n.a.",
        "n.a",
        "na",
        "#na",
        "null",
        "(null)",
        "<null>",
        "none",
        "nan",
        "nat",
        "nil",
        "undefined",
        "[null]",
    ),
    *(
        "(none)",
        "(empty)",
        "(blank)",
        "[empty]",
        "[blank]",
        "-",
        "--",
        "---",
        "–",
        "—",
        "?",
        "??",
        "???",
        ".",
        "...",
        "…",
    ),
}
UNWRITTEN = {
    *("todo", "to do", "tbd", "tba", "tbc", "fixme", "placeholder", "test", "tests", "testing", "test test", "test123"),
    *("testtest", "asdf", "asdfasdf", "asdfgh", "asdfghjkl", "qwerty", "qwertz", "qwer", "foo", "bar", "foobar"),
    *("xx", "xxx", "xxxx", "xxxxx", "abc", "blah", "blah blah", "dummy", "sample text", "your answer here"),
}
MAYBE_ANSWERS = EMPTY | UNWRITTEN
_LOREM = re.compile(r"lorem ipsum( dolor sit amet\b.*)?[.…]*", re.DOTALL)
_ABOUT_SHEETS = re.compile(
    r"error|excel|sheet|formula|vlookup|fehler|formel|erreur|formule|hoja|fórmula|#", re.IGNORECASE
)
_SHORT = 24


@dataclass
class _Turns:
    """The questions, or the answers, of conversations with one of each; `maybe` are words that can be meant."""

    maybe: dict[int, str] = field(default_factory=dict)
    others: int = 0
    sentences: int = 0

    def add(self, index: int, text: str) -> None:
        if text.lower() in MAYBE_ANSWERS:
            self.maybe[index] = text
            return
        self.others += 1
        self.sentences += _is_sentence(text)

    def found(self) -> dict[int, str]:
        """Return the placeholders, if nearly all other turns are sentences."""
        return self.maybe if self.others and self.sentences >= SENTENCES * self.others else {}


@dataclass
class Placeholders:
    """Collects the turns that may be placeholders."""

    total: int = 0
    sure: dict[int, str] = field(default_factory=dict)
    questions: _Turns = field(default_factory=_Turns)
    answers: _Turns = field(default_factory=_Turns)

    def add(self, conversation: Conversation) -> None:
        """Add the next conversation."""
        index, self.total = self.total, self.total + 1
        spoken = [message for message in conversation.messages if message.role in ("user", "assistant")]
        for place, message in enumerate(spoken):
            if _is_sure(message.content):
                others = (other.content for other in spoken[:place] + spoken[place + 1 :])
                if not _is_about_sheets(message.content, others):
                    self.sure.setdefault(index, message.content.strip())
        if index not in self.sure and [message.role for message in spoken] == ["user", "assistant"]:
            self.questions.add(index, spoken[0].content.strip())
            self.answers.add(index, spoken[1].content.strip())

    def fixable(self) -> list[int]:
        """Return the indexes of the conversations that the fix removes, ascending."""
        return sorted({*self.sure, *(self._maybe() if self._are_rare() else ())})

    def find(self, rows_at: RowsAt) -> list[Finding]:
        """Return the placeholders with a fix, and those that are too frequent to be removed unseen."""
        fixable = self.fixable()
        others = [] if self._are_rare() else sorted(self._maybe())
        return [
            *([self._finding(fixable, rows_at, "drop_placeholders")] if fixable else []),
            *([self._finding(others, rows_at, "")] if others else []),
        ]

    def _finding(self, indexes: list[int], rows_at: RowsAt, fix: str) -> Finding:
        known = {**self._maybe(), **self.sure}
        texts = Counter(known[index] for index in indexes).most_common()
        shown = ", ".join(f"“{text[:SHOWN]}”" for text, _ in texts[:TEXTS_SHOWN])
        more = " and others" if len(texts) > TEXTS_SHOWN else ""
        rows = rows_at(indexes)
        said = f"{rows_are(len(rows), 'has', 'have')} a placeholder instead of a question or an answer: {shown}{more}."
        if not fix:
            said += " If these are not real answers, delete the rows from the file."
        return Finding("placeholder" if fix else "frequent_placeholder", rows, said, fix)

    def _maybe(self) -> dict[int, str]:
        return {**self.questions.found(), **self.answers.found()}

    def _are_rare(self) -> bool:
        return len(self._maybe()) <= max(FEW, RARE * self.total)


def _is_sure(content: str) -> bool:
    if len(content) > _SHORT:
        return content.lstrip()[:5].lower() == "lorem" and _LOREM.fullmatch(content.strip().lower()) is not None
    text = content.strip().lower()
    return text in ERRORS or text in GONE or text == "lorem ipsum"


def _is_about_sheets(content: str, others: Iterable[str]) -> bool:
    """Return whether the error of a spreadsheet is what the conversation is about."""
    return content.strip().startswith("#") and any(_ABOUT_SHEETS.search(other) for other in others)


def _is_sentence(text: str) -> bool:
    """Return whether a text is more than a label, a name or a value."""
    if text[:1] in "{[<":
        return False
    words = len(text.split(maxsplit=SENTENCE_WORDS))
    return words >= SENTENCE_WORDS or (len(text) >= UNSPACED_SENTENCE and not text.isascii())
