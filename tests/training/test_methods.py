"""Every method with both trainers, end to end on the tiny model; rsLoRA, DoRA, NEFTune and blocks of running text."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainerCallback

from sft_app.errors import SettingsError
from sft_app.inference.batched_adapters import RowAdapter, apply_row_adapters
from sft_app.inference.generation import Sampling
from sft_app.inference.pair import load_pair
from sft_app.inference.sides import find_sides
from sft_app.inference.stream import compare_prompt
from sft_app.settings import parse_settings
from sft_app.training.tokenized_dataset import cut_into_blocks
from sft_app.training.trainers.arguments import packed_neftune_alpha

ONE_AFTER_THE_OTHER, IN_ONE_BATCH = "one after the other", "both answered in one batch"
CASES = [
    ("sft", "lora", {}, IN_ONE_BATCH),
    ("sft", "qlora", {}, IN_ONE_BATCH),
    ("sft", "full", {"learning_rate": 1e-3}, ONE_AFTER_THE_OTHER),
    ("classic", "lora", {}, IN_ONE_BATCH),
    ("classic", "qlora", {}, IN_ONE_BATCH),
    ("classic", "full", {"learning_rate": 1e-3}, ONE_AFTER_THE_OTHER),
    ("sft", "lora", {"use_rslora": True}, IN_ONE_BATCH),
    ("sft", "lora", {"use_dora": True}, ONE_AFTER_THE_OTHER),
    ("sft", "qlora", {"use_dora": True}, ONE_AFTER_THE_OTHER),
    ("classic", "lora", {"use_dora": True, "use_rslora": True}, ONE_AFTER_THE_OTHER),
    ("classic", "full", {"learning_rate": 1e-3, "block_size": 32}, ONE_AFTER_THE_OTHER),
    ("sft", "lora", {"neftune_noise_alpha": 5.0}, IN_ONE_BATCH),
]


def case_name(case: Any) -> str | None:
    return "-".join(case) or "plain" if isinstance(case, dict) else None


@pytest.mark.parametrize(("trainer", "method", "options", "how"), CASES, ids=case_name)
def test_run_learns_and_can_be_compared(
    home: Path, make_run: Any, work: Any, trainer: str, method: str, options: dict[str, Any], how: str
) -> None:
    run = make_run(trainer=trainer, method=method, max_steps=8, eval_steps=4, **options)
    assert work(run) == 0
    assert run.status().state == "finished", run.log_tail()
    card = run.scorecard()
    assert card.tuned["loss"] < card.base["loss"] - 0.05
    pair = load_pair(find_sides("base", run.id, home), home)
    update = compare_prompt(pair, "Where is order 3?", "", Sampling(max_new_tokens=8))
    assert update.evidence.how == how
    assert update.evidence.right.has_effect()
    assert update.left.tokens > 0 and update.right.tokens > 0
    assert run.record().settings.method == method


def logits_of(model: Any, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(ids, use_cache=False).logits


@pytest.fixture
def pair_of(home: Path, make_run: Any, work: Any) -> Callable[..., Any]:
    def make(**options: Any) -> Any:
        run = make_run(method="lora", **options)
        assert work(run) == 0
        assert run.status().state == "finished", run.log_tail()
        return load_pair(find_sides("base", run.id, home), home), run

    return make


def test_rslora_scales_each_row_by_alpha_over_the_root_of_the_rank(pair_of: Any) -> None:
    pair, _ = pair_of(use_rslora=True, lora_r=16, lora_alpha=8)
    model = pair.loaded_sides[1].model
    layers = [layer for layer in model.modules() if hasattr(layer, "lora_A")]
    assert {layer.scaling["side1"] for layer in layers} == {8 / math.sqrt(16)}
    ids = torch.arange(5, 25)[None]
    with model.disable_adapter():
        base = logits_of(model, ids)
    tuned = logits_of(model, ids)
    with apply_row_adapters(model, (RowAdapter(), RowAdapter("side1"))):
        both = logits_of(model, ids.repeat(2, 1))
    assert not torch.allclose(base, tuned, atol=1e-2)
    torch.testing.assert_close(both, torch.cat([base, tuned]), rtol=1e-4, atol=1e-5)


def test_dora_answers_are_those_of_the_base_and_of_the_merged_adapter(pair_of: Any, tiny_model_dir: Path) -> None:
    """Merging goes through PEFT's own arithmetic of the weights, not through the forward pass that is compared."""
    from transformers import AutoModelForCausalLM

    pair, run = pair_of(use_dora=True)
    answers = compare_prompt(pair, "Where is order 3?", "", Sampling(max_new_tokens=8))
    assert answers.evidence.how == ONE_AFTER_THE_OTHER
    ids, model = torch.arange(5, 25)[None], pair.loaded_sides[1].model
    base = AutoModelForCausalLM.from_pretrained(tiny_model_dir, dtype=torch.float32).eval()
    with model.disable_adapter():
        torch.testing.assert_close(logits_of(model, ids), logits_of(base, ids), rtol=1e-4, atol=1e-5)
    tuned = logits_of(model, ids)
    assert not torch.allclose(tuned, logits_of(base, ids), atol=1e-2)
    merged = model.merge_and_unload()
    torch.testing.assert_close(logits_of(merged, ids), tuned, rtol=1e-3, atol=1e-4)
    assert json.loads((run.adapter_dir / "adapter_config.json").read_text())["use_dora"] is True


