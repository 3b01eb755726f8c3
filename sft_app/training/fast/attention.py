"""Attention for conversations that lie end to end in one row: each to itself, without a mask over the whole row.

A block mask makes every kernel work through the square of the row's length and most of it for nothing. Here each
conversation is a causal attention of its own: one variable-length kernel on a GPU that has it, one call for each
conversation elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface

SEPARATE = "separate_conversations"
HALF_PRECISION = (torch.float16, torch.bfloat16)
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
    return config._attn_implementation == "sdpa" and not getattr(config, "attn_logit_softcapping", None)


def attend_separately(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    cu_seq_lens_q: torch.Tensor | None = None,
    max_length_q: int | None = None,
    prefix_length: int = 0,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """`(1, heads, tokens, dim)` to `(1, tokens, heads, dim)`; `cu_seq_lens_q`, `(conversations + 1,)`, has the borders.

    The signature is that of transformers' attention functions. Without borders the row is one conversation. Of a row
    with a `prefix_length`, the first part is the beginning that all the others go on from.
    """
    if cu_seq_lens_q is None:
        cu_seq_lens_q = torch.tensor([0, query.shape[2]], dtype=torch.int32, device=query.device)
    if prefix_length:
        return _attend_after_prefix(query, key, value, scaling, cu_seq_lens_q.tolist()), None
    if query.dtype in HALF_PRECISION and dropout == 0 and _has_variable_length_kernel(query.device):
        longest = max_length_q or int(cu_seq_lens_q.diff().max())
        return _attend_in_one_kernel(query, key, value, scaling, sliding_window, cu_seq_lens_q, longest), None
    return _attend_one_by_one(query, key, value, scaling, dropout, sliding_window, cu_seq_lens_q.tolist()), None


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


@lru_cache
def _has_variable_length_kernel(device: torch.device) -> bool:
    """Whether this torch has the kernel for this GPU, in the form used here, with the right result and gradient."""
    if device.type != "cuda":
        return False
    query, key, value = (
        torch.randn(1, heads, 24, 64, device=device, dtype=torch.bfloat16, requires_grad=True) for heads in (4, 2, 2)
    )
    borders = torch.tensor([0, 10, 24], device=device, dtype=torch.int32)
    try:
        quick = _attend_in_one_kernel(query, key, value, None, None, borders, 14)
        exact = _attend_one_by_one(query, key, value, None, 0.0, None, borders.tolist())
        of_quick, of_exact = (torch.autograd.grad(output.float().square().sum(), key)[0] for output in (quick, exact))
    except (ImportError, TypeError, RuntimeError, NotImplementedError):
        return False
    return torch.allclose(quick, exact, atol=2e-2) and torch.allclose(of_quick, of_exact, atol=0.25, rtol=5e-2)


AttentionInterface.register(SEPARATE, attend_separately)
AttentionMaskInterface.register(SEPARATE, lambda *_, **__: None)
