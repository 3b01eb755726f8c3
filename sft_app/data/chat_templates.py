"""Choose a tokenizer's chat template (its own, ChatML, or one that a person has pasted), and render it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jinja2 import Environment, meta
from jinja2.exceptions import TemplateError, TemplateSyntaxError
from jinja2.ext import loopcontrols

from sft_app.errors import DataError, NoChatTemplate, first_line, kind_and_first_line
from sft_app.settings import CHATML

CHATML_END = "<|im_end|>"
NO_MODEL_FILES = (OSError, ValueError)
ENABLE_THINKING = "enable_thinking"
"""The attribute under which a tokenizer carries the setting of this name."""
THINKING_VARIABLES = ("enable_thinking", "thinking")
"""The names that chat templates have for it. Source: those of Qwen3, SmolLM3 and GLM; those of DeepSeek and Granite."""


@dataclass(frozen=True)
class TemplateInput:
    """What a chat template is given: messages, whether the model is asked to think first, and tool definitions."""

    messages: list[dict[str, Any]]
    enable_thinking: bool = False
    tools: list[dict[str, Any]] | None = None

    def replaced(self, messages: list[dict[str, Any]]) -> TemplateInput:
        """Return the same with other messages."""
        return replace(self, messages=messages)


def render_template(tokenizer: Any, chat: TemplateInput, add_generation_prompt: bool = False) -> str:
    """Render the chat template to text.

    Raises:
        NoChatTemplate: the tokenizer has none.
        DataError: the template is not valid, fails, or rejects the messages.
    """
    if not tokenizer.chat_template:
        raise NoChatTemplate(
            "The model has no chat template: it completes text and was not trained to chat. To teach it, set "
            "chat_template to chatml (--chat-template chatml), or choose a chat (instruct) model."
        )
    try:
        text: str = tokenizer.apply_chat_template(
            chat.messages,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            tools=chat.tools,
            **dict.fromkeys(THINKING_VARIABLES, chat.enable_thinking),
        )
    except TemplateSyntaxError as error:
        raise DataError(f"The chat template is not valid Jinja: {first_line(error)} (line {error.lineno}).") from error
    except TemplateError as error:
        raise DataError(f"The model's chat template rejects the conversation: {error}.") from error
    except Exception as error:  # a template is a program and may fail in any way
        raise DataError(f"The chat template fails: {kind_and_first_line(error)}.") from error
    return text


def as_template_takes(tokenizer: Any, chat: TemplateInput) -> TemplateInput:
    """Move a system message that the template rejects or drops to the start of the first question.

    Some templates only render it before an open question, so the whole conversation is rendered to check.
    """
    messages = chat.messages
    if len(messages) < 2 or messages[0]["role"] != "system" or messages[1]["role"] != "user":
        return chat
    system, user, *rest = messages
    try:
        mark = unused_character(message["content"] for message in messages)
        if mark in render_template(tokenizer, chat.replaced([{**system, "content": mark}, *messages[1:]])):
            return chat
    except NoChatTemplate:
        raise
    except DataError:
        pass
    opened = "\n\n".join(part for part in (system["content"], user["content"]) if part.strip())
    return chat.replaced([{**user, "content": opened}, *rest])


def unused_character(texts: Iterable[str]) -> str:
    """Find a private-use character, which no template changes, that none of the texts contains."""
    used = set().union(*texts)
    return next(chr(code) for code in range(0xE000, 0xF900) if chr(code) not in used)


def is_thinking(tokenizer: Any) -> bool:
    """Return whether the tokenizer's model is asked to think before it answers."""
    return bool(getattr(tokenizer, ENABLE_THINKING, False))


def thinking_variables(chat_template: str) -> list[str]:
    """List the variables by which a template's text turns thinking on and off."""
    try:
        unknown = meta.find_undeclared_variables(Environment(extensions=[loopcontrols]).parse(chat_template))
    except TemplateError:
        return []
    return [name for name in THINKING_VARIABLES if name in unknown]


def can_think(tokenizer: Any) -> bool:
    """Return whether the chat template can turn thinking on and off, by rendering a question both ways."""
    question = [{"role": "user", "content": "a"}]
    try:
        on, off = (render_template(tokenizer, TemplateInput(question, think), True) for think in (True, False))
    except DataError:
        return False
    return on != off


def set_chat_template(tokenizer: Any, chat_template: str, eos_token: str = "") -> None:
    """Give the tokenizer the template that a setting asks for: "" for its own, `chatml`, or the text of a template.

    `eos_token` is the EOS that an adapter was stored with. It becomes the tokenizer's if it is one of its tokens.

    ChatML changes no vocabulary: if it has `<|im_end|>`, that token becomes the tokenizer's EOS; otherwise turns end
    with the EOS that it has, and the marks of the roles are plain text.
    """
    if eos_token and _is_one_token(tokenizer, eos_token):
        tokenizer.eos_token = eos_token
    if chat_template == CHATML:
        if _is_one_token(tokenizer, CHATML_END):
            tokenizer.eos_token = CHATML_END
        tokenizer.chat_template = chatml_template(tokenizer)
    elif chat_template:
        tokenizer.chat_template = chat_template


def chatml_template(tokenizer: Any) -> str:
    """Write ChatML for this tokenizer. It begins with BOS if the tokenizer itself begins texts with BOS.

    It names the token that ends a turn, not the variable `eos_token`: it is stored with the adapter, and the base
    model's tokenizer, with which the adapter is later used, may have another EOS.
    """
    end = json.dumps(tokenizer.eos_token, ensure_ascii=False)  # also a text in Jinja
    begins_with_bos = tokenizer.bos_token and tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]
    return (
        f"{'{{ bos_token }}' if begins_with_bos else ''}"
        "{% for message in messages %}"
        "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + " + end + " + '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )


def chatml_notes(tokenizer: Any) -> list[str]:
    """Say what the tokenizer's ChatML does without the tokens of ChatML; nothing for other templates."""
    if tokenizer.eos_token == CHATML_END or tokenizer.chat_template != chatml_template(tokenizer):
        return []
    return [
        f"The model's vocabulary has no {CHATML_END}, so answers end with {tokenizer.eos_token} and the role marks are "
        "plain text."
    ]


def stored_chat_template(folder: Path) -> str:
    """Read the chat template that is stored with a tokenizer in this folder; empty if there is none."""
    try:
        return (folder / "chat_template.jinja").read_text(encoding="utf-8")
    except NO_MODEL_FILES:
        pass
    stored = _tokenizer_config(folder).get("chat_template")
    if isinstance(stored, list):  # several templates by name
        stored = next((one.get("template") for one in stored if one.get("name") == "default"), "")
    return stored if isinstance(stored, str) else ""


def stored_eos_token(folder: Path) -> str:
    """Read the EOS of the tokenizer that is stored in this folder; empty if there is none."""
    stored = _tokenizer_config(folder).get("eos_token")
    if isinstance(stored, dict):  # as transformers 4 writes it
        stored = stored.get("content")
    return stored if isinstance(stored, str) else ""


def _tokenizer_config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / "tokenizer_config.json").read_bytes())
    except NO_MODEL_FILES:
        return {}
    return config if isinstance(config, dict) else {}


def _is_one_token(tokenizer: Any, text: str) -> bool:
    id = tokenizer.get_vocab().get(text)
    return id is not None and tokenizer(text, add_special_tokens=False)["input_ids"] == [id]