class EmbeddingWatcher(TrainerCallback):
    """Keeps what the embedding layer gives for one token, while training and while not."""

    def __init__(self) -> None:
        self.seen: dict[bool, list[torch.Tensor]] = {True: [], False: []}
        self.hook: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        embedding = model.get_input_embeddings()

        def keep(module: Any, inputs: Any, output: Any) -> None:
            away = (output - module.weight[inputs[0]]).detach().float()
            self.seen[module.training].append(away.abs().max())

        self.hook = embedding.register_forward_hook(keep)


@pytest.mark.parametrize("trainer", ["sft", "classic"])
def test_noise_is_there_in_training_and_nowhere_else(
    make_run: Any, work: Any, monkeypatch: pytest.MonkeyPatch, trainer: str
) -> None:
    """The hook of NEFTune is put on before training begins, so this watcher sees what comes out of it."""
    from sft_app.training import worker

    watcher, build = EmbeddingWatcher(), worker.build_trainer

    def build_watched(job: Any) -> Any:
        built = build(job)
        built.add_callback(watcher)
        return built

    monkeypatch.setattr(worker, "build_trainer", build_watched)
    run = make_run(trainer=trainer, method="lora", neftune_noise_alpha=5.0)
    assert work(run) == 0
    assert run.status().state == "finished", run.log_tail()
    assert len(watcher.seen[True]) >= 4 and len(watcher.seen[False]) >= 3
    # 128 tokens of width 64 at the most: alpha over the root of their product is at least 0.05.
    assert min(watcher.seen[True]) > 0.01
    assert max(watcher.seen[False]) == 0


def test_noise_of_a_packed_row_is_that_of_its_conversations() -> None:
    """Four conversations of n tokens in one row: the root of 4n in the denominator, so twice the alpha."""
    plain = parse_settings({"neftune_noise_alpha": 5.0, "packing": False, "per_device_train_batch_size": 4})
    assert packed_neftune_alpha(plain) == 5.0
    assert packed_neftune_alpha(plain.model_copy(update={"packing": True})) == pytest.approx(10.0)
    assert packed_neftune_alpha(plain.model_copy(update={"packing": True, "trainer": "classic"})) == 5.0
    assert packed_neftune_alpha(parse_settings({})) is None


