"""A conversation that can be made can be trained on; one that cannot says which message is wrong."""

from __future__ import annotations

import re
from typing import Any

import pytest

from sft_app.data.conversation import Conversation, make_conversation
from sft_app.data.messages import Message
from sft_app.errors import DataError

NAMES = {"s": "system", "u": "user", "a": "assistant", "t": "tool", "x": "text"}
USER, ANSWER = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo!"}
UNTRAINED = {"role": "assistant", "content": "No.", "weight": 0}


def messages_of(roles: str) -> list[dict[str, str]]:
    """`"sua"` is a system, a user and an assistant message."""
    return [{"role": NAMES[letter], "content": f"text {place}"} for place, letter in enumerate(roles)]


def repaired(messages: list[Any]) -> list[dict[str, Any]]:
    return make_conversation(messages, repair=True).as_dicts()


# order


@pytest.mark.parametrize(
    ("roles", "turns"),
    [("ua", 1), ("sua", 1), ("uaua", 2), ("suauaua", 3), ("uata", 2), ("suatta", 2), ("uataua", 3), ("x", 0)],
)
def test_user_and_assistant_in_turn_make_a_conversation(roles: str, turns: int):
    conversation = make_conversation(messages_of(roles))
    assert conversation.as_dicts() == messages_of(roles)
    assert conversation.assistant_turns() == turns


@pytest.mark.parametrize(
    ("roles", "reason"),
    [
        ("", "it contains no message"),
        ("u", "there is no assistant message, so there is nothing to learn from"),
        ("su", "there is no assistant message, so there is nothing to learn from"),
        ("ut", "there is no assistant message, so there is nothing to learn from"),
        ("xx", "there is no assistant message, so there is nothing to learn from"),
        ("a", "message 1 must come from the user, got 'assistant'"),
        ("ta", "message 1 must come from the user, got 'tool'"),
        ("xa", "message 1 must come from the user, got 'text'"),
        ("sa", "message 2 must come from the user, got 'assistant'"),
        ("atua", "message 2 must come from the user, got 'tool'"),
        ("uta", "message 2 must come from the assistant, got 'tool'"),
        ("uaa", "message 3 must come from the user, got 'assistant'"),
        ("uua", "message 2 must come from the assistant, got 'user'"),
        ("usa", "message 2 must come from the assistant, got 'system'"),
        ("ssua", "message 2 must come from the user, got 'system'"),
        ("uasa", "message 4 must come from the user, got 'assistant'"),
        ("uatua", "message 4 must come from the assistant, got 'user'"),
        ("uax", "message 3 must come from the user, got 'text'"),
        ("uau", "the last message must come from the assistant, got 'user'"),
        ("uat", "the last message must come from the assistant, got 'tool'"),
    ],
)
def test_wrong_order_is_told_with_its_place(roles: str, reason: str):
    with pytest.raises(DataError, match=f"^{re.escape(reason)}$"):
        make_conversation(messages_of(roles))


# one message


@pytest.mark.parametrize(
    ("names", "role"),
    [
        (("system", "developer", "System "), "system"),
        (("user", "human", "prompter", "USER"), "user"),
        (("assistant", "gpt", "chatgpt", "model", "bot"), "assistant"),
        (("tool", "function", "observation", "tool_response"), "tool"),
    ],
)
def test_roles_have_many_names(names: tuple[str, ...], role: str):
    rest = {"system": "ua", "user": "a", "assistant": "", "tool": "a"}[role]
    first = {"system": "", "user": "", "assistant": "u", "tool": "ua"}[role]
    for name in names:
        message = {"from": name, "value": "words"}
        made = make_conversation([*messages_of(first), message, *messages_of(rest)]).messages[len(first)]
        assert made == Message(role, "words")  # type: ignore[arg-type]


def test_text_is_kept_as_it_is_written():
    content = "  Größe \r\n\n\t£5 🌱\u2028 "
    conversation = make_conversation([{"role": "user", "content": content}, {"role": "assistant", "content": content}])
    assert conversation == Conversation((Message("user", content), Message("assistant", content)))


def test_other_keys_of_a_message_are_left_out():
    messages = [{**USER, "weight": 1}, {**ANSWER, "name": "Nell", "weight": None, "tool_calls": None}]
    assert make_conversation(messages).as_dicts() == [USER, ANSWER]


@pytest.mark.parametrize(("role", "before", "after"), [("system", "", "ua"), ("tool", "ua", "a")])
def test_system_and_tool_may_say_nothing(role: str, before: str, after: str):
    messages = [*messages_of(before), {"role": role, "content": ""}, *messages_of(after)]
    assert make_conversation(messages).as_dicts() == messages


def test_equal_conversations_are_one_in_a_set():
    assert len({make_conversation(messages_of("ua")), make_conversation(messages_of("ua"))}) == 1


