"""Training examples in front of a question: the nearest, never a copy of it, and only as many as fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sft_app.data.conversation import Conversation, make_conversation
from sft_app.data.tokens import IGNORED, render_conversation, render_last_prompt
from sft_app.evaluation.sides.examples import NearestExamples, as_example, last_turn_only, with_examples

PAIRS = [
    ("Where is my order?", "On its way to you."),
    ("Do you ship to Spain?", "Yes, in five days."),
    ("How do I return shoes that are too small?", "With the label in the box."),
    ("Can I pay by invoice?", "Only companies can."),
]


def chat(*turns: str, system: str = "") -> Conversation:
    roles = ("user", "assistant")
    messages = [{"role": roles[at % 2], "content": text} for at, text in enumerate(turns)]
    return make_conversation([{"role": "system", "content": system}, *messages] if system else messages)


@pytest.fixture
def train(tmp_path: Path) -> Path:
    file = tmp_path / "train.jsonl"
    rows = [{"messages": [{"role": "text", "content": "Plain text about shoes."}]}]
    rows += [{"messages": chat(*pair, system="Be brief.").as_structured()} for pair in PAIRS]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_the_nearest_are_found_and_carry_no_system_prompt(train: Path) -> None:
    index = NearestExamples(train)
    assert len(index) == 4
    ((first, second),) = index.find([chat("Returning small shoes", "?")], 2)
    assert [message.content for message in first.messages] == list(PAIRS[2])
    assert [message.trained for message in first.messages if message.role == "assistant"] == [False]
    assert second != first
    assert index.find([chat("shoes", "?")], 0) == [[]]


def test_a_copy_of_the_question_is_never_an_example(train: Path) -> None:
    asked = [chat("Do you ship to Spain?", "We do, of course."), chat("Shipping to Spain?", "Yes.")]
    copied, other = NearestExamples(train).find(asked, 4)
    assert all(example.first_user_text() != PAIRS[1][0] for example in copied)
    assert other[0].first_user_text() == PAIRS[1][0]


def test_a_near_duplicate_is_never_an_example(tmp_path: Path) -> None:
    words = " ".join(f"word{number}" for number in range(60))
    file = tmp_path / "train.jsonl"
    rows = [chat(f"{words} please", "Yes, we do that."), chat("word1 word2 is something else", "No.")]
    file.write_text("".join(json.dumps({"messages": row.as_structured()}) + "\n" for row in rows))
    (found,) = NearestExamples(file).find([chat(f"{words} thanks", "Yes, we do that.")], 3)
    assert [example.first_user_text() for example in found] == ["word1 word2 is something else"]


def test_examples_are_context_and_the_nearest_is_next_to_the_question(tokenizer: Any) -> None:
    examples = [as_example(chat(*pair)) for pair in PAIRS[:2]]
    made = with_examples(tokenizer, chat("Hi?", "Ho!"), [one for one in examples if one], "Be kind.", 10_000)
    assert made.examples == 2
    assert [message.content for message in made.conversation.messages] == [
        "Be kind.",
        *PAIRS[1],
        *PAIRS[0],
        "Hi?",
        "Ho!",
    ]
    rendered = render_conversation(tokenizer, made.conversation, 10_000)
    trained = tokenizer.decode([label for label in rendered.labels if label != IGNORED])
    assert trained == "Ho!<|im_end|>"
    prompt = tokenizer.decode(render_last_prompt(tokenizer, made.conversation))
    assert prompt.endswith("<|im_start|>user\nHi?<|im_end|>\n<|im_start|>assistant\n")


def test_the_farthest_are_left_out_until_the_prompt_fits(tokenizer: Any) -> None:
    examples = [example for pair in PAIRS if (example := as_example(chat(*pair)))]
    room = len(render_last_prompt(tokenizer, chat("Hi?", "Ho!"))) + 150
    made = with_examples(tokenizer, chat("Hi?", "Ho!"), examples, "", room)
    assert 0 < made.examples < 4 and len(render_last_prompt(tokenizer, made.conversation)) <= room
    assert made.conversation.first_user_text() == PAIRS[made.examples - 1][0]
    assert with_examples(tokenizer, chat("Hi?", "Ho!"), examples, "", 3).examples == 0


def test_the_conversation_keeps_its_own_system_prompt_greeting_and_turns(tokenizer: Any) -> None:
    asked = make_conversation(
        [
            {"role": "system", "content": "Own."},
            {"role": "assistant", "content": "Hello!"},
            {"role": "user", "content": "One?"},
            {"role": "assistant", "content": "1"},
            {"role": "user", "content": "Two?"},
            {"role": "assistant", "content": "2"},
        ]
    )
    example = as_example(chat(*PAIRS[0]))
    assert example is not None
    made = with_examples(tokenizer, asked, [example], "Given.", 10_000).conversation
    assert [message.content for message in made.messages] == ["Own.", "Hello!", *PAIRS[0], "One?", "1", "Two?", "2"]
    assert [message.trained for message in made.messages if message.role == "assistant"] == [False, False, False, True]
    assert [message.trained for message in last_turn_only(asked).messages][-3:] == [False, True, True]
