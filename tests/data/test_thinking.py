"""Models that can think first: training begins where generation starts, with thoughts and without."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import pytest

from sft_app.data.chat_templates import can_think, thinking_variables
from sft_app.data.conversation import Conversation
from sft_app.data.tokens import IGNORED, render_conversation, render_prompt, template_notes, thinking_notes
from tests.chat_styles import CHATML, SMOL_THINKING, THINKING, conversation_of, mark_trained
from tests.conftest import make_character_tokenizer

TEMPLATES = {"qwen3": THINKING, "smollm3": SMOL_THINKING}
PLAIN_ROW = [("user", "Hi"), ("assistant", "Yo!")]
THOUGHT_ROW = [("user", "Hi"), ("assistant", "<think>\nHm.\n</think>\n\nYo!")]


def make_tokenizer(template: str, enable_thinking: bool) -> Any:
    tokenizer = make_character_tokenizer(template)
    tokenizer.enable_thinking = enable_thinking
    return tokenizer


def shipped(name: str) -> str:
    """A model's own template, as TRL ships it."""
    return (files("trl") / "chat_templates" / f"{name}.jinja").read_text()


def marked(tokenizer: Any, conversation: Conversation) -> str:
    rendered = render_conversation(tokenizer, conversation, 10_000)
    return mark_trained(tokenizer, rendered.input_ids, rendered.labels)


@pytest.mark.parametrize(
    ("template", "enable_thinking", "row", "expected"),
    [
        ("qwen3", False, PLAIN_ROW, "<|im_start|>assistant\n<think>\n\n</think>\n\n«Yo!<|im_end|>»\n"),
        ("qwen3", True, PLAIN_ROW, "<|im_start|>assistant\n«<think>\n\n</think>\n\nYo!<|im_end|>»\n"),
        ("qwen3", True, THOUGHT_ROW, "<|im_start|>assistant\n«<think>\nHm.\n</think>\n\nYo!<|im_end|>»\n"),
        ("qwen3", False, THOUGHT_ROW, "<|im_start|>assistant\n«<think>\nHm.\n</think>\n\nYo!<|im_end|>»\n"),
        ("smollm3", False, PLAIN_ROW, "<|im_start|>assistant\n<think>\n\n</think>\n«Yo!<|im_end|>»\n"),
        ("smollm3", True, PLAIN_ROW, "<|im_start|>assistant\n«Yo!<|im_end|>»\n"),
        ("smollm3", False, THOUGHT_ROW, "<|im_start|>assistant\n«<think>\nHm.\n</think>\n\nYo!<|im_end|>»\n"),
    ],
)
def test_what_is_trained_by_hand(template: str, enable_thinking: bool, row: Any, expected: str):
    tokenizer = make_tokenizer(TEMPLATES[template], enable_thinking)
    assert marked(tokenizer, conversation_of(row)).endswith(expected)


@pytest.mark.parametrize("has_thought", [False, True])
@pytest.mark.parametrize("enable_thinking", [False, True])
@pytest.mark.parametrize("template", ["qwen3", "qwen3_5_think", "qwen3_5_nothink", "glm4moe", SMOL_THINKING])
def test_training_begins_where_generation_starts(template: str, enable_thinking: bool, has_thought: bool):
    """A row with a thought begins where a model starts that was asked to think."""
    tokenizer = make_tokenizer(template if template == SMOL_THINKING else shipped(template), enable_thinking)
    conversation = conversation_of(THOUGHT_ROW if has_thought else PLAIN_ROW)
    rendered = render_conversation(tokenizer, conversation, 10_000)
    tokenizer.enable_thinking = enable_thinking or has_thought
    prompt = render_prompt(tokenizer, conversation.as_dicts()[:-1])
    first = next(place for place, label in enumerate(rendered.labels) if label != IGNORED)
    assert (rendered.input_ids[:first], can_think(tokenizer)) == (prompt, True)


TWO_TURNS = [*THOUGHT_ROW, ("user", "Why?"), ("assistant", "<think>\nSo.\n</think>\n\nNo.")]
FIRST_ONLY = [*THOUGHT_ROW, ("user", "Why?"), ("assistant", "No.")]
EARLIER = "The chat template leaves out 1 thought of earlier answers"


