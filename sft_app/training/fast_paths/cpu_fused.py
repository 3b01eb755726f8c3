"""Replace chains of small operations in a layer by fused functions that make fewer passes over memory.

On a CPU, a training step spends about half its time outside matrix products, reading and writing activations. Each
function here gives the same numbers as what it replaces, which is checked on the module itself first. It is used in
training only; evaluation and generation run the libraries' own code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import linear, silu

from sft_app.models.loading import ADAPTER_NAME

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ORIGINAL_FORWARD = "_forward_before_fusing"
NORM_INPUT_SCALES = (1e-3, 1.0, 30.0)
"""Scales of the rows that a norm is checked with; small ones reveal a wrong epsilon."""


class LoraLinearFunction(torch.autograd.Function):
    """Computes `x W' + bias + scale (x A') B'` in place. Gradients for x, A and B; the base is frozen."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, a: Any, b: Any, scale: float
    ) -> torch.Tensor:
        rows = x.reshape(-1, x.shape[-1]).to(weight.dtype)
        narrow = rows @ a.to(weight.dtype).t()
        output = linear(rows, weight, bias)
        output.addmm_(narrow, b.to(weight.dtype).t(), alpha=scale)
        ctx.save_for_backward(rows, weight, a, b, narrow)
        ctx.scale, ctx.shape, ctx.dtype = scale, x.shape, x.dtype
        return output.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        rows, weight, a, b, narrow = ctx.saved_tensors
        gradient = gradient.reshape(-1, gradient.shape[-1])
        of_narrow = (gradient @ b.to(weight.dtype)).mul_(ctx.scale)
        of_b = (gradient.t() @ narrow).mul_(ctx.scale).to(b.dtype)
        of_a = (of_narrow.t() @ rows).to(a.dtype)
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = (gradient @ weight).addmm_(of_narrow, a.to(weight.dtype)).view(ctx.shape).to(ctx.dtype)
        return of_x, None, None, of_a, of_b, None


class RMSNormFunction(torch.autograd.Function):
    """Computes `weight x / sqrt(mean(x^2) + eps)` over the last dimension. Gradient for x only; the weight is frozen.

    Source: Zhang & Sennrich 2019, "Root Mean Square Layer Normalization", arXiv 1910.07467.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        mean_square = torch.linalg.vecdot(x, x).unsqueeze_(-1).div_(x.shape[-1])
        reciprocal = mean_square.add_(eps).rsqrt_()
        normed: torch.Tensor = x * reciprocal
        ctx.save_for_backward(normed, reciprocal, weight)
        return normed * weight

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        normed, reciprocal, weight = ctx.saved_tensors
        of_x = gradient * weight
        along = torch.linalg.vecdot(of_x, normed).unsqueeze_(-1).div_(normed.shape[-1])
        return of_x.addcmul_(normed, along, value=-1).mul_(reciprocal), None, None


class SwiGLUFunction(torch.autograd.Function):
    """Computes `silu(gate) up` and keeps only its two inputs.

    Source: Shazeer 2020, "GLU Variants Improve Transformer", arXiv 2002.05202.
    """

    @staticmethod
    def forward(ctx: Any, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(gate, up)
        return silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        gate, up = ctx.saved_tensors
        of_up = silu(gate).mul_(gradient)
        return torch.ops.aten.silu_backward(gradient * up, gate), of_up


def fuse_modules(model: PreTrainedModel) -> int:
    """Replace modules by the functions above where they agree, and return how many were replaced.

    Only on a CPU in float32, where they were measured. Adapters with dropout or of another kind than plain LoRA, and
    weights that are trained themselves, keep the libraries' code.
    """
    modules = [module for module in model.modules() if _is_plain_float32(module)]
    return sum(_replace(module) for module in modules)


def _replace(module: Any) -> bool:
    """Return whether the module's forward was replaced."""
    fused, example = _fused_function(module)
    if fused is None or not _are_equivalent(module.forward, fused, example):
        return False
    own, vars(module)[ORIGINAL_FORWARD] = module.forward, vars(module).get("forward")
    module.forward = lambda x, *args, **kwargs: (
        fused(x) if module.training and not args and not kwargs else own(x, *args, **kwargs)
    )
    return True


def unfuse_modules(model: PreTrainedModel) -> None:
    """Restore every module that `fuse_modules` replaced."""
    for module in model.modules():
        if ORIGINAL_FORWARD in vars(module):
            own = vars(module).pop(ORIGINAL_FORWARD)
            vars(module).pop("forward") if own is None else vars(module).update(forward=own)


def _fused_function(module: Any) -> tuple[Callable[[torch.Tensor], torch.Tensor] | None, torch.Tensor]:
    """Return the function that may replace a module, and an input to compare both with."""
    from peft.tuners.lora import Linear as LoraLinear

    if type(module) is LoraLinear:
        return _lora_product(module), torch.randn(3, module.in_features)
    if type(module).__name__.endswith("RMSNorm") and _has_frozen_scale(module):
        eps = getattr(module, "variance_epsilon", getattr(module, "eps", 1e-6))
        example = torch.randn(len(NORM_INPUT_SCALES), len(module.weight)) * torch.tensor(NORM_INPUT_SCALES)[:, None]
        return lambda x: RMSNormFunction.apply(x, module.weight, eps), example
    if all(hasattr(module, name) for name in ("gate_proj", "up_proj", "down_proj", "act_fn")) and hasattr(
        module.gate_proj, "in_features"
    ):
        width = module.gate_proj.in_features
        return lambda x: module.down_proj(SwiGLUFunction.apply(module.gate_proj(x), module.up_proj(x))), torch.randn(
            3, width
        )
    return None, torch.empty(0)


def _lora_product(layer: Any) -> Callable[[torch.Tensor], torch.Tensor] | None:
    base = layer.base_layer
    is_plain = (
        list(layer.lora_A) == [ADAPTER_NAME]
        and not layer.lora_variant
        and isinstance(layer.lora_dropout[ADAPTER_NAME], torch.nn.Identity)
        and not layer.lora_bias.get(ADAPTER_NAME)
        and type(base) is torch.nn.Linear
        and not base.weight.requires_grad
    )
    if not is_plain:
        return None
    a, b = layer.lora_A[ADAPTER_NAME], layer.lora_B[ADAPTER_NAME]
    return lambda x: LoraLinearFunction.apply(
        x, base.weight, base.bias, a.weight, b.weight, layer.scaling[ADAPTER_NAME]
    )


def _has_frozen_scale(norm: torch.nn.Module) -> bool:
    """Return whether the norm has a frozen weight; some norms have none."""
    weight = getattr(norm, "weight", None)
    return isinstance(weight, torch.Tensor) and weight.dim() == 1 and not weight.requires_grad


def _is_plain_float32(module: torch.nn.Module) -> bool:
    """Return whether the module has parameters, all of them float32 on the CPU."""
    own = list(module.parameters())
    return bool(own) and all(weight.dtype == torch.float32 and weight.device.type == "cpu" for weight in own)


@torch.no_grad()
def _are_equivalent(own: Callable[..., Any], fused: Callable[..., Any], example: torch.Tensor) -> bool:
    return torch.allclose(own(example), fused(example), rtol=1e-4, atol=1e-5)
