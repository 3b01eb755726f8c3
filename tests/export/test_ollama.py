"""What Ollama makes of a Modelfile is what the chat template makes of the same messages."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sft_app.errors import ExportError
from sft_app.export.chat_template_parts import CONVERSATIONS, split_chat_template, unsupported_template_features
from sft_app.export.ollama import default_system, go_template, ollama_name, write_modelfile
from tests.chat_styles import CHATML, STYLES, dress
from tests.export.go_template import GO, parse_modelfile, render, render_with_go
from tests.made_runs import make_run  # noqa: F401

WITH_DEFAULT = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nI am {T}.<|im_end|>\n' }}{% endif %}" + CHATML
)
LLAMA2 = (
    "{% if messages[0]['role'] == 'system' %}{% set turns = messages[1:] %}"
    "{% set system = '<<SYS>>\n' + messages[0]['content'] + '\n<</SYS>>\n\n' %}"
    "{% else %}{% set turns = messages %}{% set system = '' %}{% endif %}"
    "{% for m in turns %}{% if m['role'] == 'user' %}"
    "{{ '<s>[INST] ' + (system if loop.first else '') + m['content'].strip() + ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'].strip() + ' </s>' }}{% endif %}{% endfor %}"
)
ALWAYS_SYSTEM = (
    "{% set given = messages[0]['content'] if messages[0]['role'] == 'system' else '' %}"
    "{{ '<|system|>Knowledge: 2023\n\n' + given + '<|end|>' }}"
    "{% for m in messages %}{% if m['role'] != 'system' %}{{ '<|' + m['role'] + '|>' + m['content'] + '<|end|>' }}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
BRACES = CHATML.replace("<|im_start|>", "{{").replace("<|im_end|>", '}}\u00a0"""')
TEMPLATES = {
    **{name: style for name, style in STYLES.items()},
    "default system": WITH_DEFAULT,
    "llama2": LLAMA2,
    "always a system part": ALWAYS_SYSTEM,
    "braces, quotes and a hard space": BRACES,
}
NUMBERED = (
    "{% for m in messages %}{{ loop.index ~ m['role'] + ':' + m['content'] + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"
)
LAST_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{% set turns = messages[1:] %}{% set s = messages[0]['content'] %}"
    "{% else %}{% set turns = messages %}{% set s = '' %}{% endif %}{% for m in turns %}"
    "{% if m['role'] == 'user' %}{{ '[INST]' + (s if loop.last else '') + m['content'] + '[/INST]' }}"
    "{% else %}{{ m['content'] + '</s>' }}{% endif %}{% endfor %}"
)


def wanted_text(tokenizer: Any, messages: Any) -> str:
    """By transformers alone; a system message that the template refuses goes before the first question."""
    try:
        text = tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
    except Exception:
        system, user, *rest = messages
        joined = {"role": "user", "content": f"{system['content']}\n\n{user['content']}"}
        text = tokenizer.apply_chat_template([joined, *rest], tokenize=False, add_generation_prompt=True)
    return text


def cases_of(tokenizer: Any, style: Any) -> list[tuple[str, list[dict[str, Any]], str]]:
    """Template, messages, and what they should give."""
    dressed = dress(tokenizer, style)
    template = go_template(split_chat_template(dressed))
    return [(template, list(messages), wanted_text(dressed, messages)) for messages in CONVERSATIONS.values()]


@pytest.mark.parametrize("name", TEMPLATES)
def test_same_messages_give_the_same_text(tokenizer: Any, name: str) -> None:
    for template, messages, wanted in cases_of(tokenizer, TEMPLATES[name]):
        held = parse_modelfile(f'TEMPLATE """{template}"""\nFROM .\n')
        assert held == [("TEMPLATE", template), ("FROM", ".")]
        assert render(held[0][1], messages) == wanted


@pytest.mark.skipif(GO is None, reason="Go is not installed")
def test_go_itself_gives_the_same_text(tokenizer: Any, tmp_path: Path) -> None:
    cases = [case for style in TEMPLATES.values() for case in cases_of(tokenizer, style)]
    found = render_with_go([(template, messages) for template, messages, _ in cases], tmp_path)
    assert found == [wanted for _, _, wanted in cases]


def test_an_answer_that_has_begun_is_left_open(tokenizer: Any) -> None:
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Well"}]
    dressed = dress(tokenizer, STYLES["chatml"])
    wanted = dressed.apply_chat_template(messages, tokenize=False, continue_final_message=True)
    assert render(go_template(split_chat_template(dressed)), messages) == wanted


@pytest.mark.parametrize(
    ("template", "told"),
    [
        (NUMBERED, "it writes several turns without fixed text"),
        (LAST_SYSTEM, "it does not write every message once, in order"),
        (None, "The model has no chat template"),
    ],
)
def test_a_template_without_fixed_pieces_is_refused(tokenizer: Any, template: str | None, told: str) -> None:
    dressed = dress(tokenizer, template or "")
    with pytest.raises(ExportError, match=told):
        split_chat_template(dressed)


def test_a_bos_that_the_tokenizer_writes_is_left_out(tokenizer: Any) -> None:
    from tokenizers.processors import TemplateProcessing

    dressed = dress(tokenizer, STYLES["llama3"])
    assert split_chat_template(dressed).opening.startswith("<|begin_of_text|>")
    bos = ("<|begin_of_text|>", dressed.bos_token_id)
    dressed._tokenizer.post_processor = TemplateProcessing(single="<|begin_of_text|> $A", special_tokens=[bos])
    pieces = split_chat_template(dressed)
    assert pieces.opening.startswith("<|start_header_id|>user") and pieces.system[0].startswith("<|start_header_id|>")


