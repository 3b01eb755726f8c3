"""Whether a way of computing a step gives, on this model and in its arithmetic, the loss and the gradients that it
gives for the same conversations one by one, without any shortcut.

The conversations are made of the run's own tokens, and short. A loss alone can hide a wrong gradient, so both count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from sft_app.data.tokens import IGNORED
from sft_app.training.fast_paths.step_plan import WORTH_SHARING

BEGINNING = WORTH_SHARING + 2
LENGTHS = (9, 31, 20)
"""Tokens that the conversations have after a common beginning."""
TINY = (5, 3, 4, 6)
"""Lengths of conversations so short that what leaks from one into the next is a large part of them."""
BEYOND = 16
"""Tokens by which one of them is longer than the model's window, where the run has such conversations."""
MOST_TRAINED = 64
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 4e-2, torch.float16: 1e-2}
"""Relative error that is the arithmetic's own; more is allowed only where padding, which is the library's own way,
makes as much of a difference."""
WIDEST = 0.2
TIMES_NOISE = 6.0
LOSS_SCALE = 1024.0
"""So that gradients do not vanish in float16."""
NAMES_OF_BOUNDS = (
    *("sliding_window", "attention_chunk_size", "attention_window_size", "window_size"),
    "original_max_position_embeddings",
)
Row = tuple[list[int], list[int]]


@dataclass(frozen=True)
class Step:
    """What a way gives: the loss, and the gradient of each weight that is trained."""

    loss: float
    gradients: list[torch.Tensor]

    def is_finite(self) -> bool:
        return all(bool(torch.isfinite(gradient).all()) for gradient in [torch.tensor(self.loss), *self.gradients])


def difference(steps: Sequence[Step], plain: Sequence[Step]) -> float:
    """The largest of the relative differences of losses and gradients; infinite where one is not finite."""
    return max(map(_difference, steps, plain))


def _difference(step: Step, plain: Step) -> float:
    apart = sum(float((one.float() - other.float()).square().sum()) for one, other in _pairs(step, plain))
    length = sum(float(gradient.float().square().sum()) for gradient in plain.gradients)
    found = max(abs(step.loss - plain.loss) / max(abs(plain.loss), 1e-6), (apart / max(length, 1e-30)) ** 0.5)
    return found if step.is_finite() and plain.is_finite() else float("inf")


def _pairs(step: Step, plain: Step) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    return zip(step.gradients, plain.gradients, strict=True)


def tolerance(dtype: torch.dtype, noise: float) -> float:
    """The largest `difference` that is none. `noise` is that of padding; in float32 it is nothing but a fault."""
    return TOLERANCE[dtype] if dtype == torch.float32 else min(WIDEST, max(TOLERANCE[dtype], TIMES_NOISE * noise))


def take_step(model: Any, compute_loss: Callable[[], torch.Tensor], dtype: torch.dtype) -> Step:
    """Forward and backward; the weights' own gradients are empty after it."""
    torch.manual_seed(0)
    loss = compute_loss()
    (loss * LOSS_SCALE if dtype == torch.float16 else loss).backward()
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    gradients = [_whole(weight.grad) if weight.grad is not None else torch.zeros_like(weight) for weight in trained]
    for weight in trained:
        weight.grad = None
    return Step(float(loss.detach()), gradients)


def _whole(gradient: torch.Tensor) -> torch.Tensor:
    return gradient.full_tensor() if hasattr(gradient, "full_tensor") else gradient


def probe_batches(ids: Sequence[list[int]], longest: int, config: Any) -> list[list[Row]]:
    """Conversations of the run's own tokens: some with one beginning, of which what comes after it is trained, and
    some tiny ones.

    `longest` is the length of the run's longest: the model's windows count where it is beyond them.
    """
    beginning, wanted = (ids[0] * BEGINNING)[:BEGINNING], list(LENGTHS)
    beyond = [bound for bound in _bounds(config) if bound < longest]
    if beyond:
        wanted[1] = max(beyond) + BEYOND
    alike = [_probe(beginning, _continued(ids, start, length)) for start, length in enumerate(wanted)]
    return [alike, [_probe([], _continued(ids, start, length)) for start, length in enumerate(TINY)]]


def _probe(beginning: list[int], rest: list[int]) -> Row:
    """The first token of all is never trained, since nothing comes before it."""
    trained = rest[-MOST_TRAINED:] if beginning else rest[1:]
    return beginning + rest, [IGNORED] * (len(beginning) + len(rest) - len(trained)) + trained


def _continued(rows: Sequence[list[int]], start: int, length: int) -> list[int]:
    """So many tokens: of the row at `start`, then of those after it, over and over; their ends, which differ most."""
    found: list[int] = []
    while len(found) < length:
        found += rows[start % len(rows)]
        start += 1
    return found[-length:]


def _bounds(config: Any) -> list[int]:
    """Numbers of tokens beyond which the model computes in another way."""
    rope = getattr(config, "rope_parameters", None) or {}
    known = [getattr(config, name, None) for name in NAMES_OF_BOUNDS]
    scaled = [part.get("original_max_position_embeddings") for part in (rope, *rope.values()) if isinstance(part, dict)]
    return [bound for bound in [*known, *scaled] if isinstance(bound, int) and bound > 0]


@contextmanager
def undisturbed(model: Any) -> Iterator[None]:
    """Without chance (dropout, noise), and with an effect of the adapter: a fresh one has none, and so its gradients
    would not show what is wrong with it. The model and the random state are as they were afterwards."""
    devices = [model.device] if model.device.type == "cuda" else []
    was_training, changed = model.training, list(_without_chance(model))
    zeros = [weight for weight in model.parameters() if weight.requires_grad and _is_empty(weight)]
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


def _is_empty(weight: torch.Tensor) -> bool:
    return not hasattr(weight, "to_local") and not bool(weight.any())


def _without_chance(model: Any) -> Iterator[tuple[Any, str, float]]:
    """Takes every module's probabilities of chance away, and gives what they were."""
    for module in model.modules():
        for name, value in list(vars(module).items()):
            is_chance = "drop" in name or "jitter" in name or name == "neftune_noise_alpha"
            is_chance = is_chance or (name == "p" and isinstance(module, torch.nn.modules.dropout._DropoutNd))
            if is_chance and isinstance(value, float) and value > 0:
                setattr(module, name, 0.0)
                yield module, name, value
