"""Attention for conversations that lie end to end in one row: each to itself, without a mask over the whole row.

A block mask makes every kernel work through the square of the row's length and most of it for nothing. Here each
conversation is a causal attention of its own: one variable-length kernel on a GPU that has it, one call for each
conversation elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface

from sft_app.errors import ModelError

SEPARATE = "separate_conversations"
HALF_PRECISION = (torch.float16, torch.bfloat16)
KERNEL_DEVICE, WIDEST_HEAD = "cuda", 256
LONGEST_TRIED = 4096
"""Tokens of a conversation that the kernel is tried with; a window that is wider is tried as one of this width."""
QUERIES_AT_ONCE = 128
"""With a mask the kernel works through all keys, those after a query too; blocks of queries leave most of these out."""


@contextmanager
def separate_attention(model: Any) -> Iterator[None]:
    """For a forward and backward pass over rows with `cu_seq_lens_q`; what the model has otherwise comes back after.

    A model whose attention needs more than a causal mask keeps its own, which reads `position_ids`.
    """
    config = model.config.get_text_config()
    before = config._attn_implementation
    if can_separate(config):
        config._attn_implementation = SEPARATE
    try:
        yield
    finally:
        config._attn_implementation = before


def is_separate(model: Any) -> bool:
    return model.config.get_text_config()._attn_implementation == SEPARATE


def can_separate(config: Any) -> bool:
    needs_more = (getattr(config, name, None) for name in ("attn_logit_softcapping", "attention_chunk_size"))
    return config._attn_implementation == "sdpa" and not any(needs_more)


@dataclass(frozen=True)
class KernelUse:
    """How a layer would use the variable-length kernel: `value_dim` is the width of its values, `dim` of the rest."""

    device: torch.device
    dtype: torch.dtype
    heads: int
    key_heads: int
    dim: int
    value_dim: int
    window: int | None
    scaling: float | None

    def is_possible(self) -> bool:
        """Source: torch's flash attention, heads of at most 256, a multiple of 8, values as wide as queries."""
        is_fit = self.dim % 8 == 0 and self.dim <= WIDEST_HEAD and self.value_dim == self.dim
        return self.device.type == KERNEL_DEVICE and self.dtype in HALF_PRECISION and is_fit


_kernel_uses: dict[KernelUse, bool] = {}
"""What layers have asked for, and whether the kernel was tried for it and found right. It never changes within a step:
a layer whose activations are computed twice has to take the same way both times."""


def try_kernel() -> bool:
    """Tries the kernel for every use that layers have asked for so far; whether there is one that it may do now."""
    for use in _kernel_uses:
        _kernel_uses[use] = _has_variable_length_kernel(use)
    return any(_kernel_uses.values())


def forget_kernel() -> None:
    """From here on no layer uses the kernel, until it is tried again."""
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
    """`(1, heads, tokens, dim)` to `(1, tokens, heads, dim)`; `cu_seq_lens_q`, `(conversations + 1,)`, has the borders.

    The signature is that of transformers' attention functions. Of a row with a `prefix_length`, the first part is the
    beginning that all the others go on from.

    Raises: ModelError when the layer did not pass the borders on, or wants what this attention cannot give.
    """
    if cu_seq_lens_q is None:
        raise ModelError("A layer of this model does not pass on where conversations begin.")
    if attention_mask is not None or not others.get("is_causal", True) or _wanted(others):
        raise ModelError(f"A layer of this model needs more than causal attention: {_wanted(others) or 'a mask'}.")
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


def _wanted(others: dict[str, Any]) -> str:
    """What some models add to their scores, by transformers' names; empty when nothing of it is there."""
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
            places = torch.arange(end - start, device=query.device)
            distance = places[:, None] - places
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
        for first in range(0, end - start, QUERIES_AT_ONCE):
            last = min(first + QUERIES_AT_ONCE, end - start)
            seen = prefix + last
            queries = query[:, :, start + first : start + last]
            outputs.append(attend(queries, keys[:, :, :seen], values[:, :, :seen], attn_mask=mask[first:last, :seen]))
    return torch.cat(outputs, dim=2).transpose(1, 2).contiguous()


@lru_cache(maxsize=64)
def _after_prefix(length: int, prefix: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """`(length, prefix + length)`: each token sees the prefix, what comes before it, and itself."""
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
    return output[None]


@torch.enable_grad()
def _has_variable_length_kernel(use: KernelUse) -> bool:
    """Whether this torch has the kernel for this use, with the right result and gradients. Not to be asked within a
    layer whose activations are computed twice: what is tried here would count as the layer's own."""
    if not use.is_possible():
        return False
    parts, borders = _example(use)
    query, key, value = parts
    window = min(use.window or 0, LONGEST_TRIED) or None
    longest = int(borders.diff().max())
    try:
        quick = _attend_in_one_kernel(query, key, value, use.scaling, window, borders, longest)
        exact = _attend_one_by_one(query, key, value, use.scaling, 0.0, window, borders.tolist())
        of_quick, of_exact = (torch.autograd.grad(o.float().square().sum(), parts) for o in (quick, exact))
    except (ImportError, TypeError, ValueError, RuntimeError, NotImplementedError):
        return False
    return all(_is_near(one, other) for one, other in zip((quick, *of_quick), (exact, *of_exact), strict=True))


def _example(use: KernelUse) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Query, key and value, two key heads with as many query heads each as in the model, and the borders: of three
    conversations, one of which is longer than the window."""
    grouped = use.heads // use.key_heads
    lengths = [10, min(use.window or 0, LONGEST_TRIED) + 33, 21]
    generator = torch.Generator(use.device).manual_seed(0)
    parts = [
        torch.randn(1, heads, sum(lengths), use.dim, device=use.device, dtype=use.dtype, generator=generator)
        for heads in (2 * grouped, 2, 2)
    ]
    borders = torch.tensor([0, *torch.tensor(lengths).cumsum(0)], device=use.device, dtype=torch.int32)
    return [part.requires_grad_() for part in parts], borders


def _is_near(one: torch.Tensor, other: torch.Tensor) -> bool:
    """To what half precision allows, on the whole."""
    return bool((one.float() - other.float()).norm() <= 2e-2 * other.float().norm())


AttentionInterface.register(SEPARATE, attend_separately)
AttentionMaskInterface.register(SEPARATE, lambda *_, **__: None)
