"""A base model without a chat template is taught ChatML; a pasted template proves itself before it is used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from sft_app.data.chat_templates import set_chat_template, stored_chat_template, stored_eos_token
from sft_app.data.tokens import check_chat_template, encode_question, render_conversation, render_prompt, stop_ids
from sft_app.errors import DataError, NoChatTemplate
from tests.chat_styles import CHATML, PLAIN, SEVERAL, SINGLE, SYSTEM, conversation_of, mark_trained
from tests.conftest import make_character_tokenizer


def make_base_tokenizer(eos: str = "</s>", specials: tuple[str, ...] = ("</s>",), drop: str = "") -> Any:
    """A base model's: no chat template, and without the token `drop` in its vocabulary."""
    tokenizer = make_character_tokenizer(None, list(specials))
    if drop:
        core = json.loads(tokenizer.backend_tokenizer.to_str())
        core["added_tokens"] = [token for token in core["added_tokens"] if token["content"] != drop]
        core["model"]["vocab"]["~" * 3] = core["model"]["vocab"].pop(drop)
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=Tokenizer.from_str(json.dumps(core)), pad_token="<|pad|>", unk_token="<unk>"
        )
    tokenizer.eos_token = eos
    return tokenizer


def marked(tokenizer: Any, turns: list[tuple[str, str]]) -> str:
    rendered = render_conversation(tokenizer, conversation_of(turns), 10_000)
    return mark_trained(tokenizer, rendered.input_ids, rendered.labels)


def test_chatml_ends_answers_with_its_own_token_if_the_vocabulary_has_it():
    tokenizer = make_base_tokenizer()
    set_chat_template(tokenizer, "chatml")
    assert marked(tokenizer, SYSTEM) == (
        "<|im_start|>system\nBe.<|im_end|>\n<|im_start|>user\nYo!<|im_end|>\n"
        "<|im_start|>assistant\n«Yo!<|im_end|>»\n<|im_start|>user\nuser\nYo!<|im_end|>\n"
        "<|im_start|>assistant\n«A: b\n\nc<|im_end|>»\n"
    )
    assert (tokenizer.eos_token, len(tokenizer)) == ("<|im_end|>", len(make_base_tokenizer()))
    assert tokenizer.convert_tokens_to_ids("<|im_end|>") in stop_ids(tokenizer)
    assert check_chat_template(tokenizer) == []


def test_chatml_without_its_token_ends_answers_with_eos_and_adds_nothing_to_the_vocabulary():
    tokenizer = make_base_tokenizer(drop="<|im_end|>")
    before = len(tokenizer)
    set_chat_template(tokenizer, "chatml")
    assert marked(tokenizer, SINGLE) == "<|im_start|>user\nHi</s>\n<|im_start|>assistant\n«Yo!</s>»\n"
    assert (tokenizer.eos_token, len(tokenizer)) == ("</s>", before)
    assert check_chat_template(tokenizer) == [
        "The model's vocabulary has no <|im_end|>, so answers end with </s> and the role marks are plain text."
    ]


def test_chatml_begins_with_bos_if_the_tokenizer_does():
    from tokenizers.processors import TemplateProcessing

    tokenizer = make_base_tokenizer(specials=("</s>", "<s>"))
    tokenizer.bos_token = "<s>"
    set_chat_template(tokenizer, "chatml")
    assert marked(tokenizer, SINGLE).startswith("<|im_start|>")
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.convert_tokens_to_ids("<s>"))]
    )
    set_chat_template(tokenizer, "chatml")
    assert marked(tokenizer, SINGLE).startswith("<s><|im_start|>user")


def test_an_empty_setting_leaves_the_models_own_template(tokenizer: Any):
    set_chat_template(tokenizer, "")
    assert tokenizer.chat_template == CHATML


