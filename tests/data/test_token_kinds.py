"""What is unusual about a conversation is trained as its kind asks: system texts, tools, weights, plain text."""

from __future__ import annotations

import copy
import random
from typing import Any

import pytest

from sft_app.data.conversation import Conversation, make_conversation
from sft_app.data.tokens import IGNORED, RenderedConversation, render_conversation, render_prompt, template_notes
from sft_app.errors import DataError
from tests.chat_styles import CHATML, SEVERAL, SINGLE, STYLES, conversation_of, dress, mark_trained

DROPPING = CHATML.replace("for message in messages", "for message in messages if message['role'] != 'system'")
# As Mistral-7B-Instruct-v0.3: the system text stands before a question that is still open, and nowhere else.
ONLY_WHEN_OPEN = (
    "{% for message in messages if message['role'] != 'system' %}{% if message['role'] == 'user' %}"
    "{{ '<|im_start|>' }}{% if loop.last and messages[0]['role'] == 'system' %}{{ messages[0]['content'] + '\n\n' }}"
    "{% endif %}{{ message['content'] + ' >' }}{% else %}{{ ' ' + message['content'] + eos_token }}"
    "{% endif %}{% endfor %}"
)


def render(tokenizer: Any, turns: list[tuple[str, str]], max_length: int = 10_000) -> RenderedConversation:
    return render_conversation(tokenizer, conversation_of(turns), max_length)


def marked(tokenizer: Any, rendered: RenderedConversation) -> str:
    return mark_trained(tokenizer, rendered.input_ids, rendered.labels)


def ends_of(tokenizer: Any, rendered: RenderedConversation) -> list[tuple[int, str]]:
    return [(place, tokenizer.convert_ids_to_tokens(rendered.input_ids[place])) for place in rendered.ends]


# system messages


def test_system_text_that_the_template_drops_opens_the_first_question(tokenizer: Any):
    rendered = render(dress(tokenizer, DROPPING), [("system", "Be."), *SINGLE])
    assert marked(tokenizer, rendered) == (
        "<|im_start|>user\nBe.\n\nHi<|im_end|>\n<|im_start|>assistant\n«Yo!<|im_end|>»\n"
    )


def test_dropped_system_text_is_kept_when_the_question_holds_the_same_words(tokenizer: Any):
    rendered = render(dress(tokenizer, DROPPING), [("system", "Hi"), ("user", "Hi, you"), ("assistant", "Yo!")])
    assert marked(tokenizer, rendered).startswith("<|im_start|>user\nHi\n\nHi, you<|im_end|>")


def test_dropped_system_text_opens_the_prompt_too(tokenizer: Any):
    dropping = dress(tokenizer, DROPPING)
    prompt = render_prompt(dropping, conversation_of([("system", "Be."), *SINGLE]).as_dicts()[:-1])
    assert prompt == render(dropping, [("system", "Be."), *SINGLE]).input_ids[: len(prompt)]


def test_system_text_that_the_template_shows_only_to_an_open_question_is_trained_with(tokenizer: Any):
    shown, turns = dress(tokenizer, ONLY_WHEN_OPEN), [("system", "Be."), *SINGLE]
    rendered = render(shown, turns)
    prompt = render_prompt(shown, conversation_of(turns).as_dicts()[:-1])
    assert marked(tokenizer, rendered) == "<|im_start|>Be.\n\nHi >« Yo!<|im_end|>»"
    assert rendered.input_ids[: len(prompt)] == prompt


@pytest.mark.parametrize("template", [STYLES["gemma"], DROPPING], ids=["refused", "dropped"])
def test_empty_system_message_leaves_no_trace_where_the_template_has_no_place_for_it(tokenizer: Any, template: Any):
    dressed = dress(tokenizer, template)
    assert render(dressed, [("system", " "), *SEVERAL]) == render(dressed, SEVERAL)


def test_system_message_that_the_template_changes_is_not_written_twice(tokenizer: Any):
    shouting = dress(tokenizer, CHATML.replace("message['content']", "message['content'] | upper"))
    assert marked(tokenizer, render(shouting, [("system", "Be."), *SINGLE])) == (
        "<|im_start|>system\nBE.<|im_end|>\n<|im_start|>user\nHI<|im_end|>\n<|im_start|>assistant\n«YO!<|im_end|>»\n"
    )


# tools and weights


def test_tool_messages_are_context_and_the_calls_are_trained(tokenizer: Any):
    turns = [("user", "2+2?"), ("assistant", "f(2)"), ("tool", "4"), ("tool", "ok"), ("assistant", "Four.")]
    assert marked(tokenizer, render(tokenizer, turns)) == (
        "<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n«f(2)<|im_end|>»\n"
        "<|im_start|>tool\n4<|im_end|>\n<|im_start|>tool\nok<|im_end|>\n<|im_start|>assistant\n«Four.<|im_end|>»\n"
    )


def weighted(weights: dict[int, int]) -> Conversation:
    messages = conversation_of(SEVERAL).as_dicts()
    return make_conversation(
        message | ({"weight": weights[place]} if place in weights else {}) for place, message in enumerate(messages)
    )


@pytest.mark.parametrize("untrained", [1, 3])
def test_turn_of_weight_0_is_read_in_its_place_and_not_trained(tokenizer: Any, untrained: int):
    whole = render(tokenizer, SEVERAL)
    rendered = render_conversation(tokenizer, weighted({untrained: 0}), 10_000)
    text = STYLES["chatml"].several
    part = "«Yo!<|im_end|>»" if untrained == 1 else "«A: b\n\nc<|im_end|>»"
    assert marked(tokenizer, rendered) == text.replace(part, part.strip("«»"), 1)
    assert (rendered.input_ids, rendered.ends) == (whole.input_ids, whole.ends)


