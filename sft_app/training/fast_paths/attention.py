"""Compute attention within each conversation of a packed row, without a mask over the whole row.

With a block mask, every kernel works through the square of the row's length, most of it for nothing. Here each
conversation has a causal attention of its own: one variable-length kernel on a GPU that supports it, otherwise one call
per conversation.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface

from sft_app.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

SEPARATE_ATTENTION = "separate_conversations"
HALF_PRECISION = (torch.float16, torch.bfloat16)
KERNEL_DEVICE, MAX_HEAD_DIM = "cuda", 256
MAX_VALIDATION_LENGTH = 4096
"""Longest conversation, in tokens, to validate the kernel with; a wider window is validated at this width."""
QUERY_BLOCK_SIZE = 128
"""With a mask, the kernel also reads the keys after a query; blocks of queries skip most of them."""


@contextmanager
def separate_attention(model: PreTrainedModel) -> Iterator[None]:
    """Use separate attention within the block, for forward and backward passes over rows with `cu_seq_lens_q`.

    A model that needs more than a causal mask keeps its own attention, which reads `position_ids`.
    """
    config = model.config.get_text_config()
    before = config._attn_implementation
    if supports_separate_attention(config):
        config._attn_implementation = SEPARATE_ATTENTION
    try:
        yield
    finally:
        config._attn_implementation = before


def uses_separate_attention(model: PreTrainedModel) -> bool:
    """Return whether the model uses separate attention now."""
    return bool(model.config.get_text_config()._attn_implementation == SEPARATE_ATTENTION)


def supports_separate_attention(config: PreTrainedConfig) -> bool:
    """Return whether the model's attention needs no more than a causal mask or sliding window."""
    needs_more = (getattr(config, name, None) for name in ("attn_logit_softcapping", "attention_chunk_size"))
    return config._attn_implementation == "sdpa" and not any(needs_more)


@dataclass(frozen=True)
class KernelUse:
    """Describes how a layer would use the variable-length kernel.

    `value_dim` is the head dimension of the values, `dim` that of queries and keys.
    """

    device: torch.device
    dtype: torch.dtype
    heads: int
    key_heads: int
    dim: int
    value_dim: int
    window: int | None
    scaling: float | None

    def is_possible(self) -> bool:
        """Return whether the kernel supports this use.

        Source: torch's flash attention: heads of at most 256, a multiple of 8, values as wide as queries.
        """
        is_fit = self.dim % 8 == 0 and self.dim <= MAX_HEAD_DIM and self.value_dim == self.dim
        return self.device.type == KERNEL_DEVICE and self.dtype in HALF_PRECISION and is_fit


_kernel_uses: dict[KernelUse, bool] = {}
"""What layers asked for, and whether the kernel passed validation. Constant within a step, since a layer whose
activations are recomputed must use the same kernel both times."""


def validate_kernel() -> bool:
    """Validate the kernel for every use that layers have asked for, and return whether it can be used for any."""
    for use in _kernel_uses:
        _kernel_uses[use] = _has_variable_length_kernel(use)
    return any(_kernel_uses.values())


def disable_kernel() -> None:
    """Stop all layers from using the kernel until it is validated again."""
    _kernel_uses.clear()


