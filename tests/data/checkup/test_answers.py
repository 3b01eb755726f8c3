"""Answers that are all the same, or ids, names and dates, are told; labels of classes are not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pytest

from sft_app.data.checkup.answers import Answers, find_constant_answers, find_echoes, find_odd_answers
from sft_app.data.checkup.finding import Finding

REPLIES = [f"We have sent parcel {n} to you by the morning post of day {n}." for n in range(100)]


def collect(texts: Iterable[str]) -> Answers:
    answers = Answers()
    for text in texts:
        answers.add(False, [text])
    return answers


def rows_at(indexes: Iterable[int]) -> list[int]:
    return [index + 1 for index in indexes]


def constant(texts: Iterable[str]) -> list[Finding]:
    return find_constant_answers(collect(texts), rows_at)


def odd(texts: Iterable[str], unused: Sequence[str] = ()) -> list[Finding]:
    return find_odd_answers(collect(texts), rows_at, unused)


def test_one_answer_to_nearly_everything_is_serious():
    [finding] = constant([*["Done."] * 18, *REPLIES[:2]])
    assert (finding.kind, finding.severity, finding.rows) == ("constant_answers", "serious", list(range(1, 19)))
    assert finding.message.startswith("90% of the answers are the same: “Done.”.")
    assert constant([*["Done."] * 17, *REPLIES[:3]]) == []


def test_a_handful_of_texts_for_everything_is_serious():
    canned = [f"Please write to the {team} team about this." for team in ("first", "second", "third")]
    [finding] = constant(canned * 20)
    assert (finding.severity, len(finding.rows)) == ("serious", 60)
    assert "100% of the answers are one of 3 texts" in finding.message
    assert constant(canned * 3) == []


@pytest.mark.parametrize(
    "texts",
    [
        ["positive", "negative", "neutral"] * 30,
        ["yes", "no"] * 30,
        ["0", "1"] * 30,
        ["A", "B", "C", "D"] * 20,
        [*["ham"] * 80, *["spam"] * 20],
        REPLIES,
    ],
    ids=["sentiment", "yes-no", "digits", "letters", "uneven", "replies"],
)
def test_labels_of_classes_and_replies_are_no_finding(texts: list[str]):
    assert constant(texts) == odd(texts) == []


def test_a_rare_class_is_only_to_be_checked():
    [finding] = constant([*["ham"] * 95, *["spam"] * 5])
    assert finding.severity == "check"
    [finding] = constant(["ham"] * 100)
    assert finding.severity == "serious"


def test_all_is_said_only_of_all():
    assert constant([*["Done."] * 999, REPLIES[0]])[0].message.startswith("99% ")


@pytest.mark.parametrize(
    ("texts", "words", "severity"),
    [
        ([f"nell{n}@mailbox.co.uk" for n in range(20)], "e-mail or web addresses", "serious"),
        ([f"https://shop.example/{n}" for n in range(20)], "e-mail or web addresses", "serious"),
        ([f"TCK-{1000 + n}" for n in range(20)], "ids", "serious"),
        ([f"2024-03-{n + 1:02}" for n in range(20)], "dates", "check"),
        ([f"{n + 1}. March 2024" for n in range(20)], "dates", "check"),
        ([f"{n * 37}" for n in range(20)], "numbers", "check"),
        ([f"Orla Fern{'abcdefghijklmnopqrst'[n]}" for n in range(20)], "names", "check"),
    ],
)
def test_answers_that_are_no_texts_are_told(texts: list[str], words: str, severity: str):
    [finding] = odd(texts)
    assert words in finding.message
    assert (finding.severity, finding.rows) == (severity, list(range(1, 21)))
    assert odd(texts, ["reply"])[0].severity == "serious"
    assert odd([*texts, *REPLIES[:3]]) == []


def test_a_plain_text_has_no_shape():
    answers = Answers()
    for number in range(20):
        answers.add(True, [f"TCK-{number}"])
    assert find_odd_answers(answers, rows_at, []) == []


@pytest.mark.parametrize(("echoes", "found"), [(12, 1), (11, 1), (6, 0), (0, 0)])
def test_answers_that_repeat_the_question_are_found_if_nearly_all_do(echoes: int, found: int):
    findings = find_echoes(range(echoes), 12, lambda indexes: list(indexes))
    assert [finding.severity for finding in findings] == ["serious"] * found


@pytest.mark.parametrize(("question", "found"), [("Which article number has lamp {}?", 0), ("Is lamp {} here?", 1)])
def test_ids_that_the_questions_ask_for_are_meant(question: str, found: int):
    answers = Answers()
    for n in range(12):
        answers.add(False, [f"LX-{n}04"], question.format(n))
    assert len(find_odd_answers(answers, lambda indexes: list(indexes), [])) == found
