"""Exactly the assistant's turns are trained, whatever the chat template.

The expected texts are written by hand, with «» around what is trained; every character is one token.
"""

from __future__ import annotations

import copy
import json
import random
import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from sft_app.data.tokens import (
    IGNORED,
    RenderedConversation,
    render_conversation,
    render_prompt,
    special_ids,
    stop_ids,
    training_rows,
)
from sft_app.errors import DataError
from sft_app.models.catalog import ModelRef
from sft_app.models.loading import load_tokenizer
from tests import chat_styles
from tests.chat_styles import CHATML, GEMMA, MISTRAL, PLAIN, QWEN3, SINGLE, STYLES, SYSTEM, Style, conversation_of
from tests.conftest import make_character_tokenizer

CHARACTERS = [chr(code) for code in range(32, 127)] + ["\n", "é", "£"]
each_case = pytest.mark.parametrize(
    ("style", "turns", "expected"),
    [
        pytest.param(style, turns, expected, id=f"{name}-{case}")
        for name, case, style, turns, expected in chat_styles.CASES
    ],
)


@pytest.fixture
def dress(tokenizer: Any) -> Callable[..., Any]:
    return partial(chat_styles.dress, tokenizer)


def ids_of(tokenizer: Any, text: str) -> list[int]:
    """Looked up one by one: a whole special token, else a character."""
    vocabulary = tokenizer.get_vocab()
    specials = sorted((token for token in vocabulary if len(token) > 1), key=len, reverse=True)
    return [vocabulary[piece] for piece in re.findall("|".join(map(re.escape, specials)) + r"|[\s\S]", text)]


def text_of(tokenizer: Any, ids: list[int]) -> str:
    token_of = {id: token for token, id in tokenizer.get_vocab().items()}
    return "".join(token_of[id] for id in ids)


def as_taken(style: Style, turns: list[tuple[str, str]]) -> list[dict[str, Any]]:
    """Gemma's template takes no system message: its text opens the first question."""
    folded = [("user", "Be.\n\nYo!"), *turns[2:]] if style.template is GEMMA and turns == SYSTEM else turns
    return conversation_of(folded).as_dicts()


def render(tokenizer: Any, turns: list[tuple[str, str]], max_length: int = 10_000) -> RenderedConversation:
    return render_conversation(tokenizer, conversation_of(turns), max_length)


def trained_parts(rendered: RenderedConversation) -> list[list[int]]:
    """The stretches of ids that are trained, in order; a label is the id itself or IGNORED, nothing else."""
    parts: list[list[int]] = [[]]
    for id, label in zip(rendered.input_ids, rendered.labels, strict=True):
        assert label in (id, IGNORED)
        if label != IGNORED:
            parts[-1].append(id)
        elif parts[-1]:
            parts.append([])
    return [part for part in parts if part]


def trained_texts(tokenizer: Any, rendered: RenderedConversation) -> list[str]:
    return [text_of(tokenizer, part) for part in trained_parts(rendered)]


# by hand


def test_ids_and_labels_by_hand(tokenizer: Any):
    """<|im_start|> is 1, <|im_end|> 2, a newline 99; any other character is its code less 28."""
    x = IGNORED
    assert render(tokenizer, SINGLE, 100) == RenderedConversation(
        input_ids=[1, 89, 87, 73, 86, 99, 44, 77, 2, 99, 1, 69, 87, 87, 77, 87, 88, 69, 82, 88, 99, 61, 83, 5, 2, 99],
        labels=[x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, 61, 83, 5, 2, x],
        kept=26,
        ends=(24,),
        is_chat=True,
    )


