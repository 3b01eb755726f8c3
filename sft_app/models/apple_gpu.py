"""Use the GPU of an Apple computer (torch's MPS) only if a training step on it equals the processor's.

The check is one step of a tiny model in float32, so nothing else is done on that GPU. It has not been tried on one.
"""

from __future__ import annotations

import sys
from functools import lru_cache

from sft_app.errors import kind_and_first_line

DEVICE = "mps"
# Different kernels round differently; a wrong one is off by far more. Relative to the size of each tensor.
TOLERANCE = 1e-3
ROWS, LENGTH, VOCABULARY = 2, 12, 64


def has_apple_gpu() -> bool:
    """Return whether torch sees the GPU of an Apple computer. Imports torch there."""
    if sys.platform != "darwin":
        return False
    import torch

    return torch.backends.mps.is_available()


@lru_cache(maxsize=1)
def apple_gpu_problem() -> str:
    """Say why the Apple GPU that is there is not used; empty if it is used or there is none."""
    return trial_problem(DEVICE) if has_apple_gpu() else ""


def trial_problem(device: str) -> str:
    """Take a training step on the processor and on this device, and say how they differ; empty if they agree."""
    try:
        difference = largest_difference(train_one_step("cpu"), train_one_step(device))
    except Exception as error:  # a backend that lacks an operation may fail in any way
        return f"The Apple GPU is not used, because a trial step failed on it ({kind_and_first_line(error)})."
    if difference <= TOLERANCE:
        return ""
    return f"The Apple GPU is not used, because a trial step on it differs from the processor's by {difference:.1%}."


def largest_difference(expected: dict[str, object], found: dict[str, object]) -> float:
    """Return the largest difference between tensors of the same name, relative to their size; infinite for NaN."""
    import torch

    differences = [float("inf")] if expected.keys() != found.keys() else [0.0]
    for name in expected.keys() & found.keys():
        one, other = torch.as_tensor(expected[name]), torch.as_tensor(found[name])
        difference = float((one - other).norm() / one.norm().clamp(min=1e-12))
        differences.append(difference if difference == difference else float("inf"))
    return max(differences)


def train_one_step(device: str) -> dict[str, object]:
    """Take one AdamW step of a tiny Llama on padded rows; return its loss, gradients and new weights on the CPU."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlamaForCausalLM(config).to(device)
        ids = torch.randint(VOCABULARY, (ROWS, LENGTH))
    mask = torch.ones_like(ids)
    mask[1, LENGTH // 2 :] = 0
    labels = ids.masked_fill(mask == 0, -100)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    loss = model(ids.to(device), attention_mask=mask.to(device), labels=labels.to(device)).loss
    loss.backward()
    gradients = {f"gradient of {name}": weight.grad.cpu() for name, weight in model.named_parameters()}
    optimizer.step()
    weights = {name: weight.detach().cpu() for name, weight in model.named_parameters()}
    return {"loss": loss.detach().cpu(), **gradients, **weights}
