"""Adapters that other programs have made: loaded with the logits of plain PEFT, or refused with the reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from sft_app.errors import ModelError
from sft_app.models.adapters import load_adapter
from sft_app.models.catalog import resolve_model
from sft_app.models.hardware import detect_hardware
from sft_app.models.loading import load_base
from tests.families.prove import save_tiny

IDS = torch.arange(5, 30)[None]
ALONG = {"save_embedding_layers": True}
LOADED: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "rslora": ("llama", {"use_rslora": True}, {}),
    "dora": ("llama", {"use_dora": True}, {}),
    "ranks of their own": ("llama", {"rank_pattern": {"q_proj": 8}, "alpha_pattern": {"v_proj": 3}}, {}),
    "output layer": ("llama", {"target_modules": ["q_proj", "lm_head"]}, {}),
    "output layer, saved along": ("llama", {"target_modules": ["q_proj", "lm_head"]}, ALONG),
    "embedding": ("llama", {"target_modules": ["q_proj", "embed_tokens"]}, {}),
    "embedding, saved along": ("llama", {"target_modules": ["q_proj", "embed_tokens"]}, ALONG),
    "whole layers": ("llama", {"modules_to_save": ["embed_tokens", "lm_head"]}, {}),
    "shared output layer": ("llama_tied", {"target_modules": ["q_proj", "lm_head"]}, ALONG),
    "shared embedding": ("llama_tied", {"modules_to_save": ["embed_tokens"]}, {}),
    "biases": ("llama", {"lora_bias": True}, {}),
    "some layers": ("llama", {"layers_to_transform": [1]}, {}),
    "single tokens": ("llama", {"trainable_token_indices": [5, 6]}, {}),
    "mixture": ("qwen3_moe", {"target_modules": "all-linear"}, {}),
    "experts": ("qwen3_moe", {"target_parameters": ["experts.gate_up_proj", "experts.down_proj"]}, {}),
}


@pytest.fixture
def base_folder(tmp_path: Path) -> Callable[[str], Path]:
    return lambda family: save_tiny(family, tmp_path / family)


def make_adapter(base: Path, folder: Path, saving: dict[str, Any], vocabulary: int | None = None, **lora: Any) -> Any:
    """Saves an adapter with plain PEFT; the logits of the model that had it."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    if vocabulary:
        model.resize_token_embeddings(vocabulary)
    config = LoraConfig(task_type="CAUSAL_LM", **{"r": 4, "target_modules": ["q_proj", "v_proj"], **lora})
    adapted = get_peft_model(model, config)
    torch.manual_seed(2)
    for weight in adapted.parameters():
        if weight.requires_grad:
            torch.nn.init.normal_(weight, mean=1.0 if weight.ndim == 1 else 0.0, std=0.2)
    adapted.save_pretrained(folder, **saving)
    with torch.no_grad():
        return adapted.eval()(IDS, use_cache=False).logits


def load(base: Path, adapter: Path, home: Path) -> Any:
    return load_adapter(load_base(resolve_model(str(base), None, home), home, detect_hardware(), "float32"), adapter)


@pytest.mark.parametrize("name", LOADED)
def test_logits_are_those_of_plain_peft(name: str, base_folder: Any, tmp_path: Path, home: Path) -> None:
    family, lora, saving = LOADED[name]
    base = base_folder(family)
    expected = make_adapter(base, tmp_path / "adapter", saving, **lora)
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    adapted = load(base, tmp_path / "adapter", home)
    with torch.no_grad():
        torch.testing.assert_close(adapted(IDS, use_cache=False).logits, expected)
        with adapted.disable_adapter():
            torch.testing.assert_close(adapted(IDS, use_cache=False).logits, plain(IDS, use_cache=False).logits)
    assert not torch.allclose(expected, plain(IDS, use_cache=False).logits, atol=1e-2)


@pytest.mark.parametrize("lora", [{}, {"modules_to_save": ["embed_tokens", "lm_head"]}])
def test_another_vocabulary_is_refused_with_both_sizes(
    base_folder: Any, tmp_path: Path, home: Path, lora: dict[str, Any]
) -> None:
    base = base_folder("llama")
    make_adapter(base, tmp_path / "adapter", {}, vocabulary=140, **lora)
    with pytest.raises(ModelError, match="is for a vocabulary of 140 tokens, but the base model has 128"):
        load(base, tmp_path / "adapter", home)


def test_an_adapter_that_brings_another_embedding_is_refused(base_folder: Any, tmp_path: Path, home: Path) -> None:
    """Loading it would change the base model that it is compared with."""
    base, other = base_folder("llama"), tmp_path / "other"
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(1.1)
    model.save_pretrained(other)
    make_adapter(other, tmp_path / "adapter", ALONG)
    with pytest.raises(ModelError, match="comes with a changed model.embed_tokens.weight"):
        load(base, tmp_path / "adapter", home)