@each_case
def test_assistant_turns_with_their_end_are_trained_and_nothing_else(
    dress: Callable[..., Any], style: Style, turns: list[tuple[str, str]], expected: str
):
    tokenizer = dress(style)
    rendered = render(tokenizer, turns)
    assert text_of(tokenizer, rendered.input_ids) == re.sub("[«»]", "", expected)
    assert rendered.input_ids == ids_of(tokenizer, re.sub("[«»]", "", expected))
    assert trained_texts(tokenizer, rendered) == re.findall("«(.*?)»", expected, re.DOTALL)
    assert (rendered.kept, rendered.trained_lost, rendered.is_cut) == (len(rendered.input_ids), 0, False)
    assert rendered.trained == sum(len(part) for part in trained_parts(rendered))


@each_case
def test_ids_are_the_chat_templates_own(
    dress: Callable[..., Any], style: Style, turns: list[tuple[str, str]], expected: str
):
    tokenizer = dress(style)
    own = tokenizer.apply_chat_template(as_taken(style, turns), tokenize=True)["input_ids"]
    if style.template is PLAIN:  # its last newline gives way to the EOS it does not write
        own = [*own[:-1], tokenizer.eos_token_id]
    assert render(tokenizer, turns).input_ids == own


@each_case
def test_last_turn_is_trained_from_where_its_prompt_ends(
    dress: Callable[..., Any], style: Style, turns: list[tuple[str, str]], expected: str
):
    tokenizer, question = dress(style), as_taken(style, turns)[:-1]
    prompt = render_prompt(tokenizer, conversation_of(turns).as_dicts()[:-1])
    assert prompt == tokenizer.apply_chat_template(question, tokenize=True, add_generation_prompt=True)["input_ids"]
    rendered = render(tokenizer, turns)
    assert rendered.input_ids[: len(prompt)] == prompt
    answer = trained_parts(rendered)[-1]
    assert rendered.labels[len(prompt) : len(prompt) + len(answer)] == answer


# at random


def random_text(chance: random.Random) -> str:
    """Characters and pieces that look like a template's own; no white space at the ends, no whole special token."""
    pieces = [*CHARACTERS, "assistant", "\nuser\n", "<|im_", "_end|>", "[INST", "Assistant:", "User: ", "{{ ", "<think"]
    return "".join(chance.choices(pieces, k=chance.randint(1, 30))).strip() or "?"


def random_turns(chance: random.Random, with_system: bool) -> list[tuple[str, str]]:
    turns = [(role, random_text(chance)) for _ in range(chance.randint(1, 3)) for role in ("user", "assistant")]
    return [("system", random_text(chance)), *turns] if with_system else turns


@pytest.mark.parametrize("style", STYLES.values(), ids=STYLES)
def test_random_conversations_are_trained_on_their_answers(dress: Callable[..., Any], style: Style):
    tokenizer, chance = dress(style), random.Random(20261122)
    before = " " if style.template in (MISTRAL, PLAIN) else ""
    for round in range(25):
        turns = random_turns(chance, with_system=bool(style.system) and round % 2 == 0)
        rendered = render(tokenizer, turns, max_length=chance.randint(1, 300))
        expected = [before + content + style.ending for role, content in turns if role == "assistant"]
        if style.template is QWEN3:
            expected[-1] = "<think>\n\n</think>\n\n" + expected[-1]
        if style.template is PLAIN:
            expected[-1] += style.eos
        assert trained_texts(tokenizer, rendered) == expected
        assert rendered.trained + rendered.trained_lost == sum(map(len, trained_parts(rendered)))


# tokens of several characters, characters of several tokens


