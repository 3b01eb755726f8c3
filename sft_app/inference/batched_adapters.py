"""One model that is another one in each row of a batch: its adapters, at a strength of each row's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch.nn.functional import linear

from sft_app.errors import ModelError
from sft_app.inference.small_batch_linear import replaced_forward


@dataclass(frozen=True)
class RowAdapter:
    """The adapter that a row sees, by its name in the model, and how strongly; None is the base, exactly."""

    name: str | None = None
    strength: float = 1.0


@contextmanager
def scale_rows(model: Any, rows: Sequence[RowAdapter]) -> Iterator[None]:
    """Row i of a batch is the base with `rows[i]`'s adapter on it, and with no other; a single one is every row.

    Each adapter's product is computed and added for its own rows only. Nothing is multiplied by zero, so an adapter
    that overflows, to infinity or NaN, stays in its rows. Meanwhile `scaling` is a tensor of shape `(batch, 1, 1)`
    with each row's share. Do not save or train inside.
    """
    names = sorted({row.name for row in rows if row.name is not None})
    before = [(layer, dict(layer.scaling)) for layer in lora_layers(model)]
    forwards = {layer: _rows_apart(layer, rows) for layer, _ in before}
    with only_active(model, *names), replaced_forward(forwards):
        try:
            for layer, scaling in before:
                for name in (name for name in names if name in scaling):
                    shares = [row.strength if row.name == name else 0.0 for row in rows]
                    layer.scaling[name] = scaling[name] * torch.tensor(shares).view(-1, 1, 1)
            yield
        finally:
            for layer, scaling in before:
                layer.scaling.update(scaling)


@dataclass(frozen=True)
class _Run:
    """Neighbouring rows with one adapter, and its scaling at their strength."""

    rows: slice
    name: str
    scaling: float


def _rows_apart(layer: Any, rows: Sequence[RowAdapter]) -> Callable[..., torch.Tensor]:
    """The layer with each row's own adapter."""
    usual, runs, adds = layer.forward, _runs_of(layer, rows), _product_of(layer)

    def forward(x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        if len(rows) > 1 and len(x) != len(rows):
            raise ModelError(
                "This model mixes the rows of a batch, so two sides cannot answer as rows of one batch. "
                "Merge the adapter to compare it."
            )
        result = layer.base_layer(x, *args, **kwargs)
        for run in runs:
            if adds is None:
                result[run.rows] = _by_itself(layer, usual, run, x[run.rows], *args, **kwargs)
            else:
                adds(result[run.rows], x[run.rows], *factors_of(layer, run.name), run.scaling)
        return result

    return forward


def _runs_of(layer: Any, rows: Sequence[RowAdapter]) -> list[_Run]:
    runs, start = [], 0
    for row, equal in groupby(rows):
        place = slice(start, start := start + len(list(equal))) if len(rows) > 1 else slice(None)
        if row.name is not None and row.name in layer.scaling and row.strength != 0:
            runs.append(_Run(place, row.name, row.strength * layer.scaling[row.name]))
    return runs


def _product_of(layer: Any) -> Callable[..., None] | None:
    """How a linear layer adds an adapter's product in place, as PEFT does; None for other kinds of layers."""
    from peft.tuners.lora.layer import Linear

    if layer.merged:
        return None
    if type(layer) is Linear:
        return _add_product
    return _add_rounded_product if type(layer).__name__ in ("Linear4bit", "Linear8bitLt") else None


def _add_product(result: torch.Tensor, x: torch.Tensor, a: torch.Tensor, b: torch.Tensor, scaling: float) -> None:
    """A step of one token for each row is written as one function where the precisions allow it."""
    if x.ndim == 3 and x.shape[1] == 1 and a.dtype == result.dtype:
        result[:, 0].addmm_(linear(x[:, 0].to(a.dtype), a), b.T, alpha=scaling)
    else:
        result.add_(linear(linear(x.to(a.dtype), a), b) * scaling)


def _add_rounded_product(
    result: torch.Tensor, x: torch.Tensor, a: torch.Tensor, b: torch.Tensor, scaling: float
) -> None:
    """On a quantised base PEFT rounds the product to the base's precision before it is added."""
    result.add_((linear(linear(x.to(a.dtype), a), b) * scaling).to(result.dtype))


def _by_itself(layer: Any, usual: Callable[..., torch.Tensor], run: _Run, *args: Any, **kwargs: Any) -> torch.Tensor:
    """These rows by the layer's own function, with their adapter and no other."""
    active, scaling = layer._active_adapter, layer.scaling[run.name]
    layer._active_adapter, layer.scaling[run.name] = [run.name], run.scaling
    try:
        return usual(*args, **kwargs)
    finally:
        layer._active_adapter, layer.scaling[run.name] = active, scaling


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
