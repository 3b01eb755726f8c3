"""Trained-looking pairs: a run folder of the tiny model whose adapter has random, non-zero weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

PROMPT = [{"role": "user", "content": "My order is late."}]


@pytest.fixture(scope="session")
def base_model(tiny_model_dir: Path) -> Any:
    """The tiny model in float32, as plain transformers loads it."""
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny_model_dir, dtype=torch.float32).eval()


@pytest.fixture(scope="session")
def prompt_ids(tokenizer: Any) -> Callable[[str], list[int]]:
    from sft_app.data.tokens import render_prompt

    return lambda text: render_prompt(tokenizer, [{"role": "user", "content": text}])


def randomise_adapter(model: Any, seed: int = 1, scale: float = 0.5) -> Any:
    """Gives every second factor random values: a fresh adapter has zeros there and changes nothing."""
    import torch

    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                noise = torch.randn(parameter.shape, generator=random) * scale
                parameter.copy_(noise.to(parameter.device, parameter.dtype))
    return model


def overflowing(model: Any) -> Any:
    """Weights that are numbers, so loading takes them, and whose products are none."""
    import torch

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.fill_(1e37)
    return model


@pytest.fixture(scope="session")
def make_run(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """A run folder with a saved adapter, or a full model, as a worker leaves it; `change` edits the model first."""

    def make(
        change: Callable[[Any], Any] = randomise_adapter, home: Path | None = None, **settings: Any
    ) -> SimpleNamespace:
        from sft_app.models.catalog import recorded_model
        from sft_app.models.hardware import detect_hardware
        from sft_app.models.loading import load_base, load_tokenizer
        from sft_app.models.lora_targets import attach_lora
        from sft_app.settings import parse_settings
        from sft_app.training.launch import create_queued_run
        from sft_app.training.saving import save_adapter

        home = home or tmp_path_factory.mktemp("home")
        data = home / "data.jsonl"
        row = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}
        data.write_text((json.dumps(row) + "\n") * 10)
        run = create_queued_run(
            parse_settings({"model": str(tiny_model_dir), "data": str(data), "heldout_min": 1, **settings}), home
        )
        chosen, ref = run.record().settings, recorded_model(run)
        model = load_base(ref, home, detect_hardware(), chosen.dtype, in_4bit=chosen.method == "qlora")
        if chosen.method != "full":
            model = attach_lora(model, chosen)
        save_adapter(change(model), load_tokenizer(ref, home, chosen.chat_template), run, ref.public_id)
        return SimpleNamespace(run=run, home=home, settings=chosen, ref=ref)

    return make


@pytest.fixture(scope="session")
def load_untouched() -> Callable[[Any], Any]:
    """The base of a made run without any adapter, loaded afresh."""

    def load(made: Any) -> Any:
        from sft_app.models.hardware import detect_hardware
        from sft_app.models.loading import load_base

        return load_base(
            made.ref, made.home, detect_hardware(), made.settings.dtype, in_4bit=made.settings.method == "qlora"
        )

    return load
