"""A conversation with both sides: what each is sent, and what editing and repeating leave."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from sft_app.data.conversation import prompt_messages
from sft_app.errors import ModelError
from sft_app.inference.chat import PairChat


def answered(left: str, right: str) -> Any:
    return SimpleNamespace(left=SimpleNamespace(text=left), right=SimpleNamespace(text=right))


def said(messages: list[dict[str, str]]) -> list[str]:
    return [f"{message['role'][0]}:{message['content']}" for message in messages]


def test_each_side_keeps_its_own_history() -> None:
    chat = PairChat()
    left, right = chat.begin("One?", "Be kind.")
    assert said(left) == said(right) == ["s:Be kind.", "u:One?"]
    chat.update = answered("a", "b")
    left, right = chat.follow_up("Two?")
    assert said(left) == ["s:Be kind.", "u:One?", "a:a", "u:Two?"]
    assert said(right) == ["s:Be kind.", "u:One?", "a:b", "u:Two?"]


def test_beginning_anew_forgets() -> None:
    chat = PairChat()
    chat.begin("One?", "Be kind.")
    chat.update = answered("a", "b")
    chat.follow_up("Two?")
    left, _ = chat.begin("Three?", "")
    assert said(left) == ["u:Three?"]


def test_repeating_asks_the_last_question_without_its_answers() -> None:
    chat = PairChat()
    chat.begin("One?", "")
    chat.update = answered("a", "b")
    assert said(chat.regenerate()[0]) == ["u:One?"]
    assert chat.update is None
    with pytest.raises(ModelError, match="empty"):
        PairChat().regenerate()


def test_questions_are_taken_back_one_by_one() -> None:
    chat = PairChat()
    chat.begin("One?", "")
    chat.update = answered("a", "b")
    chat.follow_up("Two?")
    assert chat.undo() == "Two?"
    assert chat.undo() == "One?"
    assert chat.undo() == ""
    assert chat.exchanges == []


def test_a_question_taken_back_can_be_asked_in_other_words() -> None:
    chat = PairChat()
    chat.begin("One?", "")
    chat.update = answered("a", "b")
    chat.follow_up("Two?")
    chat.update = answered("c", "d")
    chat.undo()
    assert said(chat.follow_up("Two, please?")[1]) == ["u:One?", "a:b", "u:Two, please?"]


@pytest.mark.parametrize("question", ["", " \n"])
def test_empty_question_leaves_the_conversation_as_it_is(question: str) -> None:
    chat = PairChat()
    chat.begin("One?", "")
    chat.update = answered("a", "b")
    for ask in (lambda: chat.begin(question, ""), lambda: chat.follow_up(question)):
        with pytest.raises(ModelError, match="The prompt is empty"):
            ask()
        assert chat.question == "One?" and chat.update is not None


def test_system_prompt_stands_before_the_question() -> None:
    assert said(prompt_messages("Hi", "Be kind.")) == ["s:Be kind.", "u:Hi"]
    assert said(prompt_messages("Hi", " ")) == ["u:Hi"]
