"""Suggest checks that most answers of a run's own examples pass, and held-out questions to ask them on."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sft_app.data.conversation import Conversation, make_conversation
from sft_app.data.words import as_long_as, count_words, is_unspaced, words_of
from sft_app.errors import DataError
from sft_app.evaluation.checking.answer_checks import UNSPACED_NOTE, language_name, plain
from sft_app.evaluation.checks import Check, failures, parse_check
from sft_app.evaluation.suites.plain_yaml import dump_yaml
from sft_app.evaluation.suites.tests_file import Suite, WrittenTest
from sft_app.runs.folder import Run
from sft_app.runtime.files import iterate_jsonl

MOST_ANSWERS = 1000
FEWEST_ANSWERS = 8
NEARLY_ALL = 0.9
OFTEN = 0.2
"""A code in at least this share of the answers is worth a check of single tests, not of all."""
MOST_LABELS, LABEL_WORDS = 12, 4
QUESTIONS = 20
NOTHING_SHARED = "The answers have nothing in common that could be checked. Write checks for single prompts."
_CODE = re.compile(r"\b([A-Z]{2,5}[-#])(\d{3,10})\b")
_LAST_WORDS = 5


@dataclass(frozen=True)
class Suggestion:
    """A check, how many of the answers pass it, and the same in words. `for_all` is false if it suits only some."""

    check: Check
    passing: int
    total: int
    reason: str
    for_all: bool = True

    def __str__(self) -> str:
        return f"{self.passing:,} of {self.total:,} answers {self.reason}"


@dataclass(frozen=True)
class Suggested:
    """The suggestions, and held-out questions to ask."""

    suggestions: tuple[Suggestion, ...]
    questions: tuple[tuple[dict[str, str], ...], ...]
    origin: str = ""

    def suite(self) -> Suite:
        """Return the suite that asks the questions with the checks for all answers."""
        tests = tuple(WrittenTest(f"held-out {number}", asked) for number, asked in enumerate(self.questions, 1))
        return Suite(tests, tuple(one.check for one in self.suggestions if one.for_all), self.origin)


def suggest_tests(run: Run) -> Suggested:
    """Find what the answers of a run's examples share. Raises: DataError if it has too few, or none in a chat."""
    train, heldout = _chats(run.train_file), _chats(run.heldout_file)
    answers = [chat.messages[-1].content for chat in [*heldout, *train]][:MOST_ANSWERS]
    if len(answers) < FEWEST_ANSWERS:
        raise DataError(
            f"Checks are suggested from at least {FEWEST_ANSWERS} answers, but this run has {len(answers)}."
        )
    asked = tuple(
        tuple({"role": message.role, "content": message.content} for message in chat.messages[:-1])
        for chat in heldout[:QUESTIONS]
    )
    return Suggested(tuple(suggest_checks(answers)), asked, f"suggestions for run {run.id}")


def suggest_checks(answers: Sequence[str]) -> list[Suggestion]:
    """Return the checks that nearly all answers pass, each counted on the answers themselves."""
    found: list[tuple[str, Any, str, bool]] = []
    if labels := _labels(answers):
        found.append(("regex", _one_of(labels), f"are one of the labels {', '.join(labels)}", True))
    else:
        found += _of_texts(answers)
    suggestions = [_counted(answers, *one) for one in found]
    return [one for one in suggestions if one.passing >= (NEARLY_ALL if one.for_all else OFTEN) * one.total]


def suggestions_yaml(found: Suggested) -> str:
    """Return a tests file whose comments say how many of the answers pass each check."""
    comments = [f"# {one}: {one.check}" + ("" if one.for_all else " (for single tests)") for one in found.suggestions]
    suite = found.suite()
    if not suite.for_all:
        return f"# {NOTHING_SHARED}\ntests: []\n"
    text = dump_yaml(
        {
            "all": [check.as_dict() for check in suite.for_all],
            "tests": [{key: value for key, value in test.as_dict().items() if value} for test in suite.tests],
        }
    )
    return "\n".join([*comments, text])


