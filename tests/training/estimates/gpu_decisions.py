"""The decisions for well-known cards and sizes of model: precision, method, step, whether it fits, and the advice.

`python -m tests.training.estimates.gpu_decisions` prints the table that the test compares with `gpu_decisions.txt`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
from transformers import Qwen3Config

from sft_app.models.catalog import ModelRef
from sft_app.models.gpu_support import Gpu, explain_gpu
from sft_app.models.hardware import Hardware
from sft_app.models.shapes import ModelShape, read_shape
from sft_app.settings import parse_settings, with_recipe
from sft_app.training.estimates.speed import MachineSpeed
from sft_app.training.estimates.workload import Workload
from sft_app.training.preflight.fitting import suggest_change
from sft_app.training.preflight.plan import Preflight, check_plan
from sft_app.ui.train.preflight_views import step_on_gpu

# Free memory in GiB, precision, and what matrix products and memory reach, per second.
CARDS = {
    "T4": (14.4, "float16", 40e12, 0.27e12),
    "RTX 3060": (11.4, "bfloat16", 25e12, 0.33e12),
    "RTX 4090": (23.0, "bfloat16", 150e12, 0.9e12),
    "RTX 5090": (31.0, "bfloat16", 190e12, 1.6e12),
    "A100 40 GB": (39.0, "bfloat16", 250e12, 1.4e12),
    "A100 80 GB": (78.7, "bfloat16", 250e12, 1.8e12),
    "H100": (78.7, "bfloat16", 650e12, 3.0e12),
    "H200": (139.0, "bfloat16", 650e12, 4.3e12),
}
# Width, width of the MLP, layers, heads and whether the output layer is that of the embeddings: Qwen 3.
MODELS = {
    "0.6B": (1024, 3072, 28, 16, True),
    "1.7B": (2048, 6144, 28, 16, True),
    "4B": (2560, 9728, 36, 32, True),
    "8B": (4096, 12288, 36, 32, False),
}


def workload() -> Workload:
    """A thousand conversations of 60 to 1,024 tokens, half of them answers."""
    lengths = np.random.default_rng(0).lognormal(5.2, 0.6, 1000).clip(60, 1024).astype(int)
    tokens = np.sort(lengths)[::-1]
    return Workload(tokens, tokens // 2, conversations=1000, heldout=100, max_length=1024)


@lru_cache
def shape_of(model: str) -> ModelShape:
    hidden, intermediate, layers, heads, tied = MODELS[model]
    with tempfile.TemporaryDirectory() as folder:
        Qwen3Config(
            hidden_size=hidden,
            intermediate_size=intermediate,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=8,
            head_dim=128,
            vocab_size=151_936,
            tie_word_embeddings=tied,
            architectures=["Qwen3ForCausalLM"],
        ).save_pretrained(folder)
        return read_shape(ModelRef(model, folder, None, "local folder"), Path(folder))


def decide(card: str, model: str, method: str) -> str:
    """One line of the table."""
    free, dtype, flops, bandwidth = CARDS[card]
    hardware = Hardware("cuda", card, dtype, "", free, free, 8)
    speed = MachineSpeed("cuda", dtype, flops, bandwidth)

    def plan(settings: object) -> Preflight:
        return check_plan(settings, workload(), shape_of(model), hardware, speed, (1.0, 100.0))  # type: ignore[arg-type]

    chosen = parse_settings({"preset": "good", "replay": 0, "model": model, "method": method})
    settings = with_recipe(chosen, workload().conversations, shape_of(model).hidden_size)
    found = plan(settings)
    suggestion = suggest_change(settings, found, plan)
    fits = "fits" if found.fits_memory else "does not fit"
    advice = suggestion.sentence if suggestion else "-" if found.fits_memory else "nothing helps"
    memory = f"{found.memory_gib:.1f} of {free:.1f} GiB"
    precision = f"{settings.compute_dtype(dtype)} weights, {settings.step_dtype(dtype, 'cuda')} steps"
    return " | ".join((card, model, method, precision, step_on_gpu(found), memory, fits, advice))


def decide_without(gpu: Gpu, cuda: str) -> str:
    """One line for a card that torch cannot use: the processor's method, and what to install."""
    problem = explain_gpu(gpu, cuda)
    return " | ".join(
        (f"{gpu.name}, driver {gpu.driver}", "any", "lora" if problem else "qlora", "on the CPU", problem)
    )


def table() -> Iterator[str]:
    for card in CARDS:
        for model in MODELS:
            for method in ("qlora", "lora", "full"):
                yield decide(card, model, method)
    yield decide_without(Gpu("NVIDIA GeForce RTX 3060", "535.183", (8, 6)), "13.0")
    yield decide_without(Gpu("Tesla V100-SXM2-16GB", "580.82", (7, 0)), "13.0")


if __name__ == "__main__":
    print("\n".join(table()))  # noqa: T201
