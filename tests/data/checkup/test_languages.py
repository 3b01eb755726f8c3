"""An answer in another language is named, and nothing that only looks like one."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from sft_app.data.checkup.finding import Finding
from sft_app.data.checkup.languages import Languages, find_languages, guess_language
from tests.data.checkup.test_checks import ENGLISH, GERMAN

SPANISH = "Gracias por escribirnos; su pedido salió de la tienda el lunes y está en camino."
RUSSIAN = "Спасибо за ваше сообщение, посылка ушла в понедельник и скоро придёт к вам."
JAPANESE = "ご連絡ありがとうございます。荷物は月曜日に発送されました。もう少しお待ちください。"
CODE = "def find(the, of):\n    return the if the is not None and of in the else that(with_this)"
NAMES = "Orla de la Cruz, Bob van der Berg, Anna di Marco, Per och Nils, Jan und Ute Meier"


def find(answers: Iterable[str], questions: dict[int, str] | None = None) -> list[Finding]:
    languages = Languages()
    for index, answer in enumerate(answers):
        languages.add(index, (questions or {}).get(index, f"Question {index}?"), answer)
    return find_languages(languages, lambda indexes: sorted(index + 1 for index in indexes))


def test_answers_in_a_second_language_are_named():
    [finding] = find([*ENGLISH, *GERMAN[:2]])
    assert (finding.kind, finding.rows) == ("language", [5, 6])
    assert finding.message == "The answers are in several languages: English, German."


@pytest.mark.parametrize(
    "answers",
    [ENGLISH, [*ENGLISH, GERMAN[0]], [*ENGLISH, "Ja, gern!", "Nein."], [*ENGLISH, *(f"```\n{t}\n```" for t in GERMAN)]],
    ids=["one", "a-single-answer", "short", "code"],
)
def test_one_language_is_no_finding(answers: list[str]):
    assert find(answers) == []


@pytest.mark.parametrize(
    ("answer", "name"),
    [(GERMAN[0], "German"), (SPANISH, "Spanish"), (RUSSIAN, "Russian"), (JAPANESE, "Japanese")],
)
def test_a_single_answer_in_another_language_is_named_with_its_row(answer: str, name: str):
    answers = ENGLISH * 20
    answers[36] = answer
    [finding] = find(answers)
    assert (finding.kind, finding.rows, finding.severity) == ("other_language", [37], "check")
    assert finding.message == f"1 answer is not in English like the others: {name} (row 37)."


def test_an_english_answer_among_others_is_named():
    answers = GERMAN * 20
    answers[3], answers[7] = ENGLISH[0], SPANISH
    [finding] = find(answers)
    assert finding.rows == [4, 8]
    assert "are not in German like the others: English (row 4), Spanish (row 8)." in finding.message


@pytest.mark.parametrize("text", [CODE, NAMES, "SELECT id FROM the WHERE of IN (1) AND to IS NOT NULL", "Hallo!", "12"])
def test_code_names_and_short_texts_have_no_language(text: str):
    assert guess_language(text) == "" and find([*GERMAN * 10, text]) == []


@pytest.mark.parametrize(
    "question",
    [
        "Translate this into German: thank you for your message.",
        "How do I say this in German?",
        "Antworte auf Deutsch!",
    ],
)
def test_an_answer_in_the_language_that_was_asked_for_is_no_finding(question: str):
    answers = [*ENGLISH * 10, GERMAN[0]]
    assert find(answers, {40: question}) == []


def test_a_question_answered_in_another_language_is_named_where_others_match():
    pairs = [(ENGLISH[n % 4], ENGLISH[(n + 1) % 4]) for n in range(40)] + [(GERMAN[1], ENGLISH[0])]
    [finding] = find([answer for _, answer in pairs], {n: question for n, (question, _) in enumerate(pairs)})
    assert (finding.kind, finding.rows) == ("answered_in_another_language", [41])
    assert finding.message.endswith("asked in German, answered in English (row 41).")
    assert find([ENGLISH[0]] * 40, {n: GERMAN[n % 3] for n in range(40)}) == []