@pytest.mark.parametrize(
    ("enable_thinking", "row", "trained", "note"),
    [
        (True, TWO_TURNS, ["<think>\nSo.\n</think>\n\nNo.<|im_end|>"], f"{EARLIER}, so those answers are not trained."),
        (
            False,
            TWO_TURNS,
            ["<think>\nSo.\n</think>\n\nNo.<|im_end|>"],
            f"{EARLIER}, so those answers are not trained.",
        ),
        (True, FIRST_ONLY, ["<think>\n\n</think>\n\nNo.<|im_end|>"], f"{EARLIER}, so those answers are not trained."),
        (False, FIRST_ONLY, ["Yo!<|im_end|>", "No.<|im_end|>"], f"{EARLIER}."),
    ],
)
def test_thoughts_that_the_template_leaves_out_are_noted(enable_thinking: bool, row: Any, trained: Any, note: str):
    tokenizer = make_tokenizer(shipped("qwen3"), enable_thinking)
    rendered = render_conversation(tokenizer, conversation_of(row), 10_000)
    text = mark_trained(tokenizer, rendered.input_ids, rendered.labels)
    assert [part.partition("»")[0] for part in text.split("«")[1:]] == trained
    assert template_notes(tokenizer, rendered)[-1] == note
    says = [text[:21] for text in thinking_notes(tokenizer, conversation_of(row))]
    differ = {(True, "No."): ["Think first is on, but"[:21]], (False, "So."): ["This answer has a thou"[:21]]}
    assert says == differ.get((enable_thinking, "So." if row is TWO_TURNS else "No."), [])


def test_a_template_that_keeps_all_thoughts_trains_all_answers():
    tokenizer = make_tokenizer(CHATML, True)
    rendered = render_conversation(tokenizer, conversation_of(TWO_TURNS), 10_000)
    assert (rendered.lost_thoughts, rendered.untrained_answers, len(rendered.ends)) == (0, 0, 2)
    assert mark_trained(tokenizer, rendered.input_ids, rendered.labels).count("«<think>") == 2


def test_a_thought_of_the_last_answer_that_is_left_out_is_noted():
    template = CHATML.replace("message['content']", "message['content'].split('</think>')[-1]")
    tokenizer = make_tokenizer(template, False)
    rendered = render_conversation(tokenizer, conversation_of(THOUGHT_ROW), 10_000)
    assert (rendered.has_thought, rendered.trained > 0) == (False, True)
    assert template_notes(tokenizer, rendered) == ["The chat template leaves out the thought of the last answer."]


def test_thinking_is_off_unless_it_is_asked_for():
    tokenizer = make_character_tokenizer(THINKING)
    asked = tokenizer.decode(render_prompt(tokenizer, [{"role": "user", "content": "Hi"}]))
    assert asked.endswith("<think>\n\n</think>\n\n")


def test_answers_of_the_model_do_not_turn_thinking_on():
    """In a follow-up question, the answers before it may have thoughts."""
    tokenizer = make_tokenizer(THINKING, False)
    messages = [*conversation_of(THOUGHT_ROW).as_dicts(), {"role": "user", "content": "Why?"}]
    assert tokenizer.decode(render_prompt(tokenizer, messages)).endswith("<think>\n\n</think>\n\n")


@pytest.mark.parametrize(
    ("template", "enable_thinking", "row", "note"),
    [
        (THINKING, False, PLAIN_ROW, None),
        (THINKING, True, THOUGHT_ROW, None),
        (THINKING, False, THOUGHT_ROW, "This answer has a thought, but Think first is off"),
        (THINKING, True, PLAIN_ROW, "Think first is on, but this answer has no thought"),
        (CHATML, False, THOUGHT_ROW, None),
        (CHATML, True, PLAIN_ROW, "The model's chat template cannot turn thinking on or off"),
        (f"{CHATML}{{% if add_generation_prompt %}}<think>{{% endif %}}", False, PLAIN_ROW, "When the model is asked"),
    ],
)
def test_what_does_not_agree_is_noted(template: str, enable_thinking: bool, row: Any, note: str | None):
    notes = thinking_notes(make_tokenizer(template, enable_thinking), conversation_of(row))
    assert (notes == []) if note is None else [text.startswith(note) for text in notes] == [True]


def test_the_variables_of_a_template_are_found_in_its_text():
    assert thinking_variables(SMOL_THINKING) == thinking_variables(shipped("glm4moe")) == ["enable_thinking"]
    assert thinking_variables("{% if thinking %}<think>{% endif %}") == ["thinking"]
    assert thinking_variables(CHATML) == thinking_variables("{% for %}") == []
