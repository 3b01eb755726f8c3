"""Lists of turns of every shape become messages."""

from __future__ import annotations

from typing import Any

import pytest

from sft_app.data.conversation import make_conversation
from sft_app.data.formats.converters.turn_shapes import SHAPES, find_shape, shaped_messages

CHAT = [("user", "Hi"), ("assistant", "Yo!")]


def turns(value: Any) -> list[tuple[str, str]]:
    return [(one.role, one.content) for one in make_conversation(shaped_messages(value)).messages]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_example_has_its_shape(shape: Any) -> None:
    assert find_shape(shape.example) is shape


@pytest.mark.parametrize(
    "value",
    [
        [{"speaker": "customer", "text": "Hi"}, {"speaker": "agent", "text": "Yo!"}],
        [{"role": "user", "parts": [{"text": "Hi"}]}, {"role": "model", "parts": [{"text": "Yo!"}]}],
        [{"type": "human", "data": {"content": "Hi"}}, {"type": "ai", "data": {"content": "Yo!"}}],
        [{"human": "Hi", "assistant": "Yo!"}],
        {"turn_1": {"Human": "<|Human|>: Hi<eoh>\n", "MOSS": "<|MOSS|>: Yo!<eom>\n"}},
        [["Hi", "Yo!"]],
        ["Hi", "Yo!"],
        "[{'role': 'user', 'content': 'Hi'}, {'role': 'assistant', 'content': 'Yo!'}]",
        {
            "r": {"message": None, "parent": None},
            "q": {"message": {"author": {"role": "user"}, "content": {"parts": ["Hi"]}}, "parent": "r"},
            "a": {"message": {"author": {"role": "assistant"}, "content": {"parts": ["Yo!"]}}, "parent": "q"},
        },
    ],
)
def test_every_shape_becomes_the_same_chat(value: Any) -> None:
    assert turns(value) == CHAT


def test_reasoning_stands_before_the_answer_in_think_tags() -> None:
    parts = [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "Yo!"}]
    for answer in ({"content": "Yo!", "reasoning_content": "Hm."}, {"content": parts}):
        said = turns([{"role": "user", "content": "Hi"}, {"role": "assistant", **answer}])[1]
        assert said == ("assistant", "<think>\nHm.\n</think>\n\nYo!")


def test_calls_and_results_of_anthropic_are_turns_of_their_own() -> None:
    call = {"type": "tool_use", "id": "1", "name": "f", "input": {"q": 1}}
    result = {"type": "tool_result", "tool_use_id": "1", "content": "12"}
    value = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": [{"type": "text", "text": "Let me see."}, call]},
        {"role": "user", "content": [result]},
        {"role": "assistant", "content": "Yo!"},
    ]
    text = 'Let me see.\n<tool_call>\n{"name": "f", "arguments": {"q": 1}}\n</tool_call>'
    assert turns(value) == [("user", "Hi"), ("assistant", text), ("tool", "12"), ("assistant", "Yo!")]


def test_nested_replies_of_librechat_are_followed_to_the_last() -> None:
    answers = [{"sender": "GPT-4", "isCreatedByUser": False, "text": text, "children": []} for text in ("old", "new")]
    asked = [{"sender": "User", "isCreatedByUser": True, "text": "q", "children": answers}]
    assert [(turn["role"], turn["text"]) for turn in shaped_messages(asked)] == [("user", "q"), ("assistant", "new")]
