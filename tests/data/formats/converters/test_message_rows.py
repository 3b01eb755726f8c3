"""Rows of one message each become conversations, once it is known who the assistant is."""

from __future__ import annotations

from typing import Any

import pytest

from sft_app.data.formats.converters.message_rows import conversations_of_messages
from sft_app.data.rows import JsonObject, Rejected, Row
from sft_app.errors import DataError
from sft_app.settings import DataSettings


def joined(rows: list[JsonObject], **settings: Any) -> tuple[list[list[str]], list[Rejected]]:
    numbered = [Row(number, row) for number, row in enumerate(rows, start=1)]
    items = list(conversations_of_messages(numbered, DataSettings(**settings)))
    chats = [item[1] for item in items if not isinstance(item, Rejected)]
    left_out = [item for item in items if isinstance(item, Rejected)]
    return [[f"{one['role']}: {one['content']}" for one in chat] for chat in chats], left_out


def test_messages_are_grouped_by_conversation_and_ordered_by_turn() -> None:
    rows = [
        {"conversation_id": "b", "turn": 2, "role": "agent", "message": "Hello."},
        {"conversation_id": "a", "turn": 1, "role": "customer", "message": "Hi"},
        {"conversation_id": "a", "turn": 2, "role": "agent", "message": "Yo!"},
        {"conversation_id": "b", "turn": 1, "role": "customer", "message": "Hey"},
    ]
    assert joined(rows)[0] == [["user: Hey", "assistant: Hello."], ["user: Hi", "assistant: Yo!"]]


def test_turns_of_one_speaker_are_joined_and_a_last_question_is_counted() -> None:
    rows: list[JsonObject] = [
        {"name": "Ann", "is_user": True, "mes": "Hi"},
        {"name": "Ann", "is_user": True, "mes": "Anyone?"},
        {"name": "Nell", "is_user": False, "mes": "Yo!"},
        {"name": "Ann", "is_user": True, "mes": "Thanks"},
    ]
    chats, left_out = joined(rows)
    assert chats == [["user: Hi\nAnyone?", "assistant: Yo!"]]
    assert [(one.row, one.by_choice) for one in left_out] == [(4, True)]


def test_replies_are_one_conversation() -> None:
    rows = [
        {"tweet_id": "1", "inbound": "True", "text": "Hi", "in_response_to_tweet_id": ""},
        {"tweet_id": "2", "inbound": "False", "text": "Yo!", "in_response_to_tweet_id": "1.0"},
        {"tweet_id": "3", "inbound": "True", "text": "Hey", "in_response_to_tweet_id": ""},
        {"tweet_id": "4", "inbound": "False", "text": "Hello.", "in_response_to_tweet_id": "3.0"},
    ]
    assert joined(rows)[0] == [["user: Hi", "assistant: Yo!"], ["user: Hey", "assistant: Hello."]]


def test_names_of_people_are_asked_about_or_given() -> None:
    rows = [{"from": "Ann", "text": "Hi"}, {"from": "Nell", "text": "Yo!"}]
    with pytest.raises(DataError, match="Which of them is the assistant"):
        joined(rows)
    assert joined(rows, assistant="nell")[0] == [["user: Hi", "assistant: Yo!"]]
    with pytest.raises(DataError, match="No message is by 'Zoe'"):
        joined(rows, assistant="Zoe")
