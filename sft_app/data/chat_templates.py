"""Give a tokenizer a chat template: ChatML for a base model that has none, or one that a person has pasted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sft_app.settings import CHATML

CHATML_END = "<|im_end|>"
NO_MODEL_FILES = (OSError, ValueError)


def set_chat_template(tokenizer: Any, chat_template: str) -> None:
    """Give the tokenizer the template that a setting asks for: "" for its own, `chatml`, or the text of a template.

    ChatML changes no vocabulary: if it has `<|im_end|>`, that token becomes the tokenizer's EOS; otherwise turns end
    with the EOS that it has, and the marks of the roles are plain text.
    """
    if chat_template == CHATML:
        if _is_one_token(tokenizer, CHATML_END):
            tokenizer.eos_token = CHATML_END
        tokenizer.chat_template = chatml_template(tokenizer)
    elif chat_template:
        tokenizer.chat_template = chat_template


def chatml_template(tokenizer: Any) -> str:
    """Write ChatML for this tokenizer. It begins with BOS if the tokenizer itself begins texts with BOS."""
    begins_with_bos = tokenizer.bos_token and tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]
    return (
        f"{'{{ bos_token }}' if begins_with_bos else ''}"
        "{% for message in messages %}"
        "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + eos_token + '\n' }}{% endfor %}"
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
    try:
        stored = json.loads((folder / "tokenizer_config.json").read_bytes()).get("chat_template")
    except (*NO_MODEL_FILES, AttributeError):
        return ""
    if isinstance(stored, list):  # several templates by name
        stored = next((one.get("template") for one in stored if one.get("name") == "default"), "")
    return stored if isinstance(stored, str) else ""


def _is_one_token(tokenizer: Any, text: str) -> bool:
    id = tokenizer.get_vocab().get(text)
    return id is not None and tokenizer(text, add_special_tokens=False)["input_ids"] == [id]
