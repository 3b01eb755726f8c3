"""Chat templates as well-known models have them, with three conversations as each writes them, by hand."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

from sft_app.data.conversation import Conversation, make_conversation
from sft_app.data.tokens import IGNORED

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA3 = (
    "{% for message in messages %}{{ bos_token if loop.first }}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
GEMMA = (
    "{{ bos_token }}"
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate') }}{% endif %}"
    "{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\n' }}"
    "{{ message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] + '\n\n' %}"
    "{% set turns = messages[1:] %}{% else %}{% set system = '' %}{% set turns = messages %}{% endif %}"
    "{% for message in turns %}{% if message['role'] == 'user' %}"
    "{{ '[INST] ' + (system if loop.first else '') + message['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + message['content'] | trim + eos_token }}{% endif %}{% endfor %}"
)
PHI = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>\n' + message['content'] + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)
QWEN3 = (
    "{% set ns = namespace(last=0) %}{% for message in messages %}"
    "{% if message['role'] == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"
    "{% for message in messages %}{% set content = message['content'] %}{% set thought = '' %}"
    "{% if message['role'] == 'assistant' and '</think>' in content %}"
    "{% set thought = content.split('</think>')[0].split('<think>')[-1].strip('\n') %}"
    "{% set content = content.split('</think>')[-1].lstrip('\n') %}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' and loop.index0 > ns.last %}"
    "{{ '<think>\n' + thought + '\n</think>\n\n' }}{% endif %}{{ content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# As Qwen3: thinks unless told not to; then the prompt ends with an empty thought. The last answer always has one.
THINKING = (
    "{% for message in messages %}{% set content = message.content %}{% set thought = '' %}"
    "{% if message.role == 'assistant' and '</think>' in content %}"
    "{% set thought = content.split('</think>')[0].split('<think>')[-1].strip('\n') %}"
    "{% set content = content.split('</think>')[-1].lstrip('\n') %}{% endif %}"
    "{{ '<|im_start|>' + message.role + '\n' }}"
    "{% if message.role == 'assistant' and loop.last %}{{ '<think>\n' + thought + '\n</think>\n\n' }}{% endif %}"
    "{{ content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and not enable_thinking %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
)
# As SmolLM3: the system message says whether to think, and with thinking off every answer has an empty thought.
SMOL_THINKING = (
    "{% if enable_thinking is not defined %}{% set enable_thinking = true %}{% endif %}"
    "{% set empty = '' if enable_thinking else '<think>\n\n</think>\n' %}"
    "{{ '<|im_start|>system\n' + ('/think' if enable_thinking else '/no_think') + '<|im_end|>\n' }}"
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' }}"
    "{{ (empty if message.role == 'assistant' else '') + message.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' + empty }}{% endif %}"
)
PLAIN = (
    "{% for message in messages %}{{ message['role'] | capitalize + ': ' + message['content'] + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)


@dataclass(frozen=True)
class Style:
    """A chat template with its special tokens; `single`, `several`, `system` are SINGLE, SEVERAL and SYSTEM as it
    writes them, with «» around what is trained; `ending` is what closes every turn."""

    template: str
    single: str
    several: str
    system: str
    specials: tuple[str, ...] = ()
    bos: str | None = None
    eos: str = "<|im_end|>"
    ending: str = "<|im_end|>"


SINGLE = [("user", "Hi"), ("assistant", "Yo!")]
SEVERAL = [("user", "Yo!"), ("assistant", "Yo!"), ("user", "user\nYo!"), ("assistant", "A: b\n\nc")]
SYSTEM = [("system", "Be."), *SEVERAL]
STYLES = {
    "chatml": Style(
        CHATML,
        single="<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n«Yo!<|im_end|>»\n",
        several="<|im_start|>user\nYo!<|im_end|>\n<|im_start|>assistant\n«Yo!<|im_end|>»\n"
        "<|im_start|>user\nuser\nYo!<|im_end|>\n<|im_start|>assistant\n«A: b\n\nc<|im_end|>»\n",
        system="<|im_start|>system\nBe.<|im_end|>\n<|im_start|>user\nYo!<|im_end|>\n"
        "<|im_start|>assistant\n«Yo!<|im_end|>»\n<|im_start|>user\nuser\nYo!<|im_end|>\n"
        "<|im_start|>assistant\n«A: b\n\nc<|im_end|>»\n",
    ),
    "llama3": Style(
        LLAMA3,
        single="<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n«Yo!<|eot_id|>»",
        several="<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nYo!<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n«Yo!<|eot_id|>»"
        "<|start_header_id|>user<|end_header_id|>\n\nuser\nYo!<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n«A: b\n\nc<|eot_id|>»",
        system="<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nYo!<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n«Yo!<|eot_id|>»"
        "<|start_header_id|>user<|end_header_id|>\n\nuser\nYo!<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n«A: b\n\nc<|eot_id|>»",
        specials=("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        bos="<|begin_of_text|>",
        ending="<|eot_id|>",
    ),
    "gemma": Style(
        GEMMA,
        single="<bos><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n«Yo!<end_of_turn>»\n",
        several="<bos><start_of_turn>user\nYo!<end_of_turn>\n<start_of_turn>model\n«Yo!<end_of_turn>»\n"
        "<start_of_turn>user\nuser\nYo!<end_of_turn>\n<start_of_turn>model\n«A: b\n\nc<end_of_turn>»\n",
        system="<bos><start_of_turn>user\nBe.\n\nYo!<end_of_turn>\n<start_of_turn>model\n«Yo!<end_of_turn>»\n"
        "<start_of_turn>user\nuser\nYo!<end_of_turn>\n<start_of_turn>model\n«A: b\n\nc<end_of_turn>»\n",
        specials=("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"),
        bos="<bos>",
        eos="<eos>",
        ending="<end_of_turn>",
    ),
    "mistral": Style(
        MISTRAL,
        single="<s>[INST] Hi [/INST]« Yo!</s>»",
        several="<s>[INST] Yo! [/INST]« Yo!</s>»[INST] user\nYo! [/INST]« A: b\n\nc</s>»",
        system="<s>[INST] Be.\n\nYo! [/INST]« Yo!</s>»[INST] user\nYo! [/INST]« A: b\n\nc</s>»",
        specials=("<s>", "</s>", "[INST]", "[/INST]"),
        bos="<s>",
        eos="</s>",
        ending="</s>",
    ),
    "phi": Style(
        PHI,
        single="<|user|>\nHi<|end|>\n<|assistant|>\n«Yo!<|end|>»\n<|endoftext|>",
        several="<|user|>\nYo!<|end|>\n<|assistant|>\n«Yo!<|end|>»\n"
        "<|user|>\nuser\nYo!<|end|>\n<|assistant|>\n«A: b\n\nc<|end|>»\n<|endoftext|>",
        system="<|system|>\nBe.<|end|>\n<|user|>\nYo!<|end|>\n<|assistant|>\n«Yo!<|end|>»\n"
        "<|user|>\nuser\nYo!<|end|>\n<|assistant|>\n«A: b\n\nc<|end|>»\n<|endoftext|>",
        specials=("<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|endoftext|>"),
        eos="<|endoftext|>",
        ending="<|end|>",
    ),
    "qwen3": Style(
        QWEN3,
        single="<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n«<think>\n\n</think>\n\nYo!<|im_end|>»\n",
        several="<|im_start|>user\nYo!<|im_end|>\n<|im_start|>assistant\n«Yo!<|im_end|>»\n"
        "<|im_start|>user\nuser\nYo!<|im_end|>\n"
        "<|im_start|>assistant\n«<think>\n\n</think>\n\nA: b\n\nc<|im_end|>»\n",
        system="<|im_start|>system\nBe.<|im_end|>\n<|im_start|>user\nYo!<|im_end|>\n"
        "<|im_start|>assistant\n«Yo!<|im_end|>»\n<|im_start|>user\nuser\nYo!<|im_end|>\n"
        "<|im_start|>assistant\n«<think>\n\n</think>\n\nA: b\n\nc<|im_end|>»\n",
    ),
    "plain": Style(
        PLAIN,
        single="User: Hi\nAssistant:« Yo!<|im_end|>»",
        several="User: Yo!\nAssistant:« Yo!»\nUser: user\nYo!\nAssistant:« A: b\n\nc<|im_end|>»",
        system="System: Be.\nUser: Yo!\nAssistant:« Yo!»\nUser: user\nYo!\nAssistant:« A: b\n\nc<|im_end|>»",
        ending="",
    ),
}

CASES = [
    (name, case, style, turns, expected)
    for name, style in STYLES.items()
    for case, turns, expected in [
        ("single", SINGLE, style.single),
        ("several", SEVERAL, style.several),
        ("system", SYSTEM, style.system),
    ]
]
"""Name of the style, name of the conversation, the style, the turns and the text with «»."""


def dress(tokenizer: Any, style: Style | str) -> Any:
    """A copy of the character tokenizer with a style, or with any chat template."""
    if isinstance(style, str):
        style = Style(style, "", "", "")
    dressed = copy.deepcopy(tokenizer)
    dressed.add_special_tokens({"additional_special_tokens": ["<|im_start|>", *style.specials]})
    dressed.bos_token, dressed.eos_token, dressed.chat_template = style.bos, style.eos, style.template
    return dressed


def conversation_of(turns: list[tuple[str, str]]) -> Conversation:
    return make_conversation({"role": role, "content": content} for role, content in turns)


def mark_trained(tokenizer: Any, ids: list[int], labels: list[int]) -> str:
    """The text, with «» around what is trained; a label is the id itself or IGNORED, nothing else."""
    token_of = {id: token for token, id in tokenizer.get_vocab().items()}
    text, was_trained = "", False
    for id, label in zip([*ids, None], [*labels, IGNORED], strict=True):
        assert label in (id, IGNORED)
        is_trained = label != IGNORED
        text += "" if is_trained == was_trained else "«" if is_trained else "»"
        text += token_of.get(id, "")
        was_trained = is_trained
    return text