EXPECTED_ROLES = "expected system, user, assistant or tool"


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("Hello", "message 2 needs a `role` and a `content`"),
        (None, "message 2 needs a `role` and a `content`"),
        ({"role": "assistant"}, "message 2 needs a `role` and a `content`"),
        ({"content": "b"}, "message 2 needs a `role` and a `content`"),
        ({"role": None, "content": "b"}, "message 2 needs a `role` and a `content`"),
        ({"role": "alien", "content": "b"}, f"message 2 has the role 'alien'; {EXPECTED_ROLES}"),
        ({"role": ["assistant"], "content": "b"}, f"message 2 has the role ['assistant']; {EXPECTED_ROLES}"),
        ({"role": "r" * 99, "content": "b"}, f"message 2 has the role 'rrrrrrrrrrrr{'r' * 27}…; {EXPECTED_ROLES}"),
        ({"role": "assistant", "content": None}, "message 2 (assistant) is empty"),
        ({"role": "assistant", "content": ""}, "message 2 (assistant) is empty"),
        ({"role": "assistant", "content": []}, "message 2 (assistant) is empty"),
        ({"role": "user", "content": " \n\t\u00a0"}, "message 2 (user) is empty"),
        ({"role": "system", "content": 3}, "message 2 (system) has a number as content; expected text"),
        ({"role": "assistant", "content": [3]}, "message 2 (assistant) contains a part that is not text"),
        (
            {"role": "assistant", "content": [{"type": "text"}]},
            "message 2 (assistant) contains a part that is not text",
        ),
        ({**ANSWER, "weight": 0.5}, "message 2 (assistant) has weight 0.5; expected 0 or 1"),
        ({**ANSWER, "weight": "0"}, "message 2 (assistant) has weight '0'; expected 0 or 1"),
    ],
)
def test_wrong_message_is_told_with_its_place(message: Any, reason: str):
    with pytest.raises(DataError, match=f"^{re.escape(reason)}$"):
        make_conversation([USER, message])


@pytest.mark.parametrize("role", ["system", "user", "assistant"])
def test_half_of_an_emoji_is_refused(role: str):
    """A text cut inside a surrogate pair can be neither tokenised nor written to `train.jsonl`."""
    messages = [
        message | ({"content": "Hi \ud83d"} if message["role"] == role else {}) for message in messages_of("sua")
    ]
    with pytest.raises(DataError, match=rf"^message \d \({role}\) contains an incomplete character"):
        make_conversation(messages)


# parts


def test_parts_of_text_are_lines():
    parts = [{"type": "text", "text": "One"}, "two", {"text": "three", "image_url": None}]
    assert make_conversation([{"role": "user", "content": parts}, ANSWER]).messages[0].content == "One\ntwo\nthree"


def test_refusal_is_an_answer():
    parts = [{"type": "refusal", "refusal": "I cannot help with that."}]
    made = make_conversation([USER, {"role": "assistant", "content": parts}])
    assert made.answers() == ["I cannot help with that."]


@pytest.mark.parametrize("kind", ["image_url", "input_audio", None, ["text"]])
def test_part_that_is_no_text_is_refused(kind: Any):
    parts = [{"type": "text", "text": "What is this?"}, {"type": kind, "image_url": {"url": "cat.png"}}]
    reason = f"message 1 (user) contains a part of type {kind!r}; only text can be trained on"
    with pytest.raises(DataError, match=f"^{re.escape(reason)}$"):
        make_conversation([{"role": "user", "content": parts}, ANSWER])


# tools

CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Köln"}}\n</tool_call>'
CALLED = {"name": "weather", "arguments": {"city": "Köln"}}
AS_OPENAI = {"name": "weather", "arguments": '{"city": "Köln"}'}


@pytest.mark.parametrize(
    "message",
    [
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function", "function": AS_OPENAI}]},
        {"role": "assistant", "tool_calls": [CALLED]},
        {"role": "assistant", "tool_calls": CALLED},
        {"role": "assistant", "tool_calls": '[{"name": "weather", "arguments": {"city": "Köln"}}]'},
        {"role": "assistant", "content": "", "function_call": AS_OPENAI},
        {"from": "function_call", "value": '{"name": "weather", "arguments": {"city": "Köln"}}'},
        {"from": "function_call", "value": CALL},
    ],
)
def test_every_way_to_write_a_tool_call_is_the_same_text(message: dict[str, Any]):
    turns = [USER, message, {"role": "tool", "content": "12 °C"}, ANSWER]
    assert make_conversation(turns).messages[1] == Message("assistant", CALL)


def test_words_come_before_the_calls_and_every_call_is_kept():
    message = {"role": "assistant", "content": "A moment.", "tool_calls": [{"name": "a"}, {"name": "b"}]}
    assert make_conversation([USER, message]).answers() == [
        'A moment.\n<tool_call>\n{"name": "a"}\n</tool_call>\n<tool_call>\n{"name": "b"}\n</tool_call>'
    ]


