"""Check whether a step plan gives the same loss and gradients on this model as the conversations one by one.

The conversations are short and made of the run's own tokens. A loss alone can hide a wrong gradient, so both are
compared, in the model's own precision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from sft_app.data.tokens import IGNORED
from sft_app.training.fast_paths.step_plan import MIN_SHARED_TOKENS

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

PREFIX_LENGTH = MIN_SHARED_TOKENS + 2
CONTINUATION_LENGTHS = (9, 31, 20)
"""Tokens of each conversation after the common prefix."""
TINY_LENGTHS = (5, 3, 4, 6)
"""Lengths of conversations so short that any leak from one into the next is a large part of them."""
TOKENS_BEYOND_WINDOW = 16
"""Tokens by which one conversation exceeds the model's window, if the run has such conversations."""
MAX_TRAINED_TOKENS = 64
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 4e-2, torch.float16: 1e-2}
"""Relative error explained by rounding. More is allowed only if padding, the library's own layout, makes as much."""
MAX_TOLERANCE = 0.2
NOISE_FACTOR = 6.0
LOSS_SCALE = 1024.0
"""Keeps gradients from vanishing in float16."""
WINDOW_SETTINGS = (
    *("sliding_window", "attention_chunk_size", "attention_window_size", "window_size"),
    "original_max_position_embeddings",
)
TokenizedRow = tuple[list[int], list[int]]


@dataclass(frozen=True)
class StepResult:
    """Holds the loss of a step and the gradient of each trained weight."""

    loss: float
    gradients: list[torch.Tensor]

    def is_finite(self) -> bool:
        """Return whether the loss and all gradients are finite."""
        return all(bool(torch.isfinite(gradient).all()) for gradient in [torch.tensor(self.loss), *self.gradients])


def relative_difference(steps: Sequence[StepResult], plain: Sequence[StepResult]) -> float:
    """Return the largest relative difference of losses and gradients, infinite if any is not finite."""
    return max(map(_difference, steps, plain))


def _difference(step: StepResult, plain: StepResult) -> float:
    squared_difference = sum(float((one.float() - other.float()).square().sum()) for one, other in _pairs(step, plain))
    squared_norm = sum(float(gradient.float().square().sum()) for gradient in plain.gradients)
    difference = max(
        abs(step.loss - plain.loss) / max(abs(plain.loss), 1e-6), (squared_difference / max(squared_norm, 1e-30)) ** 0.5
    )
    return difference if step.is_finite() and plain.is_finite() else float("inf")


def _pairs(step: StepResult, plain: StepResult) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    return zip(step.gradients, plain.gradients, strict=True)


def allowed_difference(dtype: torch.dtype, noise: float) -> float:
    """Return the largest `relative_difference` that rounding explains.

    `noise` is the difference that padding makes; in float32, padding should make none.
    """
    return (
        TOLERANCE[dtype] if dtype == torch.float32 else min(MAX_TOLERANCE, max(TOLERANCE[dtype], NOISE_FACTOR * noise))
    )


def compute_step(model: PreTrainedModel, compute_loss: Callable[[], torch.Tensor], dtype: torch.dtype) -> StepResult:
    """Run forward and backward and return the result; the weights' own gradients are empty afterwards."""
    torch.manual_seed(0)
    loss = compute_loss()
    (loss * LOSS_SCALE if dtype == torch.float16 else loss).backward()
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    gradients = [
        _full_gradient(weight.grad) if weight.grad is not None else torch.zeros_like(weight) for weight in trained
    ]
    for weight in trained:
        weight.grad = None
    return StepResult(float(loss.detach()), gradients)


def _full_gradient(gradient: torch.Tensor) -> torch.Tensor:
    return gradient.full_tensor() if hasattr(gradient, "full_tensor") else gradient


def probe_batches(ids: Sequence[list[int]], longest: int, config: PreTrainedConfig) -> list[list[TokenizedRow]]:
    """Build two batches from the run's tokens: conversations with a common prefix, and tiny ones.

    In the first, only what follows the prefix is trained. `longest` is the length of the run's longest conversation;
    the model's window matters only if it is shorter.
    """
    beginning, lengths = (ids[0] * PREFIX_LENGTH)[:PREFIX_LENGTH], list(CONTINUATION_LENGTHS)
    beyond = [bound for bound in _window_lengths(config) if bound < longest]
    if beyond:
        lengths[1] = max(beyond) + TOKENS_BEYOND_WINDOW
    with_prefix = [_probe_row(beginning, _continuation(ids, start, length)) for start, length in enumerate(lengths)]
    return [
        with_prefix,
        [_probe_row([], _continuation(ids, start, length)) for start, length in enumerate(TINY_LENGTHS)],
    ]


def _probe_row(beginning: list[int], rest: list[int]) -> TokenizedRow:
    """Build a row. The very first token is never trained, since nothing precedes it."""
    trained = rest[-MAX_TRAINED_TOKENS:] if beginning else rest[1:]
    return beginning + rest, [IGNORED] * (len(beginning) + len(rest) - len(trained)) + trained


def _continuation(rows: Sequence[list[int]], start: int, length: int) -> list[int]:
    """Return `length` tokens of the rows from `start` on, cut at the front because their ends differ most."""
    continuation: list[int] = []
    while len(continuation) < length:
        continuation += rows[start % len(rows)]
        start += 1
    return continuation[-length:]


def _window_lengths(config: PreTrainedConfig) -> list[int]:
    """Return the numbers of tokens beyond which the model computes differently."""
    rope = getattr(config, "rope_parameters", None) or {}
    known = [getattr(config, name, None) for name in WINDOW_SETTINGS]
    scaled = [part.get("original_max_position_embeddings") for part in (rope, *rope.values()) if isinstance(part, dict)]
    return [bound for bound in [*known, *scaled] if isinstance(bound, int) and bound > 0]


@contextmanager
def without_randomness(model: PreTrainedModel) -> Iterator[None]:
    """Turn off dropout and noise within the block, and give a fresh adapter an effect.

    Without an effect, its gradients would not show what is wrong. The model and the random state are restored
    afterwards.
    """
    devices = [model.device] if model.device.type == "cuda" else []
    was_training, changed = model.training, list(_disable_randomness(model))
    zeros = [weight for weight in model.parameters() if weight.requires_grad and _is_all_zero(weight)]
    with torch.random.fork_rng(devices):
        try:
            model.train()
            with torch.no_grad():
                for weight in zeros:
                    weight.normal_(std=0.02, generator=torch.Generator(weight.device).manual_seed(weight.numel()))
            yield
        finally:
            for module, name, value in changed:
                setattr(module, name, value)
            with torch.no_grad():
                for weight in zeros:
                    weight.zero_()
            model.train(was_training)


def _is_all_zero(weight: torch.Tensor) -> bool:
    return not hasattr(weight, "to_local") and not bool(weight.any())


def _disable_randomness(model: PreTrainedModel) -> Iterator[tuple[Any, str, float]]:
    """Set every module's random probabilities to 0, and yield their previous values."""
    for module in model.modules():
        for name, value in list(vars(module).items()):
            is_chance = "drop" in name or "jitter" in name or name == "neftune_noise_alpha"
            is_chance = is_chance or (name == "p" and isinstance(module, torch.nn.modules.dropout._DropoutNd))
            if is_chance and isinstance(value, float) and value > 0:
                setattr(module, name, 0.0)
                yield module, name, value