@pytest.fixture(params=[True, False], ids=["trimmed-offsets", "whole-offsets"])
def byte_tokenizer(request: pytest.FixtureRequest) -> Any:
    """Byte-level BPE as GPT-2 and Llama 3 (offsets without white space) and Qwen (with it) have."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.post_processor = processors.ByteLevel(trim_offsets=request.param)
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(["Where is my order?\n\nIt is on its  way, assistant.\nuser system é"] * 9, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|im_end|>")
    tokenizer.chat_template = CHATML
    return tokenizer


ANSWERS = ["It is.", "\n\nIt is", " It", "  It", "\tIt", "It is  \n\n", "It\n\n\n  is", "🌱", "漢字 é 🌱\n", "It\r\nis"]


@pytest.mark.parametrize("answer", ANSWERS)
def test_answer_is_trained_whole_when_tokens_are_not_characters(byte_tokenizer: Any, answer: str):
    rendered = render(byte_tokenizer, [("user", "Where?  🌱"), ("assistant", answer)])
    assert [byte_tokenizer.decode(part) for part in trained_parts(rendered)] == [answer + "<|im_end|>"]


@pytest.mark.parametrize("gap", ["\n", " ", "\n\n", "  "])
def test_gap_between_prompt_and_answer_is_trained_when_the_model_has_to_write_it(byte_tokenizer: Any, gap: str):
    byte_tokenizer.chat_template = (
        "{% for message in messages %}{{ message['role'] + ':" + gap + "' + message['content'] + '<|im_end|>' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"
    )
    rendered = render(byte_tokenizer, SINGLE)
    assert [byte_tokenizer.decode(part) for part in trained_parts(rendered)] == [gap + "Yo!<|im_end|>"]


def test_random_answers_are_trained_whole_when_tokens_are_not_characters(byte_tokenizer: Any):
    chance = random.Random(7)
    pieces = ["It", " is", "\n", "  ", "🌱", "é", "漢", "order", "?", "assistant", "\nuser\n", "\u200d", "\r\n", "\x00"]
    for _ in range(100):
        question = "".join(chance.choices(pieces, k=9)) + "?"
        answers = ["!" + "".join(chance.choices(pieces, k=chance.randint(0, 12))) for _ in range(2)]
        rendered = render(
            byte_tokenizer, [turn for text in answers for turn in [("user", question), ("assistant", text)]]
        )
        trained = [byte_tokenizer.decode(part) for part in trained_parts(rendered)]
        assert trained == [answer + "<|im_end|>" for answer in answers]


# thinking


THOUGHT = "<think>\nWhy?\n</think>\n\nYo!"


def test_thought_of_an_earlier_turn_is_not_trained_when_the_template_drops_it(dress: Callable[..., Any]):
    tokenizer = dress(STYLES["qwen3"])
    rendered = render(tokenizer, [("user", "Hi"), ("assistant", THOUGHT), ("user", "And?"), ("assistant", "So.")])
    assert trained_texts(tokenizer, rendered) == ["Yo!<|im_end|>", "<think>\n\n</think>\n\nSo.<|im_end|>"]


def test_thought_of_the_last_turn_is_trained(dress: Callable[..., Any]):
    tokenizer = dress(STYLES["qwen3"])
    rendered = render(tokenizer, [("user", "Hi"), ("assistant", THOUGHT)])
    assert trained_texts(tokenizer, rendered) == ["<think>\nWhy?\n</think>\n\nYo!<|im_end|>"]


def test_thought_is_text_to_a_template_that_knows_none(tokenizer: Any):
    rendered = render(tokenizer, [("user", "Hi"), ("assistant", THOUGHT)])
    assert trained_texts(tokenizer, rendered) == [THOUGHT + "<|im_end|>"]


# odd templates and texts


@pytest.mark.parametrize(("name", "expected"), [("llama3", "Yo!<|eot_id|>"), ("gemma", "Yo!<end_of_turn>")])
def test_white_space_that_the_template_trims_is_not_trained(dress: Callable[..., Any], name: str, expected: str):
    tokenizer = dress(STYLES[name])
    rendered = render(tokenizer, [("user", " Hi "), ("assistant", "\n Yo! \n")])
    assert trained_texts(tokenizer, rendered) == [expected]


def test_white_space_that_the_template_puts_before_the_end_of_turn_is_trained(dress: Callable[..., Any]):
    tokenizer = dress(CHATML.replace("+ '<|im_end|>\n'", "+ '\n <|im_end|>\n'"))
    assert trained_texts(tokenizer, render(tokenizer, SINGLE)) == ["Yo!\n <|im_end|>"]


def test_special_token_after_other_text_does_not_end_the_turn(dress: Callable[..., Any]):
    template = "{% for message in messages %}{{ message['role'] + ': ' + message['content'] + ' | ' }}{% endfor %}"
    tokenizer = dress(template + "{{ eos_token }}")
    rendered = render(tokenizer, SINGLE)
    assert text_of(tokenizer, rendered.input_ids) == "user: Hi | assistant: Yo!<|im_end|>"
    assert trained_texts(tokenizer, rendered) == ["Yo!<|im_end|>"]


def test_answer_is_found_where_the_prompt_is_no_prefix_of_the_conversation(dress: Callable[..., Any]):
    """A template may write something before a question only as long as it is open."""
    template = (
        "{% for message in messages %}{% if message['role'] == 'user' %}"
        "{{ '<|im_start|>' + ('Now: ' if loop.last else '') + message['content'] + ' >' }}"
        "{% else %}{{ ' ' + message['content'] + eos_token }}{% endif %}{% endfor %}"
    )
    tokenizer = dress(template)
    rendered = render(tokenizer, SINGLE)
    prompt = render_prompt(tokenizer, conversation_of(SINGLE).as_dicts()[:-1])
    assert text_of(tokenizer, prompt) == "<|im_start|>Now: Hi >"
    assert text_of(tokenizer, rendered.input_ids) == "<|im_start|>Hi > Yo!<|im_end|>"
    assert trained_texts(tokenizer, rendered) == ["Yo!<|im_end|>"]


def test_template_that_changes_the_text_is_trained_as_the_model_reads_it(dress: Callable[..., Any]):
    tokenizer = dress(CHATML.replace("message['content']", "message['content'] | upper"))
    assert trained_texts(tokenizer, render(tokenizer, SINGLE)) == ["YO!<|im_end|>"]


def test_begin_of_text_is_written_once_when_the_tokenizer_adds_one_too(dress: Callable[..., Any]):
    from tokenizers.processors import TemplateProcessing

    tokenizer = dress(STYLES["llama3"])
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", tokenizer.bos_token_id)]
    )
    assert tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id
    assert render(tokenizer, SINGLE).input_ids.count(tokenizer.bos_token_id) == 1
    assert render_prompt(tokenizer, [{"role": "user", "content": "Hi"}]).count(tokenizer.bos_token_id) == 1


@pytest.mark.parametrize("role", ["user", "assistant"])
def test_control_character_in_a_message_is_no_obstacle(tokenizer: Any, role: str):
    contents = {"user": "Hi", "assistant": "Yo!", role: "a\x01b"}
    rendered = render(tokenizer, [*contents.items(), *SINGLE])
    assert [len(part) for part in trained_parts(rendered)] == [4, 4]


# cutting


@pytest.mark.parametrize(
    ("max_length", "kept", "trained", "lost"),
    [(27, 26, 4, 0), (26, 26, 4, 0), (25, 25, 4, 0), (24, 24, 3, 1), (22, 22, 1, 3), (21, 21, 0, 4), (1, 1, 0, 4)],
)
def test_what_is_over_max_length_is_cut_and_counted(
    tokenizer: Any, max_length: int, kept: int, trained: int, lost: int
):
    rendered = render(tokenizer, SINGLE, max_length)
    assert (rendered.kept, rendered.trained, rendered.trained_lost) == (kept, trained, lost)
    assert rendered.is_cut == (kept < 26)
    assert len(rendered.input_ids) == len(rendered.labels) == 26
    row = rendered.as_training_row()
    assert row == {"input_ids": rendered.input_ids[:kept], "labels": rendered.labels[:kept]}


def test_appended_end_counts_towards_max_length(dress: Callable[..., Any]):
    rendered = render(dress(STYLES["plain"]), SINGLE, max_length=len("User: Hi\nAssistant: Yo!"))
    assert (rendered.trained, rendered.trained_lost, rendered.is_cut) == (4, 1, True)


def test_conversation_without_a_trained_token_left_is_no_training_row(tokenizer: Any):
    rendered = [render(tokenizer, SINGLE, max_length) for max_length in (26, 21, 22)]
    assert [len(row["input_ids"]) for row in training_rows(rendered)] == [26, 22]


# ends and specials


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("chatml", {"<|im_end|>"}),
        ("llama3", {"<|im_end|>", "<|eot_id|>"}),
        ("gemma", {"<eos>", "<end_of_turn>"}),
        ("mistral", {"</s>"}),
        ("phi", {"<|endoftext|>", "<|end|>"}),
        ("qwen3", {"<|im_end|>"}),
        ("plain", {"<|im_end|>"}),
    ],
)
def test_answer_ends_with_eos_or_the_templates_end_of_turn(dress: Callable[..., Any], name: str, expected: set[str]):
    tokenizer = dress(STYLES[name])
    assert stop_ids(tokenizer) == set(tokenizer.convert_tokens_to_ids(list(expected)))


def test_an_answer_also_ends_with_what_closes_a_turn_in_the_middle() -> None:
    """GLM's template closes a turn with the role that follows, so the model was trained to write that."""
    template = (
        "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
    )
    tokenizer = make_character_tokenizer(template, ["<|user|>", "<|assistant|>"])
    assert stop_ids(tokenizer) == set(tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|user|>"]))


def test_an_answer_ends_with_what_the_generation_config_names(tiny_model_dir: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_model_dir, tmp_path / "model")
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 7]}))
    tokenizer = load_tokenizer(ModelRef("model", str(folder), None, "local folder"), tmp_path)
    assert stop_ids(tokenizer) == {2, 7}