@pytest.mark.parametrize("arguments", ["Köln", "{", "[" * 100_000])
def test_arguments_that_are_not_json_stay_text(arguments: str):
    message = {"role": "assistant", "tool_calls": [{"function": {"name": "a", "arguments": arguments}}]}
    [answer] = make_conversation([USER, message]).answers()
    assert answer == f'<tool_call>\n{{"name": "a", "arguments": "{arguments}"}}\n</tool_call>'


# weight


def test_turn_of_weight_0_is_context():
    conversation = make_conversation([USER, UNTRAINED, USER, ANSWER])
    assert [message.trained for message in conversation.messages] == [True, False, True, True]
    assert conversation.answers() == ["Yo!"]
    assert conversation.as_dicts() == [USER, UNTRAINED, USER, ANSWER]


def test_weight_of_others_means_nothing():
    assert make_conversation([{**USER, "weight": 0}, ANSWER]).as_dicts() == [USER, ANSWER]


def test_nothing_but_weight_0_is_refused():
    with pytest.raises(DataError, match="^every assistant message has weight 0, so there is nothing to learn"):
        make_conversation([USER, UNTRAINED, USER, UNTRAINED])


# what it tells of itself


def test_question_is_what_comes_before_the_first_answer():
    conversation = make_conversation(messages_of("suaua"))
    assert conversation.question() == "text 0\ntext 1"
    assert conversation.answers() == ["text 2", "text 4"]
    assert conversation.spoken() == "text 1\ntext 2\ntext 3\ntext 4"
    assert not conversation.is_text()


def test_plain_text_has_no_question_and_is_learnt_whole():
    conversation = make_conversation(messages_of("x"))
    assert (conversation.is_text(), conversation.question(), conversation.answers()) == (True, "", ["text 0"])


# repair


@pytest.mark.parametrize(
    ("roles", "expected"),
    [
        ("auua", [("assistant", "text 0"), ("user", "text 1\n\ntext 2"), ("assistant", "text 3")]),
        (
            "uasuua",
            [(NAMES[role], f"text {n}") for n, role in enumerate("uas")]
            + [("user", "text 3\n\ntext 4"), ("assistant", "text 5")],
        ),
        ("uau", [("user", "text 0"), ("assistant", "text 1")]),
        ("uuaa", [("user", "text 0\n\ntext 1"), ("assistant", "text 2\n\ntext 3")]),
        ("usa", [("system", "text 1"), ("user", "text 0"), ("assistant", "text 2")]),
        ("suas", [("system", "text 0"), ("user", "text 1"), ("assistant", "text 2")]),
        ("tuat", [("user", "text 1"), ("assistant", "text 2")]),
        ("uatu", [("user", "text 0"), ("assistant", "text 1")]),
    ],
)
def test_order_is_repaired(roles: str, expected: list[tuple[str, str]]):
    assert [(turn["role"], turn["content"]) for turn in repaired(messages_of(roles))] == expected


def test_greeting_is_kept_and_not_trained():
    greeting, *others = make_conversation(messages_of("aua")).messages
    assert (greeting.content, greeting.trained, [one.trained for one in others]) == ("text 0", False, [True, True])


def test_system_message_in_the_middle_stays_there():
    assert [one.role for one in make_conversation(messages_of("uasua")).messages][2] == "system"


def test_empty_messages_are_left_out_by_repair():
    empty = {"role": "user", "content": " \n"}
    assert repaired([{"role": "system", "content": ""}, USER, empty, ANSWER, empty, ANSWER]) == [
        USER,
        {"role": "assistant", "content": "Yo!\n\nYo!"},
    ]


def test_repair_keeps_what_a_tool_gave_even_nothing():
    tool = {"role": "tool", "content": ""}
    assert repaired([USER, ANSWER, tool, ANSWER, USER]) == [USER, ANSWER, tool, ANSWER]


def test_repair_trains_no_turn_of_weight_0_with_its_neighbour():
    joined = {"role": "assistant", "content": "No.\n\nYo!", "weight": 0}
    assert repaired([USER, UNTRAINED, ANSWER, USER, ANSWER]) == [USER, joined, USER, ANSWER]


@pytest.mark.parametrize("roles", ["", "u", "a", "su", "uta"])
def test_what_cannot_be_repaired_is_told(roles: str):
    with pytest.raises(DataError, match="message"):
        make_conversation(messages_of(roles), repair=True)


def test_repair_does_not_invent_a_role():
    with pytest.raises(DataError, match="^message 1 has the role 'alien'"):
        make_conversation([{"role": "alien", "content": "Hi"}, *messages_of("ua")], repair=True)
