"""Chats that a template rendered to one text are read as turns."""

from __future__ import annotations

import pytest

from sft_app.data.conversation import make_conversation
from sft_app.data.formats.converters.rendered_chats import rendered_turns


@pytest.mark.parametrize(
    "text",
    [
        "### Human: Hi### Assistant: Yo!",
        "### Instruction:\nHi\n\n### Response:\nYo!",
        "<s>[INST] Hi [/INST] Yo! </s>",
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nYo!<|im_end|>\n",
        "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nYo!<|eot_id|>",
        "USER: Hi\n\n\nASSISTANT: Yo! <|endoftext|>",
    ],
)
def test_rendered_chat_becomes_turns(text: str) -> None:
    turns = [(one.role, one.content) for one in make_conversation(rendered_turns(text)).messages]
    assert turns == [("user", "Hi"), ("assistant", "Yo!")]


@pytest.mark.parametrize("text", ["Just a text.", "### Human: only a question", "# Title\n### Response: none asked"])
def test_other_texts_are_no_chat(text: str) -> None:
    assert rendered_turns(text) == []