def test_weight_1_is_as_no_weight(tokenizer: Any):
    assert render_conversation(tokenizer, weighted({1: 1, 3: 1}), 100) == render(tokenizer, SEVERAL, 100)


def test_untrained_last_turn_gets_no_end_that_the_template_does_not_write(tokenizer: Any):
    plain = dress(tokenizer, STYLES["plain"])
    rendered = render_conversation(plain, weighted({3: 0}), 10_000)
    assert marked(plain, rendered) == "User: Yo!\nAssistant:« Yo!»\nUser: user\nYo!\nAssistant: A: b\n\nc\n"
    assert rendered.ends == ()


# plain text


def text_of(text: str) -> Conversation:
    return make_conversation([{"role": "text", "content": text}])


def test_plain_text_is_trained_whole_with_eos(tokenizer: Any):
    """The first token is context, because nothing comes before it to predict it from."""
    rendered = render_conversation(tokenizer, text_of("Be ok\n"), 100)
    assert marked(tokenizer, rendered) == "B«e ok\n<|im_end|>»"
    assert (rendered.ends, rendered.kept) == ((6,), 7)


def test_plain_text_needs_no_chat_template(tokenizer: Any):
    bare = copy.deepcopy(tokenizer)
    bare.chat_template = None
    assert render_conversation(bare, text_of("Be"), 100) == render_conversation(tokenizer, text_of("Be"), 100)


def test_plain_text_begins_and_ends_as_the_tokenizer_does_it(tokenizer: Any):
    from tokenizers.processors import TemplateProcessing

    llama = dress(tokenizer, STYLES["llama3"])
    specials = [(token, llama.convert_tokens_to_ids(token)) for token in ("<|begin_of_text|>", "<|im_end|>")]
    llama.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|begin_of_text|> $A <|im_end|>", special_tokens=specials
    )
    rendered = render_conversation(llama, text_of("Be"), 100)
    assert marked(llama, rendered) == "<|begin_of_text|>«Be<|im_end|>»"


def test_plain_text_is_cut_like_a_conversation(tokenizer: Any):
    rendered = render_conversation(tokenizer, text_of("abcdef"), 4)
    assert (rendered.kept, rendered.trained, rendered.trained_lost) == (4, 3, 3)


def test_random_plain_texts_lose_nothing(tokenizer: Any):
    chance = random.Random(3)
    for _ in range(50):
        text = "".join(chance.choices("ab \n£{}<|é", k=chance.randint(1, 60))).strip() or "?"
        assert marked(tokenizer, render_conversation(tokenizer, text_of(text), 999)) == (
            f"{text[0]}«{text[1:]}<|im_end|>»"
        )


# ends and notes


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("chatml", ["<|im_end|>", "<|im_end|>"]),
        ("llama3", ["<|eot_id|>", "<|eot_id|>"]),
        ("gemma", ["<end_of_turn>", "<end_of_turn>"]),
        ("mistral", ["</s>", "</s>"]),
        ("phi", ["<|end|>", "<|end|>"]),
        ("qwen3", ["<|im_end|>", "<|im_end|>"]),
        ("plain", ["<|im_end|>"]),  # the one that the template does not write
    ],
)
def test_ends_are_the_last_trained_tokens_of_the_answers(tokenizer: Any, name: str, expected: list[str]):
    dressed = dress(tokenizer, STYLES[name])
    rendered = render(dressed, SEVERAL)
    assert [token for _, token in ends_of(dressed, rendered)] == expected
    assert all(rendered.labels[place] == rendered.input_ids[place] for place in rendered.ends)
    assert all((*rendered.labels, IGNORED)[place + 1] == IGNORED for place in rendered.ends)


def test_ends_by_hand(tokenizer: Any):
    rendered = render_conversation(tokenizer, weighted({1: 0}), 10_000)
    first = len("SuserNYo!ENSassistantNYo!")  # S, E and N stand for start, end and newline
    second = first + len("ENSuserNuserNYo!ENSassistantNA: bNNc")
    assert ends_of(tokenizer, rendered) == [(first, "<|im_end|>"), (second, "<|im_end|>")]


def test_ordinary_tokenizer_has_no_notes(tokenizer: Any):
    assert template_notes(tokenizer, render(tokenizer, SINGLE)) == []
    llama = dress(tokenizer, STYLES["llama3"])
    assert template_notes(llama, render(llama, SINGLE)) == []


def test_begin_of_text_that_is_written_twice_is_noted(tokenizer: Any):
    llama = dress(tokenizer, STYLES["llama3"])
    llama.chat_template = "{{ bos_token }}" + llama.chat_template
    assert template_notes(llama, render(llama, SINGLE)) == [
        "The text begins with <|begin_of_text|> twice: both the chat template and the tokenizer add it."
    ]


def test_padding_with_the_end_of_turn_is_noted_and_does_no_harm(tokenizer: Any):
    padded = copy.deepcopy(tokenizer)
    padded.pad_token = "<|im_end|>"
    rendered = render(padded, SINGLE)
    [note] = template_notes(padded, rendered)
    assert note.startswith("The model pads with the token that ends an answer (<|im_end|>).")
    assert rendered == render(tokenizer, SINGLE)


def test_answer_without_an_end_is_noted(tokenizer: Any):
    plain = dress(tokenizer, STYLES["plain"])
    unended = render_conversation(plain, weighted({3: 0}), 10_000)
    assert template_notes(plain, unended) == ["The chat template does not end answers with a special token."]


def test_tool_message_that_the_template_refuses_is_told(tokenizer: Any):
    with pytest.raises(DataError, match="chat template rejects the conversation: Conversation roles must alternate"):
        render(dress(tokenizer, STYLES["gemma"]), [*SINGLE, ("tool", "4"), ("assistant", "Four.")])