def test_blocks_hold_every_token_once_in_order_and_train_it() -> None:
    texts = [[1, 2, 3], [4], [5, 6, 7, 8, 9, 10, 11], [], [12, 13]]
    rows = list(cut_into_blocks(texts, 4))
    assert [row["input_ids"] for row in rows] == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12]]
    assert all(row["labels"] == row["input_ids"] for row in rows)
    rest = list(cut_into_blocks([*texts, [14, 15]], 4))[-1]
    assert rest["input_ids"] == rest["labels"] == [13, 14, 15]
    assert list(cut_into_blocks([], 4)) == []


def test_blocks_are_of_the_whole_text_though_max_length_is_shorter(home: Path, make_run: Any, tokenizer: Any) -> None:
    from sft_app.data.conversation import make_conversation
    from sft_app.data.tokens import render_conversation
    from sft_app.runtime.files import read_jsonl
    from sft_app.training.tokenized_dataset import load_tokenized_dataset

    run = make_run(trainer="classic", method="full", block_size=100, max_length=60)
    whole: list[int] = []
    for row in read_jsonl(run.train_file):
        whole += render_conversation(tokenizer, make_conversation(row["messages"]), 10_000).input_ids
    rows = load_tokenized_dataset(run, tokenizer, 60, 100)
    assert [id for ids in rows["input_ids"] for id in ids] == whole
    assert [len(ids) for ids in rows["input_ids"]][:-1] == [100] * (len(whole) // 100)


def test_blocks_train_the_tokens_that_end_an_answer_also_where_they_are_the_padding(
    tiny_model_dir: Path, tokenizer: Any, tmp_path: Path
) -> None:
    import copy

    from datasets import Dataset
    from transformers import AutoModelForCausalLM

    from sft_app.training.trainers.arguments import TrainingJob
    from sft_app.training.trainers.classic import build_classic_trainer

    ends_are_padding = copy.deepcopy(tokenizer)
    ends_are_padding.pad_token = ends_are_padding.eos_token
    rows = [{"input_ids": [5, 6, 2, 7], "labels": [5, 6, 2, 7]}, {"input_ids": [8, 2], "labels": [8, 2]}]
    settings = parse_settings({"trainer": "classic", "method": "full", "block_size": 16, "max_steps": 1})
    model = AutoModelForCausalLM.from_pretrained(tiny_model_dir)
    job = TrainingJob(model, ends_are_padding, Dataset.from_list(rows), [], settings, tmp_path, [])
    (batch,) = build_classic_trainer(job).get_train_dataloader()
    labels = {tuple(row) for row in batch["labels"].tolist()}
    assert labels == {(5, 6, 2, 7), (8, 2, -100, -100)}


def test_block_size_is_refused_for_the_default_trainer() -> None:
    with pytest.raises(SettingsError, match="block_size is only for the classic trainer"):
        parse_settings({"block_size": 64})


def test_dora_and_rslora_are_refused_where_there_is_no_adapter() -> None:
    with pytest.raises(SettingsError, match="full trains every weight"):
        parse_settings({"method": "full", "use_dora": True})


@pytest.mark.parametrize(
    ("values", "method"),
    [
        ({"trainer": "classic"}, "full"),
        ({"trainer": "sft"}, "lora"),
        ({}, "lora"),
        ({"trainer": "classic", "method": "lora"}, "lora"),
    ],
)
@pytest.mark.parametrize("in_file", [True, False])
def test_classic_trains_every_weight_unless_told_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, values: dict[str, Any], method: str, in_file: bool
) -> None:
    from sft_app.cli.train import settings_from

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    config = tmp_path / "config.json"
    config.write_text(json.dumps(values if in_file else {}))
    assert settings_from(config, {} if in_file else values).method == method


def test_choosing_a_trainer_on_the_page_chooses_its_method(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sft_app.ui.page import build_page

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    (event,) = [event for event in build_page(home).fns.values() if event.name == "apply_trainer"]
    assert [block.elem_id for block in event.inputs] == ["trainer"]
    assert [block.elem_id for block in event.outputs] == ["method"]
    assert [event.fn(trainer) for trainer in ("classic", "sft")] == ["full", "lora"]
