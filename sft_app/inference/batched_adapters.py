"""Apply a different LoRA adapter to each row of a batch, each at its own strength."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import linear

from sft_app.errors import ModelError
from sft_app.inference.small_batch_linear import patched_forward

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class RowAdapter:
    """Names the adapter of a row in the model, and its strength. None is exactly the base model."""

    name: str | None = None
    strength: float = 1.0


@contextmanager
def apply_row_adapters(model: PreTrainedModel, rows: Sequence[RowAdapter]) -> Iterator[None]:
    """Apply `rows[i]`'s adapter, and no other, to row i of a batch. A single entry applies to all rows.

    Each adapter's product is computed and added for its own rows only. Nothing is multiplied by zero, so an adapter
    that overflows to infinity or NaN stays in its rows. Within the block, `scaling` is a tensor of shape `(batch, 1,
    1)` with each row's scaling. Do not save or train inside.
    """
    names = sorted({row.name for row in rows if row.name is not None})
    before = [(layer, dict(layer.scaling)) for layer in lora_layers(model)]
    forwards = {layer: _forward_by_row_group(layer, rows) for layer, _ in before}
    with only_active(model, *names), patched_forward(forwards):
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
class _RowGroup:
    """Describes adjacent rows with the same adapter, and its scaling at their strength."""

    rows: slice
    name: str
    scaling: float


def _forward_by_row_group(layer: Any, rows: Sequence[RowAdapter]) -> Callable[..., torch.Tensor]:
    """Return the layer's forward function with each row's own adapter."""
    original, groups, add_product = layer.forward, _group_rows(layer, rows), _product_function(layer)

    def forward(x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        if len(rows) > 1 and len(x) != len(rows):
            raise ModelError(
                "This model mixes the rows of a batch, so two sides cannot answer as rows of one batch. "
                "Merge the adapter to compare it."
            )
        result: torch.Tensor = layer.base_layer(x, *args, **kwargs)
        for group in groups:
            if add_product is None:
                result[group.rows] = _forward_rows_alone(layer, original, group, x[group.rows], *args, **kwargs)
            else:
                add_product(result[group.rows], x[group.rows], *lora_factors(layer, group.name), group.scaling)
        return result

    return forward


def _group_rows(layer: Any, rows: Sequence[RowAdapter]) -> list[_RowGroup]:
    groups, start = [], 0
    for row, equal in groupby(rows):
        row_slice = slice(start, start := start + len(list(equal))) if len(rows) > 1 else slice(None)
        if row.name is not None and row.name in layer.scaling and row.strength != 0:
            groups.append(_RowGroup(row_slice, row.name, row.strength * layer.scaling[row.name]))
    return groups


def _product_function(layer: Any) -> Callable[..., None] | None:
    """Return the function that adds an adapter's product in place, as PEFT does, or None for other kinds of layers."""
    from peft.tuners.lora.layer import Linear

    if layer.merged:
        return None
    if type(layer) is Linear:
        return _add_product
    return _add_rounded_product if type(layer).__name__ in ("Linear4bit", "Linear8bitLt") else None


def _add_product(result: torch.Tensor, x: torch.Tensor, a: torch.Tensor, b: torch.Tensor, scaling: float) -> None:
    """Add the product in place. A step of one token per row uses one fused call if the dtypes allow it."""
    if not _add_fused(result, x, a, b, scaling):
        result.add_(linear(linear(x.to(a.dtype), a), b) * scaling)


def _add_rounded_product(
    result: torch.Tensor, x: torch.Tensor, a: torch.Tensor, b: torch.Tensor, scaling: float
) -> None:
    """Add the product on a quantised base: in one call if possible, else rounded to the base's dtype, as PEFT does."""
    if not _add_fused(result, x, a, b, scaling):
        result.add_((linear(linear(x.to(a.dtype), a), b) * scaling).to(result.dtype))


def _add_fused(result: torch.Tensor, x: torch.Tensor, a: torch.Tensor, b: torch.Tensor, scaling: float) -> bool:
    """Add the product of a step of one token per row in one call; return False if the shapes or dtypes forbid it."""
    if x.ndim != 3 or x.shape[1] != 1 or a.dtype != result.dtype:
        return False
    result[:, 0].addmm_(linear(x[:, 0].to(a.dtype), a), b.T, alpha=scaling)
    return True


def _forward_rows_alone(
    layer: Any, original: Callable[..., torch.Tensor], group: _RowGroup, *args: Any, **kwargs: Any
) -> torch.Tensor:
    """Compute these rows with the layer's own function, with their adapter and no other."""
    active, scaling = layer._active_adapter, layer.scaling[group.name]
    layer._active_adapter, layer.scaling[group.name] = [group.name], group.scaling
    try:
        return original(*args, **kwargs)
    finally:
        layer._active_adapter, layer.scaling[group.name] = active, scaling


def can_apply_row_adapters(model: PreTrainedModel, names: Sequence[str]) -> bool:
    """Return whether every adapter is just a scaled product: no DoRA, biases, whole modules, experts or merged weights.

    Experts are adapted for all rows of a batch at once.
    """
    configs = [model.peft_config[name] for name in names]
    is_more = any(
        config.modules_to_save or config.bias != "none" or config.lora_bias or config.trainable_token_indices
        for config in configs
    )
    layers = lora_layers(model)
    is_plain = not any(
        layer.merged or name in layer.lora_variant or (holds_experts(layer) and name in layer.scaling)
        for layer in layers
        for name in names
    )
    return bool(layers) and is_plain and not is_more


def lora_layers(model: PreTrainedModel) -> list[Any]:
    """Return the model's LoRA layers."""
    from peft.tuners.lora import LoraLayer

    return [module for module in model.modules() if isinstance(module, LoraLayer)]


def holds_experts(layer: Any) -> bool:
    """Return whether the layer adapts a tensor that holds a mixture's experts."""
    from peft.tuners.lora.layer import ParamWrapper

    return isinstance(layer, ParamWrapper)


def lora_factors(layer: Any, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return A `(rank, in)` and B `(out, rank)` of an adapter in a layer, and for experts one of each for every expert.

    Embeddings keep them under other names.
    """
    if holds_experts(layer):
        left, right, _ = layer.get_delta_factors(name)
        return right, left
    if name in layer.lora_A:
        return layer.lora_A[name].weight, layer.lora_B[name].weight
    return layer.lora_embedding_A[name], layer.lora_embedding_B[name]


@torch.no_grad()
def adapter_update(model: PreTrainedModel, name: str) -> tuple[int, float]:
    """Return how many modules an adapter changes, and the Frobenius norm of everything it adds to the weights.

    The norm of `B A` is computed from rank-sized products: ‖B A‖² is the sum of the entries of `(B'B) ∘ (A A')`. An
    expert tensor counts as one module.
    """
    modules, squares = 0, 0.0
    for layer in lora_layers(model):
        if name not in layer.scaling:
            continue
        a, b = (factor.float() for factor in lora_factors(layer, name))
        if b.any() and a.any():
            modules += 1
            squares += layer.scaling[name] ** 2 * float(((b.mT @ b) * (a @ a.mT)).sum())
    return modules, max(squares, 0.0) ** 0.5


@contextmanager
def only_active(model: PreTrainedModel, *names: str | None) -> Iterator[None]:
    """Activate these adapters and no others within the block; none activates the base."""
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