def test_a_pasted_template_is_used():
    tokenizer = make_base_tokenizer()
    set_chat_template(tokenizer, PLAIN)
    assert marked(tokenizer, SINGLE) == "User: Hi\nAssistant:« Yo!</s>»"
    assert check_chat_template(tokenizer) == [
        "The chat template ends answers without a special token, so </s> is added after the last answer to teach the "
        "model to stop."
    ]


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("{% for message in %}", r"^The chat template is not valid Jinja: .*\(line 1\)\.$"),
        ("{{ messages[0]['content'] }}", r"the chat template changes the text of message 2 \(assistant\)"),
        ("{{ messages + 1 }}", "^The chat template fails: TypeError: "),
    ],
    ids=["syntax", "no answer", "failing"],
)
def test_a_pasted_template_that_cannot_be_trained_with_is_refused(template: str, problem: str):
    tokenizer = make_base_tokenizer()
    set_chat_template(tokenizer, template)
    with pytest.raises(DataError, match=problem):
        check_chat_template(tokenizer)


def test_a_model_without_a_template_still_reads_plain_text():
    tokenizer = make_base_tokenizer()
    with pytest.raises(NoChatTemplate, match="it completes text and was not trained to chat"):
        check_chat_template(tokenizer)
    assert tokenizer.decode(encode_question(tokenizer, "Hi")) == "Hi"
    assert stop_ids(tokenizer) == {tokenizer.eos_token_id}


def test_a_question_is_encoded_by_the_template_if_there_is_one(tokenizer: Any):
    assert encode_question(tokenizer, "Hi") == render_prompt(tokenizer, [{"role": "user", "content": "Hi"}])


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({"chat_template.jinja": "{{ a }}\n", "tokenizer_config.json": '{"chat_template": "b"}'}, "{{ a }}\n"),
        ({"tokenizer_config.json": '{"chat_template": "{{ b }}"}'}, "{{ b }}"),
        ({"tokenizer_config.json": '{"chat_template": [{"name": "default", "template": "{{ c }}"}]}'}, "{{ c }}"),
        ({"tokenizer_config.json": '{"chat_template": [{"name": "rag", "template": "{{ c }}"}]}'}, ""),
        ({"tokenizer_config.json": "[]"}, ""),
        ({"tokenizer_config.json": "no json"}, ""),
        ({}, ""),
    ],
    ids=["file", "config", "several", "no default", "list", "broken", "none"],
)
def test_the_template_stored_with_a_tokenizer_is_read(tmp_path: Path, files: dict[str, str], found: str):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert stored_chat_template(tmp_path) == found


@pytest.mark.parametrize(
    ("config", "found"),
    [('{"eos_token": "</s>"}', "</s>"), ('{"eos_token": {"content": "</s>"}}', "</s>"), ("[]", ""), ("no", "")],
)
def test_the_eos_stored_with_a_tokenizer_is_read(tmp_path: Path, config: str, found: str):
    (tmp_path / "tokenizer_config.json").write_text(config)
    assert (stored_eos_token(tmp_path), stored_eos_token(tmp_path / "none")) == (found, "")


def test_stored_chatml_ends_turns_with_its_own_token_whatever_the_eos(tmp_path: Path):
    tokenizer, base = make_base_tokenizer(), make_base_tokenizer()
    set_chat_template(tokenizer, "chatml")
    set_chat_template(base, tokenizer.chat_template)
    assert (base.eos_token, marked(base, SEVERAL)) == ("</s>", marked(tokenizer, SEVERAL))
    assert base.convert_tokens_to_ids("<|im_end|>") in stop_ids(base)
    set_chat_template(base, "", eos_token="<|im_end|>")
    assert base.eos_token == "<|im_end|>"
    set_chat_template(base, "", eos_token="no such token")
    assert base.eos_token == "<|im_end|>"


def test_saved_tokenizers_keep_chatml(tmp_path: Path):
    from transformers import AutoTokenizer

    tokenizer = make_base_tokenizer()
    set_chat_template(tokenizer, "chatml")
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert (loaded.eos_token, marked(loaded, SEVERAL)) == ("<|im_end|>", marked(tokenizer, SEVERAL))
    assert stored_chat_template(tmp_path) == tokenizer.chat_template