def test_special_ids_are_the_structure_and_not_the_text(tokenizer: Any):
    assert special_ids(tokenizer) == {0, 1, 2, 3}


# refusals


def test_refusal_of_the_template_is_told_in_its_words(dress: Callable[..., Any]):
    """Gemma's takes questions and answers in turn, so no message of a tool."""
    tokenizer = dress(STYLES["gemma"])
    called = [("user", "Hi"), ("assistant", "f()"), ("tool", "1"), ("assistant", "Yo!")]
    with pytest.raises(DataError, match=r"chat template rejects the conversation: Conversation roles must alternate"):
        render(tokenizer, called)
    with pytest.raises(DataError, match=r"chat template rejects the conversation: System role not supported\.$"):
        render_prompt(tokenizer, [{"role": "system", "content": "Be."}])


def test_broken_template_is_told(dress: Callable[..., Any]):
    with pytest.raises(DataError, match=r"^The chat template is not valid Jinja: .* \(line 1\)\.$"):
        render(dress("{% for message in %}"), SINGLE)
    with pytest.raises(DataError, match=r"^The chat template fails: TypeError: "):
        render(dress("{{ messages + 1 }}"), SINGLE)


@pytest.mark.parametrize("template", [None, ""])
def test_model_without_a_chat_template_is_told(tokenizer: Any, template: str | None):
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.chat_template = template
    with pytest.raises(DataError, match=r"no chat template: .*set chat_template to chatml .*or choose a chat"):
        render(tokenizer, SINGLE)


@pytest.mark.parametrize(
    "template",
    [
        "{% for message in messages if message['role'] == 'user' %}{{ message['content'] }}{% endfor %}",
        "{% for message in messages %}{{ message['content'] + message['content'] }}{% endfor %}",
        "{% for message in messages %}{{ message['content'] | length }}{% endfor %}",
    ],
    ids=["dropped", "twice", "length"],
)
def test_template_that_hides_the_answer_is_told(dress: Callable[..., Any], template: str):
    with pytest.raises(DataError, match=r"changes the text of message 2 \(assistant\)"):
        render(dress(template), SINGLE)


def test_tokenizer_without_offsets_is_told():
    from transformers import ByT5Tokenizer

    tokenizer = ByT5Tokenizer()
    tokenizer.chat_template = CHATML
    with pytest.raises(DataError, match="does not report which characters its tokens stand for"):
        render(tokenizer, SINGLE)
