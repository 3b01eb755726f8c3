"""Speed up linear layers for steps of one token in each row of a batch.

Such a step spends its time reading weights, and the form of the product decides how often they are read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MAX_ROWS = 64
# Narrower layers, such as an adapter's factors, gain nothing.
MIN_WIDTH = 64


@contextmanager
def patched_forward(functions: Mapping[Any, Callable[..., Any]]) -> Iterator[None]:
    """Replace the `forward` of these modules within the block."""
    for module, function in functions.items():
        module.__dict__["forward"] = function  # nn.Module's own __setattr__ is slow at every step
    try:
        yield
    finally:
        for module in functions:
            module.__dict__.pop("forward", None)


def small_batch_products(model: PreTrainedModel, rows: int) -> dict[Any, Callable[..., Any]]:
    """Return products written as `W x'` instead of `x W'` for float32 linear layers on a CPU and two or more rows.

    MKL takes 1.2 to 2 times as long for `x W'` with 2 to 64 rows. Beyond that, nothing was measured.
    """
    if not 1 < rows <= MAX_ROWS:
        return {}
    layers = (module for module in model.modules() if type(module) is nn.Linear and "forward" not in vars(module))
    return {layer: _product_function(layer) for layer in layers if _is_slow(layer.weight)}


def _is_slow(weight: torch.Tensor) -> bool:
    is_mkl = torch.backends.mkl.is_available()
    return is_mkl and weight.device.type == "cpu" and weight.dtype == torch.float32 and min(weight.shape) >= MIN_WIDTH


def _product_function(layer: nn.Linear) -> Callable[[torch.Tensor], torch.Tensor]:
    def product(x: torch.Tensor) -> torch.Tensor:
        rows = x.reshape(-1, x.shape[-1])
        if not 1 < len(rows) <= MAX_ROWS:
            return nn.functional.linear(x, layer.weight, layer.bias)
        # Copying a transposed result is faster than reading it as it is.
        result = nn.functional.linear(layer.weight, rows).T.contiguous().view(*x.shape[:-1], -1)
        return result if layer.bias is None else result + layer.bias

    return product
