"""A placeholder is a whole turn, and a word that can be meant is one only where the other turns are sentences."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from sft_app.data.checkup.finding import Finding
from sft_app.data.checkup.placeholders import Placeholders
from tests.chat_styles import conversation_of

Pairs = list[tuple[str, str]]
TALKS = [(f"Where is my parcel number {n}?", f"It left our house on day {n} of the month.") for n in range(60)]


def find(pairs: Iterable[tuple[str, str]]) -> list[Finding]:
    placeholders = Placeholders()
    for question, answer in pairs:
        placeholders.add(conversation_of([("user", question), ("assistant", answer)]))
    return placeholders.find(lambda indexes: [index + 1 for index in indexes])


@pytest.mark.parametrize(
    "text",
    ["#N/A", "#REF!", "#VALUE!", "N/A", "null", "None", "nan", "-", "TODO", "test", "asdf", "xxx", "lorem ipsum"]
    + ["[deleted]", " #n/a\n", "Lorem ipsum dolor sit amet, consectetur adipiscing elit."],
)
def test_placeholder_is_found_as_a_question_and_as_an_answer(text: str):
    """People do write `test` or `asdf` as a question, so nothing removes a good answer to it unseen."""
    fix = "" if text in ("test", "asdf", "xxx") else "drop_placeholders"
    for pair, expected in [
        (("Where is the blue kettle?", text), "drop_placeholders"),
        ((text, "It is on its way to you."), fix),
    ]:
        [finding] = find([*TALKS, pair])
        assert (finding.rows, finding.fix) == ([61], expected)
        assert finding.message.startswith("1 row has a placeholder instead of a question or an answer: “")


@pytest.mark.parametrize(
    "text",
    ["TODO: write answer", "[INSERT ANSWER HERE]", "{{answer}}", "<your answer>", "Answer goes here", "N/A - ask Tom"]
    + ["#N/A Requesting Data...", "WIP", "Antwort folgt", "待补充", "à compléter", "Error: Request timed out."]
    + ['{"error": {"message": "Rate limit reached"}}'],
)
def test_what_stands_in_place_of_an_answer_is_found(text: str):
    [finding] = find([*TALKS, ("Where is the blue kettle?", text)])
    assert (finding.kind, finding.rows, finding.fix) == ("placeholder", [61], "drop_placeholders")


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Which defects are named in: 'It shines.' Answer None if there are none.", "None"),
        ("Name what is missing in: 'All is here.' Write '-' if nothing is missing.", "-"),
        ("Which variable of the template holds the answer?", "{{answer}}"),
        ("What does the log say?", "Error: Request timed out."),
    ],
)
def test_an_answer_that_the_question_asks_for_is_no_placeholder(question: str, answer: str):
    assert find([*TALKS, (question, answer)]) == []


@pytest.mark.parametrize("text", ["None of them.", "The test failed.", "n/a for now", "#N/A means not available", "No"])
def test_a_turn_with_more_in_it_is_no_placeholder(text: str):
    assert find([*TALKS, ("Where is it now?", text)]) == []


@pytest.mark.parametrize("label", ["None", "null", "test", "N/A", "-"])
def test_labels_of_a_class_are_no_placeholders(label: str):
    labels = ["urgent", label, "later"]
    assert find([(question, labels[n % 3]) for n, (question, _) in enumerate(TALKS)]) == []
    assert find([*((question, "later") for question, _ in TALKS), ("And this one of the four?", label)]) == []


def test_words_of_a_dictionary_are_no_placeholders():
    words = ["house", "tree", "null", "test", "river", "none", "cloud"]
    assert find([(word, f"The word {word} has more than one meaning.") for word in words * 5]) == []


def test_extracted_values_are_no_placeholders():
    answers = ['{"name": "Orla"}', "null", '["kettle", "cup"]', "None"] * 10
    assert find([(f"Extract the names from text {n}.", answer) for n, answer in enumerate(answers)]) == []


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("#REF!", "This error says that a cell of the formula was deleted."),
        ("What does Excel show if VLOOKUP finds nothing?", "#N/A"),
    ],
)
def test_an_error_that_is_talked_about_is_no_placeholder(question: str, answer: str):
    assert find([*TALKS, (question, answer)]) == []


def test_frequent_words_are_told_without_a_fix():
    pairs: Pairs = [*TALKS[:50], *((f"Which date is named in text {n}?", "None") for n in range(10))]
    [finding] = find(pairs)
    assert (finding.kind, finding.fix, finding.rows) == ("frequent_placeholder", "", list(range(51, 61)))
    assert "If these are not real answers" in finding.message


def test_a_word_inside_a_longer_chat_is_none():
    placeholders = Placeholders()
    for question, answer in TALKS:
        placeholders.add(conversation_of([("user", question), ("assistant", answer)]))
    turns = [
        ("user", "Where is it?"),
        ("assistant", "Which one?"),
        ("user", "none"),
        ("assistant", "I see, then wait."),
    ]
    placeholders.add(conversation_of(turns))
    assert placeholders.fixable() == []
    placeholders.add(conversation_of([*turns[:3], ("assistant", "[deleted]")]))
    assert placeholders.fixable() == [61]
