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
NOTES = {
    *("wip", "work in progress", "coming soon", "see above", "no answer", "string", "null null", "answer pending"),
    *("your answer", "answer goes here", "answer here", "antwort folgt", "folgt", "wird ergänzt", "à compléter"),
    *("a completar", "por completar", "pendiente", "da completare", "待补充", "待定", "тест"),
}
"""Written in place of an answer. A person may well write one of these as a question, or `test`, `asdf` or `?`."""
MAYBE_ANSWERS = EMPTY | UNWRITTEN | NOTES
TYPED = (UNWRITTEN - {"todo", "tbd", "tba", "tbc", "fixme", "placeholder"}) | NOTES | {"?", "??", "???", ".", "..."}
_NOTE = re.compile(
    r"""(?:todo|tbd|fixme|wip)\s?[:–—-]\s.{1,60}|n/a\s*[–—-]\s*.{1,40}|\#n/a\ requesting\ data\W*
    |(?:\[|<|\(|\{{1,2})\s*(?:(?:insert|enter|add|write|put)\s+)?(?:(?:your|the|an)\s+)?(?:answer|response|reply)
    (?:\s+(?:goes\s+)?here)?\s*(?:\]|>|\)|\}{1,2})
    |(?:api\s)?error\s?:\s(?:request|connection|read|gateway|server|rate\slimit|internal\sserver|timeout)\b.{0,60}
    |(?:the\s)?request\stimed\sout\.?|\{\s*"error"\s*:\s*[{"].{1,250}\}""",
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)
_ABOUT_NOTES = re.compile(
    r"\b(?:to-?do|tbd|n/a|wip|placeholder|template|variable|tag|api|json|error|timed? ?out|log)s?\b|\{\{", re.IGNORECASE
)
_LONGEST_NOTE = 300
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

    def add(self, index: int, text: str, is_placeholder: bool) -> None:
        if is_placeholder:
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
            question, answer = spoken[0].content.strip(), spoken[1].content.strip()
            self.questions.add(index, question, question.lower() in MAYBE_ANSWERS)
            is_note = _is_note(answer) and not _ABOUT_NOTES.search(question)
            is_word = answer.lower() in MAYBE_ANSWERS and not _is_named(answer, conversation)
            self.answers.add(index, answer, is_note or is_word)

    def fixable(self) -> list[int]:
        """Return the indexes of the conversations that the fix removes, ascending."""
        return sorted({*self.sure, *(self._maybe().keys() - self._typed() if self._are_rare() else ())})

    def find(self, rows_at: RowsAt) -> list[Finding]:
        """Return the placeholders with a fix, and those that are too frequent to be removed unseen."""
        fixable = self.fixable()
        others = sorted(self._maybe().keys() - fixable)
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

    def _typed(self) -> set[int]:
        """Return the indexes of questions that a person may have typed, and whose answer is none of these."""
        answers = self.answers.found()
        return {index for index, text in self.questions.found().items() if text.lower() in TYPED} - answers.keys()

    def _are_rare(self) -> bool:
        return len(self._maybe()) <= max(FEW, RARE * self.total)


def _is_sure(content: str) -> bool:
    if len(content) > _SHORT:
        return content.lstrip()[:5].lower() == "lorem" and _LOREM.fullmatch(content.strip().lower()) is not None
    text = content.strip().lower()
    return text in ERRORS or text in GONE or text == "lorem ipsum"


def _is_note(text: str) -> bool:
    """Return whether a text stands in place of an answer: a note to write it, an empty slot, or an error message."""
    return len(text) <= _LONGEST_NOTE and _NOTE.fullmatch(text) is not None


def _is_named(answer: str, conversation: Conversation) -> bool:
    """Return whether a word is an answer that the system message or the question names."""
    word = re.escape(answer)
    named = rf"(?<!\w){word}(?!\w)" if answer[0].isalnum() else rf"[\"'“‘«„`(]{word}[\"'”’»“`)]"
    asked = (message.content for message in conversation.messages if message.role in ("system", "user"))
    return any(re.search(named, text, re.IGNORECASE) for text in asked)


def _is_about_sheets(content: str, others: Iterable[str]) -> bool:
    """Return whether the error of a spreadsheet is what the conversation is about."""
    return content.strip().startswith("#") and any(_ABOUT_SHEETS.search(other) for other in others)


def _is_sentence(text: str) -> bool:
    """Return whether a text is more than a label, a name or a value."""
    if text[:1] in "{[<":
        return False
    words = len(text.split(maxsplit=SENTENCE_WORDS))
    return words >= SENTENCE_WORDS or (len(text) >= UNSPACED_SENTENCE and not text.isascii())