def attend_separately(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    cu_seq_lens_q: torch.Tensor | None = None,
    max_length_q: int | None = None,
    prefix_length: int = 0,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Attend within each conversation: `(1, heads, tokens, dim)` to `(1, tokens, heads, dim)`.

    The signature is that of transformers' attention functions. `cu_seq_lens_q`, `(conversations + 1,)`, has the
    boundaries. With `prefix_length`, the first part of the row is a prefix that all other parts continue.

    Raises: ModelError if the layer did not pass the boundaries on, or needs what this attention lacks.
    """
    if cu_seq_lens_q is None:
        raise ModelError("A layer of this model does not pass on where conversations begin.")
    if attention_mask is not None or not others.get("is_causal", True) or _unsupported_arguments(others):
        raise ModelError(
            f"A layer of this model needs more than causal attention: {_unsupported_arguments(others) or 'a mask'}."
        )
    if prefix_length:
        return _attend_after_prefix(query, key, value, scaling, cu_seq_lens_q.tolist()), None
    use = KernelUse(
        *(query.device, query.dtype, query.shape[1], key.shape[1], query.shape[3], value.shape[3]),
        *(sliding_window, scaling),
    )
    if dropout == 0 and _kernel_uses.setdefault(use, False):
        longest = max_length_q or int(cu_seq_lens_q.diff().max())
        return _attend_in_one_kernel(query, key, value, scaling, sliding_window, cu_seq_lens_q, longest), None
    return _attend_one_by_one(query, key, value, scaling, dropout, sliding_window, cu_seq_lens_q.tolist()), None


def _unsupported_arguments(others: dict[str, Any]) -> str:
    """Name the arguments some models use to change their scores, in transformers' spelling; empty if none."""
    known = ("softcap", "s_aux", "position_bias", "head_mask")
    return ", ".join(name for name in known if others.get(name) is not None)


def _attend_one_by_one(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scaling: float | None,
    dropout: float,
    sliding_window: int | None,
    borders: list[int],
) -> torch.Tensor:
    outputs = []
    for start, end in zip(borders, borders[1:], strict=False):
        mask = None
        if sliding_window is not None and end - start > sliding_window:
            positions = torch.arange(end - start, device=query.device)
            distance = positions[:, None] - positions
            mask = (distance >= 0) & (distance < sliding_window)
        outputs.append(
            scaled_dot_product_attention(
                query[:, :, start:end],
                key[:, :, start:end],
                value[:, :, start:end],
                attn_mask=mask,
                dropout_p=dropout,
                is_causal=mask is None,
                scale=scaling,
                enable_gqa=query.shape[1] != key.shape[1],
            )
        )
    return torch.cat(outputs, dim=2).transpose(1, 2).contiguous()


def _attend_after_prefix(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float | None, borders: list[int]
) -> torch.Tensor:
    attend = partial(scaled_dot_product_attention, scale=scaling, enable_gqa=query.shape[1] != key.shape[1])
    prefix = borders[1]
    first_keys, first_values = key[:, :, :prefix], value[:, :, :prefix]
    outputs = [attend(query[:, :, :prefix], first_keys, first_values, is_causal=True)]
    for start, end in zip(borders[1:], borders[2:], strict=False):
        keys = torch.cat([first_keys, key[:, :, start:end]], dim=2)
        values = torch.cat([first_values, value[:, :, start:end]], dim=2)
        mask = _after_prefix(end - start, prefix, query.dtype, query.device)
        for first in range(0, end - start, QUERY_BLOCK_SIZE):
            last = min(first + QUERY_BLOCK_SIZE, end - start)
            seen = prefix + last
            queries = query[:, :, start + first : start + last]
            outputs.append(attend(queries, keys[:, :, :seen], values[:, :, :seen], attn_mask=mask[first:last, :seen]))
    return torch.cat(outputs, dim=2).transpose(1, 2).contiguous()


@lru_cache(maxsize=64)
def _after_prefix(length: int, prefix: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Return a mask, `(length, prefix + length)`: each token sees the prefix, earlier tokens, and itself."""
    mask = torch.full((length, prefix + length), -torch.inf, dtype=dtype, device=device)
    return mask.triu_(prefix + 1)


def _attend_in_one_kernel(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scaling: float | None,
    sliding_window: int | None,
    borders: torch.Tensor,
    longest: int,
) -> torch.Tensor:
    from torch.nn.attention.varlen import varlen_attn

    queries, keys, values = (part[0].transpose(0, 1) for part in (query, key, value))
    window = (-1 if sliding_window is None else sliding_window - 1, 0)
    has_groups = query.shape[1] != key.shape[1]
    output: Any = varlen_attn(
        queries,
        keys,
        values,
        borders,
        borders,
        longest,
        longest,
        scale=scaling,
        window_size=window,
        enable_gqa=has_groups,
    )
    packed: torch.Tensor = output[None]
    return packed


@torch.enable_grad()
def _has_variable_length_kernel(use: KernelUse) -> bool:
    """Return whether this torch has the kernel for this use, with the right result and gradients.

    Do not call this within a layer whose activations are recomputed: the trial would count as part of the layer.
    """
    if not use.is_possible():
        return False
    parts, borders = _example(use)
    query, key, value = parts
    window = min(use.window or 0, MAX_VALIDATION_LENGTH) or None
    longest = int(borders.diff().max())
    try:
        quick = _attend_in_one_kernel(query, key, value, use.scaling, window, borders, longest)
        exact = _attend_one_by_one(query, key, value, use.scaling, 0.0, window, borders.tolist())
        of_quick, of_exact = (torch.autograd.grad(o.float().square().sum(), parts) for o in (quick, exact))
    except (ImportError, TypeError, ValueError, RuntimeError, NotImplementedError):
        return False
    return all(_is_close(one, other) for one, other in zip((quick, *of_quick), (exact, *of_exact), strict=True))


def _example(use: KernelUse) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Return query, key and value, and the boundaries of three conversations, one longer than the window.

    There are two key heads, each with as many query heads as in the model.
    """
    grouped = use.heads // use.key_heads
    lengths = [10, min(use.window or 0, MAX_VALIDATION_LENGTH) + 33, 21]
    generator = torch.Generator(use.device).manual_seed(0)
    parts = [
        torch.randn(1, heads, sum(lengths), use.dim, device=use.device, dtype=use.dtype, generator=generator)
        for heads in (2 * grouped, 2, 2)
    ]
    borders = torch.tensor([0, *torch.tensor(lengths).cumsum(0)], device=use.device, dtype=torch.int32)
    return [part.requires_grad_() for part in parts], borders


def _is_close(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Return whether two tensors are equal up to half precision, in relative norm."""
    return bool((one.float() - other.float()).norm() <= 2e-2 * other.float().norm())


AttentionInterface.register(SEPARATE_ATTENTION, attend_separately)
AttentionMaskInterface.register(SEPARATE_ATTENTION, lambda *_, **__: None)
