"""The options of a multiple-choice question become a part of it, with the labels that the answer refers to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sft_app.data.formats.option_columns import check_option_answer, listed_options, option_columns
from sft_app.data.reading import DataFile, Reading, open_data
from sft_app.errors import DataError
from sft_app.settings import DataSettings

ASKED = "Which animal barks?\n{}. a cat\n{}. a dog\n{}. a fish"
OPTIONS = ["a cat", "a dog", "a fish"]
PAIRS: list[tuple[dict[str, Any], str, str]] = [
    ({"A": "a cat", "B": "a dog", "C": "a fish", "answer": "B"}, "ABC", "B"),
    ({"Option A": "a cat", "Option B": "a dog", "Option C": "a fish", "Correct": "b"}, "ABC", "b"),
    ({"option1": "a cat", "option2": "a dog", "option3": "a fish", "correct_option": 2}, "123", "2"),
    ({"answer_1": "a cat", "answer_2": "a dog", "answer_3": "a fish", "correct_answer": "2"}, "123", "2"),
    ({"choices": OPTIONS, "answer": "a dog"}, "ABC", "a dog"),
    ({"options": str(OPTIONS), "answer": "B"}, "ABC", "B"),
    ({"options": json.dumps({"A": "a cat", "B": "a dog", "C": "a fish"}), "answer": "B"}, "ABC", "B"),
    ({"choices": {"label": ["1", "2", "3"], "text": OPTIONS}, "answerKey": "2"}, "123", "2"),
    (
        {"options": [{"key": key, "value": one} for key, one in zip("ABC", OPTIONS, strict=True)], "label": "B"},
        "ABC",
        "B",
    ),
]


def opened(folder: Path, *rows: dict[str, Any]) -> DataFile:
    path = folder / "choices.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return open_data(DataSettings(data=str(path)), folder)


@pytest.mark.parametrize(("options", "labels", "answer"), PAIRS)
def test_options_are_added_to_the_question(options: dict[str, Any], labels: str, answer: str, tmp_path: Path) -> None:
    file = opened(tmp_path, {"question": "Which animal barks?", **options})
    (question, said) = next(iter(Reading(file))).conversation.messages
    assert (question.content, said.content) == (ASKED.format(*labels), answer)
    assert "multiple-choice" in file.candidates[0].why
    assert all(f"`{name}`" in file.candidates[0].why for name in options)


def test_number_of_a_lettered_option_is_asked_about(tmp_path: Path) -> None:
    reading = Reading(opened(tmp_path, {"question": "Which animal barks?", "choices": OPTIONS, "answer": 1}))
    assert list(reading) == []
    assert "starts at 0 or 1" in reading.rejected[0].reason


def test_label_that_no_option_has_is_refused() -> None:
    options = [("A", "a cat"), ("B", "a dog")]
    check_option_answer("(b)", options, "answer")
    check_option_answer("It is a dog.", options, "answer")
    with pytest.raises(DataError, match="`answer` is 'E', and the options are A, B"):
        check_option_answer("E", options, "answer")


def test_two_columns_for_the_right_option_are_asked_about(tmp_path: Path) -> None:
    row = {"question": "Which animal barks?", "choices": OPTIONS, "answer": "a dog", "label": "B"}
    with pytest.raises(DataError, match="`answer`, `label` could each say which one is right"):
        opened(tmp_path, row)


@pytest.mark.parametrize(
    "names", [("A", "B", "answer"), ("a", "q", "c"), ("answer_1", "answer_2", "answer_3"), ("B", "C", "D", "answer")]
)
def test_other_columns_are_no_options(names: tuple[str, ...]) -> None:
    assert option_columns(names) == {}


@pytest.mark.parametrize("value", [None, "a; b", ["one"], [["a"], ["b"]], {"x": "a", "y": "b"}, "[broken"])
def test_other_values_are_no_list_of_options(value: Any) -> None:
    assert listed_options(value) == []
