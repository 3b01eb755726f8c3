"""A conversation that can be made can be trained on; one that cannot says which message is wrong."""

from __future__ import annotations

import re
from typing import Any

import pytest

from sft_app.data.conversation import Conversation, Message, make_conversation
from sft_app.errors import DataError


def messages_of(roles: str) -> list[dict[str, str]]:
    """`"sua"` is a system, a user and an assistant message."""
    names = {"s": "system", "u": "user", "a": "assistant"}
    return [{"role": names[letter], "content": f"text {place}"} for place, letter in enumerate(roles)]


@pytest.mark.parametrize(("roles", "turns"), [("ua", 1), ("sua", 1), ("uaua", 2), ("suauaua", 3)])
def test_user_and_assistant_in_turn_make_a_conversation(roles: str, turns: int):
    conversation = make_conversation(messages_of(roles))
    assert conversation.as_dicts() == messages_of(roles)
    assert conversation.assistant_turns() == turns


def test_text_is_kept_as_it_is_written():
    content = "  Größe \r\n\n\t£5 🌱\u2028 "
    conversation = make_conversation([{"role": "user", "content": content}, {"role": "assistant", "content": content}])
    assert conversation == Conversation((Message("user", content), Message("assistant", content)))


def test_other_keys_of_a_message_are_left_out():
    messages = [{"role": "user", "content": "a", "weight": 1}, {"role": "assistant", "content": "b", "name": "Nell"}]
    assert make_conversation(messages).as_dicts() == [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
    ]


def test_system_message_may_be_empty():
    assert make_conversation([{"role": "system", "content": ""}, *messages_of("ua")]).messages[0].content == ""


def test_equal_conversations_are_one_in_a_set():
    assert len({make_conversation(messages_of("ua")), make_conversation(messages_of("ua"))}) == 1


@pytest.mark.parametrize(
    ("roles", "reason"),
    [
        ("", "there is no assistant message, so there is nothing to learn from"),
        ("u", "there is no assistant message, so there is nothing to learn from"),
        ("s", "there is no assistant message, so there is nothing to learn from"),
        ("su", "there is no assistant message, so there is nothing to learn from"),
        ("a", "message 1 must come from the user, got 'assistant'"),
        ("sa", "message 2 must come from the user, got 'assistant'"),
        ("uaa", "message 3 must come from the user, got 'assistant'"),
        ("uua", "message 2 must come from the assistant, got 'user'"),
        ("suua", "message 3 must come from the assistant, got 'user'"),
        ("usa", "message 2 must come from the assistant, got 'system'"),
        ("ssua", "message 2 must come from the user, got 'system'"),
        ("uas", "message 3 must come from the user, got 'system'"),
        ("uau", "the last message must come from the assistant, got 'user'"),
        ("suau", "the last message must come from the assistant, got 'user'"),
    ],
)
def test_wrong_order_is_told_with_its_place(roles: str, reason: str):
    with pytest.raises(DataError, match=f"^{re.escape(reason)}$"):
        make_conversation(messages_of(roles))


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("Hello", 'message 2 is not {"role": …, "content": …}'),
        (None, 'message 2 is not {"role": …, "content": …}'),
        ({"role": "assistant"}, 'message 2 is not {"role": …, "content": …}'),
        ({"content": "b"}, 'message 2 is not {"role": …, "content": …}'),
        ({"from": "gpt", "value": "b"}, 'message 2 is not {"role": …, "content": …}'),
        (
            {"role": "gpt", "content": "b"},
            "message 2 has the role 'gpt'; expected one of system, user, assistant",
        ),
        (
            {"role": ["assistant"], "content": "b"},
            "message 2 has the role ['assistant']; expected one of system, user, assistant",
        ),
        (
            {"role": None, "content": "b"},
            "message 2 has the role None; expected one of system, user, assistant",
        ),
        ({"role": "assistant", "content": None}, "message 2 (assistant) has NoneType as content; expected text"),
        ({"role": "assistant", "content": ["b"]}, "message 2 (assistant) has list as content; expected text"),
        ({"role": "system", "content": 3}, "message 2 (system) has int as content; expected text"),
        ({"role": "assistant", "content": ""}, "message 2 (assistant) is empty"),
        ({"role": "user", "content": " \n\t\u00a0"}, "message 2 (user) is empty"),
    ],
)
def test_wrong_message_is_told_with_its_place(message: Any, reason: str):
    with pytest.raises(DataError, match=f"^{re.escape(reason)}$"):
        make_conversation([{"role": "user", "content": "a"}, message])


@pytest.mark.parametrize("role", ["system", "user", "assistant"])
def test_half_of_an_emoji_is_refused(role: str):
    """A text cut inside a surrogate pair can be neither tokenised nor written to `train.jsonl`."""
    messages = [
        message | ({"content": "Hi \ud83d"} if message["role"] == role else {}) for message in messages_of("sua")
    ]
    with pytest.raises(DataError, match=rf"^message \d \({role}\) "):
        make_conversation(messages)
