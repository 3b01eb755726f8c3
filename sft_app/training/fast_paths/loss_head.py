"""Compute the loss of the trained tokens in chunks, so that a batch's logits never fill the memory at once.

With a vocabulary of 128,000, the logits are larger than all other activations. Forward and backward are one pass, since
the gradient of a cross-entropy needs nothing that comes later.

This is for CPUs. On a GPU, runs use the fused head that TRL adds to every model of an `SFTTrainer`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from sft_app.training.fast_paths.step_plan import MAX_LOGITS_IN_MEMORY

if TYPE_CHECKING:
    from transformers import PreTrainedModel

FUSED_HEAD_DEVICE = "cuda"
"""Where TRL's fused head computes trained positions only, in chunks; elsewhere it computes all positions."""


class SummedCrossEntropy(torch.autograd.Function):
    """Sums the float32 loss of `hidden (tokens, width)`, `weight (vocabulary, width)`, `targets (tokens,)`."""

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        hidden_gradient = torch.empty_like(hidden)
        weight_gradient = torch.zeros_like(weight, dtype=torch.float32) if ctx.needs_input_grad[1] else None
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        rows = positions_per_chunk(len(weight))
        room = hidden.new_empty((min(rows, len(targets)), len(weight)), dtype=weight.dtype)
        for start in range(0, len(targets), rows):
            part, target_ids = hidden[start : start + rows], targets[start : start + rows, None]
            logits = torch.mm(part, weight.t(), out=room[: len(part)]).float()
            logits -= logits.amax(dim=-1, keepdim=True)
            total -= logits.gather(-1, target_ids).sum()
            normaliser = logits.exp_().sum(dim=-1, keepdim=True)
            total += normaliser.log().sum()
            gradient = logits.div_(normaliser)  # softmax minus one-hot
            gradient.scatter_add_(-1, target_ids, gradient.new_full(target_ids.shape, -1.0))
            gradient = gradient.to(weight.dtype)
            torch.mm(gradient, weight, out=hidden_gradient[start : start + rows])
            if weight_gradient is not None:
                weight_gradient += gradient.t() @ part
        ctx.save_for_backward(hidden_gradient, weight_gradient)
        return total

    @staticmethod
    def backward(ctx: Any, scale: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        of_hidden, of_weight = ctx.saved_tensors
        return of_hidden * scale, None if of_weight is None else of_weight * scale, None


def positions_per_chunk(vocabulary: int) -> int:
    """Return how many positions' logits are in memory at once."""
    return max(1, MAX_LOGITS_IN_MEMORY // vocabulary)


def plain_head_weight(model: PreTrainedModel) -> torch.Tensor | None:
    """Return the weight of the output layer if the model's logits are exactly its product, else None.

    Some models scale or cap their logits, or add a bias; those need the model's own head. The comparison is exact,
    since a cap hardly changes the logits of an untrained model.
    """
    head, inner = model.get_output_embeddings(), backbone(model)
    if type(head) is not torch.nn.Linear or head.bias is not None or inner is None:
        return None
    seen: dict[str, Any] = {}
    hooks = [
        inner.register_forward_hook(lambda _, __, output: seen.update(hidden=output[0])),
        head.register_forward_hook(lambda _, inputs, output: seen.update(read=inputs[0], wrote=output)),
    ]
    ids, was_training = torch.arange(4, device=head.weight.device)[None], model.training
    model.eval()
    try:
        with torch.no_grad():
            logits = model(input_ids=ids, use_cache=False).logits
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    is_plain = (
        {"hidden", "wrote"} <= seen.keys()
        and _are_equal(seen["hidden"], seen["read"])
        and _are_equal(seen["wrote"], logits)
    )
    return head.weight if is_plain else None


def _are_equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one.float(), other.float())


def backbone(model: PreTrainedModel) -> Any:
    """Return the model without its output layer, adapters included; None if that is not one module."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return getattr(inner, inner.base_model_prefix, None)
