"""The memory formula counts what autograd keeps; here it is held against autograd itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset

from sft_app.data.tokens import IGNORED, RenderedConversation
from sft_app.models.catalog import resolve_model
from sft_app.models.hardware import detect_hardware
from sft_app.models.loading import keep_4bit_differentiable, load_base, load_tokenizer
from sft_app.models.lora_targets import attach_lora
from sft_app.models.shapes import read_shape
from sft_app.settings import RunSettings, parse_settings
from sft_app.training.estimates.memory import (
    layer_bytes,
)
from sft_app.training.trainers.arguments import TrainingJob
from sft_app.training.trainers.build import build_trainer

TOKENS = 96


def kept_bytes(model_dir: Path, home: Path, settings: RunSettings, dtype: str) -> int:
    """What autograd keeps of the decoder's layers for two conversations of `TOKENS` in all, parameters left out."""
    ref = resolve_model(str(model_dir), None, home)
    base = load_base(ref, home, detect_hardware(), dtype, in_4bit=settings.method == "qlora")
    keep_4bit_differentiable(base, True)
    model = base if settings.method == "full" else attach_lora(base, settings)
    rows = [{"input_ids": list(range(5, 5 + TOKENS // 2)), "labels": list(range(5, 5 + TOKENS // 2))}] * 2
    heldout = [RenderedConversation([5, 6, 7], [IGNORED, 6, 7], kept=3)]
    job = TrainingJob(model, load_tokenizer(ref, home), Dataset.from_list(rows), heldout, settings, home, [])
    trainer = build_trainer(job)
    seen: dict[int, int] = {}
    own = {parameter.untyped_storage().data_ptr() for parameter in trainer.model.parameters()}
    in_layers: list[bool] = [False]

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        place = tensor.untyped_storage().data_ptr()
        if in_layers[0] and place not in own:
            seen[place] = tensor.untyped_storage().nbytes()
        return tensor

    layers = [module for module in trainer.model.modules() if type(module).__name__ == "LlamaDecoderLayer"]
    layers[0].register_forward_pre_hook(lambda *_: in_layers.__setitem__(0, True))
    layers[-1].register_forward_hook(lambda *_: in_layers.__setitem__(0, False))
    batch = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    trainer.current_gradient_accumulation_steps = 1
    trainer.model.train()
    alive: list[Any] = []  # so that no storage is given away while others are counted
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (alive.append(t), keep(t))[1], lambda t: t):
        trainer.training_step(trainer.model, batch)
    return sum(seen.values())


@pytest.mark.parametrize(
    ("asked", "dtype"),
    [
        ({}, "float32"),  # fused
        ({"lora_target_modules": "q_proj,v_proj"}, "float32"),
        ({"packing": False}, "float32"),
        ({}, "bfloat16"),
        ({"method": "qlora"}, "float32"),
        ({"method": "qlora"}, "bfloat16"),
        ({"method": "full"}, "float32"),
        ({"trainer": "classic", "method": "full"}, "float32"),
    ],
)
def test_count_for_a_layer_is_what_autograd_keeps(
    tiny_model_dir: Path, home: Path, asked: dict[str, Any], dtype: str
) -> None:
    settings = parse_settings({"method": "lora", "per_device_train_batch_size": 2, "lora_r": 4, **asked})
    shape = read_shape(resolve_model(str(tiny_model_dir), None, home), home)
    compute = 2 if dtype == "bfloat16" else 4
    counted = TOKENS * shape.layers * layer_bytes(shape, settings, "cpu", compute)
    assert counted == pytest.approx(kept_bytes(tiny_model_dir, home, settings, dtype), rel=0.1)
