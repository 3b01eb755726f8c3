"""In chats between people, the question who the assistant is comes with everyone's name and first words."""

from __future__ import annotations

from typing import Any

import pytest

from sft_app.data.formats.speakers import turn_speakers, unclear_assistant
from sft_app.errors import UnclearAssistantError
from sft_app.settings import DataSettings, parse_settings


def settings(assistant: str = "") -> DataSettings:
    return parse_settings({"data": "x.jsonl", "assistant": assistant}).reading()


def chat(*turns: tuple[str, Any]) -> dict[str, Any]:
    return {"turns": [{"speaker": who, "text": said} for who, said in turns]}


CHATS = [chat(("Tom", "Where is it?"), ("Nell", "Here.")), chat(("Ida", "Is it dead?"), ("Nell", "No."))]


def test_those_who_speak_most_come_first_with_their_first_words() -> None:
    assert list(turn_speakers(CHATS).items()) == [("Nell", "Here."), ("Tom", "Where is it?"), ("Ida", "Is it dead?")]


def test_a_name_that_is_a_role_is_the_last_to_be_suggested() -> None:
    assert list(turn_speakers([chat(("User", "Hi"), ("User", "Anyone?"), ("Nell", "Yes."))])) == ["Nell", "User"]


def test_people_without_an_assistant_are_asked_about() -> None:
    question = unclear_assistant(CHATS, settings())
    assert isinstance(question, UnclearAssistantError)
    assert question.question == "The turns are by people. Which of them is the assistant?"
    assert "“Nell”, “Tom”, “Ida”" in str(question) and '--assistant "Nell"' in str(question)


def test_a_name_that_nobody_has_is_told() -> None:
    assert "No message is by 'Bob'. The speakers are “Nell”" in str(unclear_assistant(CHATS, settings("Bob")))


@pytest.mark.parametrize(
    ("rows", "assistant"),
    [
        (CHATS, "nell"),
        ([chat(("user", "Hi"), ("assistant", ""))], ""),  # something else is wrong with it
        ([chat(("Tom", "Hi"), ("Tom", "Anyone?"))], ""),
        ([{"question": "Hi", "answer": "Hello"}], ""),
        ([chat(("Tom", "Hi"), ("bot", "Hello"))], ""),
    ],
)
def test_nothing_is_asked_where_that_is_not_the_problem(rows: list[dict[str, Any]], assistant: str) -> None:
    assert unclear_assistant(rows, settings(assistant)) is None
