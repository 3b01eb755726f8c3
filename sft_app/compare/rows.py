"""One model that is another one in each row of a batch: its adapters, at a strength of each row's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch.nn.functional import linear

from sft_app.compare.few_rows import replaced_forward


@dataclass(frozen=True)
class RowAdapter:
    """The adapter that a row sees, by its name in the model, and how strongly; None is the base, exactly."""

    name: str | None = None
    strength: float = 1.0


@contextmanager
def scale_rows(model: Any, rows: Sequence[RowAdapter]) -> Iterator[None]:
    """Row i of a batch is the base with `rows[i]`'s adapter on it, and with no other.

    Each adapter's product is multiplied by a tensor of shape `(batch, 1, 1)` in place of its usual number, which is 0
    for the rows of others. Do not save or train inside.
    """
    names = sorted({row.name for row in rows if row.name is not None})
    before = [(layer, dict(layer.scaling)) for layer in lora_layers(model)]
    steps = {layer: _step_of(layer, rows) for layer, _ in before if _is_plain(layer)}
    with only_active(model, *names), replaced_forward(steps):
        try:
            for layer, scaling in before:
                for name in names:
                    if name in scaling:
                        weight, _ = factors_of(layer, name)
                        shares = [row.strength if row.name == name else 0.0 for row in rows]
                        each = torch.tensor(shares, dtype=weight.dtype, device=weight.device).view(-1, 1, 1)
                        layer.scaling[name] = each * scaling[name]
            yield
        finally:
            for layer, scaling in before:
                layer.scaling.update(scaling)


def _is_plain(layer: Any) -> bool:
    from peft.tuners.lora.layer import Linear

    return type(layer) is Linear and not layer.merged and not layer.lora_variant


def _step_of(layer: Any, rows: Sequence[RowAdapter]) -> Callable[..., torch.Tensor]:
    """The layer for one more token of each row: the same arithmetic, for those rows only that have an adapter."""
    usual, runs, start = layer.forward, [], 0
    for row, equal in groupby(rows):
        run = slice(start, start := start + len(list(equal)))
        if row.name is not None and row.name in layer.lora_A and row.strength != 0:
            a, b = factors_of(layer, row.name)
            runs.append((run, a, b.T, row.strength * layer.scaling[row.name]))

    def step(x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        if x.shape[:-1] != (len(rows), 1):
            return usual(x, *args, **kwargs)
        result = layer.base_layer(x, *args, **kwargs)
        tokens, results = x[:, 0], result[:, 0]
        for run, a, b, scaling in runs:
            inner = linear(tokens[run].to(a.dtype), a)
            if a.dtype == result.dtype:
                results[run].addmm_(inner, b, alpha=scaling)
            else:
                results[run].add_(inner @ b * scaling)
        return result

    return step


def can_scale_rows(model: Any, names: Sequence[str]) -> bool:
    """Not where an adapter is more than a scaled product added on (DoRA, trained biases, whole modules), nor where it
    is merged into the weights."""
    configs = [model.peft_config[name] for name in names]
    is_more = any(
        config.modules_to_save or config.bias != "none" or config.lora_bias or config.trainable_token_indices
        for config in configs
    )
    layers = lora_layers(model)
    is_plain = not any(layer.merged or name in layer.lora_variant for layer in layers for name in names)
    return bool(layers) and is_plain and not is_more


def lora_layers(model: Any) -> list[Any]:
    from peft.tuners.lora import LoraLayer

    return [module for module in model.modules() if isinstance(module, LoraLayer)]


def factors_of(layer: Any, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """A, `(rank, in)`, and B, `(out, rank)`, of an adapter's product in a layer that has it. An embedding keeps them
    under other names."""
    if name in layer.lora_A:
        return layer.lora_A[name].weight, layer.lora_B[name].weight
    return layer.lora_embedding_A[name], layer.lora_embedding_B[name]


@torch.no_grad()
def update_of(model: Any, name: str) -> tuple[int, float]:
    """In how many modules an adapter changes anything, and the Frobenius norm of all that it adds to the weights.

    The norm of `B A` comes from products of the rank's size: ‖B A‖² is the sum of the entries of `(B'B) ∘ (A A')`.
    """
    modules, squares = 0, 0.0
    for layer in lora_layers(model):
        if name not in layer.scaling:
            continue
        a, b = (factor.float() for factor in factors_of(layer, name))
        if b.any() and a.any():
            modules += 1
            squares += layer.scaling[name] ** 2 * float(((b.T @ b) * (a @ a.T)).sum())
    return modules, max(squares, 0.0) ** 0.5


@contextmanager
def only_active(model: Any, *names: str | None) -> Iterator[None]:
    """The model with these adapters and no others; without any it is the base. A model that has none stays as it is."""
    chosen = [name for name in names if name is not None]
    if not hasattr(model, "disable_adapter"):
        yield
    elif not chosen:
        with model.disable_adapter():
            yield
    else:
        before = model.base_model.active_adapters
        model.base_model.set_adapter(chosen, inference_mode=True)
        try:
            yield
        finally:
            model.base_model.set_adapter(before, inference_mode=True)