def test_the_models_own_system_prompt_is_found(tokenizer: Any) -> None:
    assert default_system(split_chat_template(dress(tokenizer, WITH_DEFAULT))) == "I am {T}."
    assert default_system(split_chat_template(dress(tokenizer, CHATML))) == ""


@pytest.mark.parametrize(
    ("style", "told"),
    [("chatml", []), ("llama3", ["whitespace"]), ("qwen3", ["earlier thoughts"])],
)
def test_what_no_fixed_text_can_do_is_noted(tokenizer: Any, style: str, told: list[str]) -> None:
    dressed = dress(tokenizer, STYLES[style])
    notes = unsupported_template_features(dressed, split_chat_template(dressed))
    assert len(notes) == len(told) and all(word in note for word, note in zip(told, notes, strict=True))


# The file


@pytest.fixture
def made(make_run: Callable[..., Any], tiny_model_dir: Path, tmp_path: Path) -> Callable[..., Any]:  # noqa: F811
    """A run, and a folder as a merge leaves it; `template` is the tokenizer's."""
    import shutil

    def make(template: str | None = None, generation: dict[str, Any] | None = None, **settings: Any) -> Any:
        found = make_run(method="lora", **settings)
        found.folder = tmp_path / "model"
        shutil.copytree(tiny_model_dir, found.folder)
        (found.folder / "generation_config.json").write_text(json.dumps(generation or {"eos_token_id": 2}))
        if template is not None:
            (found.folder / "chat_template.jinja").write_text(template)
        return found

    return make


def read(made: Any) -> tuple[Any, list[tuple[str, str]]]:
    found = write_modelfile(made.run, made.folder)
    return found, parse_modelfile(found.modelfile.read_text(encoding="utf-8"))


def test_modelfile_names_weights_stop_and_sampling(made: Callable[..., Any]) -> None:
    run = made(name="Fernhill, quick!", temperature=0.3)
    found, lines = read(run)
    kept = dict(lines)
    assert (kept["FROM"], kept["stop"], kept["temperature"], kept["repeat_penalty"]) == (".", "<|im_end|>", "0.3", "1")
    assert (kept["top_p"], kept["top_k"]) == ("1", "0")  # and not Ollama's own
    assert kept["num_ctx"] == "512"  # the tiny model's context
    assert "SYSTEM" not in kept
    assert found.command == f"ollama create fernhill-quick -f {run.folder}/Modelfile"
    assert str(run.folder) not in found.modelfile.read_text()


def test_what_the_models_authors_ask_for_and_all_endings_are_kept(made: Callable[..., Any]) -> None:
    generation = {"eos_token_id": [0, 2], "top_p": 0.8, "top_k": 20, "repetition_penalty": 1.05, "temperature": 0.7}
    _, lines = read(made(generation=generation))
    assert [value for name, value in lines if name == "stop"] == ["<|pad|>", "<|im_end|>"]
    kept = dict(lines)
    assert (kept["top_p"], kept["top_k"], kept["repeat_penalty"], kept["temperature"]) == ("0.8", "20", "1.05", "0")


@pytest.mark.parametrize("system", ["Be kind.", 'Say "hi" {{ now }}\n\n # not a comment\nFROM here "', "é — 🌿"])
def test_the_runs_system_prompt_is_kept_to_the_letter(made: Callable[..., Any], system: str) -> None:
    _, lines = read(made(system_prompt=system))
    assert dict(lines)["SYSTEM"] == system


@pytest.mark.parametrize("system", ['Quote """\nso', "A\u200dB"])
def test_a_system_prompt_that_a_modelfile_cannot_hold_goes_into_the_template(
    made: Callable[..., Any], system: str
) -> None:
    _, lines = read(made(system_prompt=system))
    kept = dict(lines)
    assert "SYSTEM" not in kept
    assert f"<|im_start|>system\n{system}<|im_end|>" in render(kept["TEMPLATE"], [{"role": "user", "content": "Hi"}])


def test_a_template_that_cannot_be_told_is_left_out_with_the_reason(made: Callable[..., Any]) -> None:
    found, lines = read(made(template=NUMBERED))
    assert "TEMPLATE" not in dict(lines)
    assert "This chat template cannot be written for Ollama: it writes several turns" in found.notes[0]
    assert f"# {found.notes[0]}" in found.modelfile.read_text()


@pytest.mark.starter
def test_the_starters_template_is_rendered_to_the_letter(starter_home: Path, tmp_path: Path) -> None:
    from sft_app.models.catalog import resolve_model
    from sft_app.models.loading import load_tokenizer

    tokenizer = load_tokenizer(resolve_model("starter", None, starter_home), starter_home)
    pieces = split_chat_template(tokenizer)
    assert default_system(pieces) == "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
    for messages in CONVERSATIONS.values():
        assert render(go_template(pieces), list(messages)) == wanted_text(tokenizer, messages)


@pytest.mark.parametrize(
    ("text", "name"), [("Fernhill, quick", "fernhill-quick"), ("£££", ""), ("20261123-155531-ukqk",) * 2]
)
def test_name_for_ollama(text: str, name: str) -> None:
    assert ollama_name(text) == name