def _of_texts(answers: Sequence[str]) -> list[tuple[str, Any, str, bool]]:
    low, high = _middle([count_words(answer) for answer in answers])
    note = UNSPACED_NOTE if is_unspaced(words_of(" ".join(answers))) else ""
    found: list[tuple[str, Any, str, bool]] = [
        ("words", [low, high], f"have {low:,} to {high:,} words{note}", True),
        ("no_repetition", True, "contain no sentence twice", True),
        ("json", True, "are valid JSON", True),
        ("asks_question", True, "ask a question", True),
        ("asks_question", False, "ask no question", True),
    ]
    if sign_off := _sign_off(answers):
        found.append(("signs_as", sign_off, f"end with “{sign_off}”", True))
    if language := _language(answers):
        found.append(("language", language, f"are clearly in {language_name(language)}", True))
    if code := _code(answers):
        found.append(("regex", code, f"contain a code such as an order number ({code})", False))
    return found


def _counted(answers: Sequence[str], name: str, argument: Any, reason: str, for_all: bool) -> Suggestion:
    check = parse_check(name, argument)
    passing = sum(not failures([check], answer, True) for answer in answers)
    return Suggestion(check, passing, len(answers), reason, for_all)


def _labels(answers: Sequence[str]) -> list[str]:
    """Return the labels if the answers are a few short ones that repeat."""
    counts = Counter(" ".join(answer.split()) for answer in answers)
    is_closed = len(counts) <= MOST_LABELS and min(counts.values()) > 1
    return sorted(counts) if is_closed and all(_is_short(label, LABEL_WORDS) for label in counts) else []


def _is_short(text: str, words: int) -> bool:
    return count_words(text) <= as_long_as(words, words_of(text))


def _one_of(labels: Sequence[str]) -> str:
    return rf"(?i)^\s*(?:{'|'.join(map(re.escape, labels))})[\s.!]*$"


def _middle(counts: list[int]) -> tuple[int, int]:
    """Return the range of the middle 95 %."""
    ordered = sorted(counts)
    cut = int(0.025 * len(ordered))
    return ordered[cut], ordered[-1 - cut]


def _sign_off(answers: Sequence[str]) -> str:
    """Return the last line that nearly all answers share, or a name after its comma."""
    lines = [answer.strip().splitlines()[-1].strip() if answer.strip() else "" for answer in answers]
    short = Counter(line.strip(" —–-.!") for line in lines if line and _is_short(line, _LAST_WORDS))
    sign_off, count = short.most_common(1)[0] if short else ("", 0)
    return sign_off if count >= NEARLY_ALL * len(answers) and any(map(str.isalpha, plain(sign_off))) else ""


def _language(answers: Sequence[str]) -> str:
    from sft_app.data.checkup.languages import identify_language

    found = Counter(language for answer in answers[:100] if (language := identify_language(answer)))
    return found.most_common(1)[0][0] if found else ""


def _code(answers: Sequence[str]) -> str:
    r"""Return the pattern of a code that occurs often, such as `\bFH-\d{5}\b`."""
    found = Counter((match[1], len(match[2])) for answer in answers for match in _CODE.finditer(answer))
    (prefix, digits), _ = found.most_common(1)[0] if found else (("", 0), 0)
    return rf"\b{re.escape(prefix)}\d{{{digits}}}\b" if prefix else ""


def _chats(file: Any) -> list[Conversation]:
    chats = []
    for row in iterate_jsonl(file):
        conversation = make_conversation(row["messages"])
        if not conversation.is_text() and len(conversation.messages) > 1 and _is_asked(conversation):
            chats.append(conversation)
    return chats


def _is_asked(conversation: Conversation) -> bool:
    """Return whether the conversation can be asked in a test: without tools, and no system message in the middle."""
    roles = [message.role for message in conversation.messages]
    return "tool" not in roles and "system" not in roles[1:] and roles[-2] == "user"
