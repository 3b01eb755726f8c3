"""Run a model step by step: the logits of the next token for every row of a batch, with a cache where it has one."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any

import torch

from sft_app.inference.growing_cache import let_grow
from sft_app.inference.small_batch_linear import patched_forward, small_batch_products
from sft_app.runtime.resources import is_out_of_memory

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Effect of rounding on logits in float32 and in half precision, relative to their standard deviation.
FLOAT32_TOLERANCE, HALF_TOLERANCE = 1e-3, 0.05


@torch.no_grad()
def step_logits(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], pad_id: int
) -> Generator[torch.Tensor, torch.Tensor, None]:
    """Yield the logits of each row's next token, `(batch, vocabulary)`; receive the chosen ids, `(batch,)`.

    A model without `past_key_values` (one with its own kind of state) reads the whole text again for each token. One
    whose rotary embedding changes at a length (LongRoPE) does so once, when the longest row passes it.
    """
    change = longrope_length(model)
    input_ids, attention_mask = left_padded(prompts, pad_id, model.device)
    read, cache, products = input_ids, None, small_batch_products(model, len(prompts))
    caches = True
    while True:
        positions = attention_mask.cumsum(-1).sub(1).clamp(min=0)[:, -input_ids.shape[1] :]
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask, "position_ids": positions}
        with patched_forward(products if cache is not None else {}):
            output = _forward(model, inputs, cache, caches)
        filled = getattr(output, "past_key_values", None)
        if filled is not cache:
            let_grow(filled)
        cache, caches = filled, filled is not None
        added = (yield output.logits[:, -1])[:, None]
        read = torch.cat([read, added], dim=-1)
        if read.shape[1] - 1 == change:
            cache = None
        input_ids = read if cache is None else added
        attention_mask = torch.cat([attention_mask, attention_mask.new_ones(len(prompts), 1)], dim=-1)


def longrope_length(model: PreTrainedModel) -> int | None:
    """Return the length beyond which all positions are encoded in another way, or None."""
    config = model.config.get_text_config()
    rope: dict[str, Any] = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type") != "longrope":
        return None
    length: int | None = rope.get("original_max_position_embeddings")
    return length


def _forward(model: PreTrainedModel, inputs: dict[str, torch.Tensor], cache: Any, caches: bool) -> Any:
    """Return the model's output, without a cache if the model fails to make one."""
    try:
        return model(**inputs, past_key_values=cache, use_cache=caches, logits_to_keep=1)
    except Exception as error:  # an unusual cache may fail in any way; a fault of the model itself is raised again
        if not caches or cache is not None or is_out_of_memory(error):
            raise
        return model(**inputs, use_cache=False, logits_to_keep=1)


def left_padded(prompts: Sequence[Sequence[int]], pad_id: int, device: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids and mask, both `(batch, seq)`, padded on the left."""
    width = max(len(prompt) for prompt in prompts)
    ids = [[pad_id] * (width - len(prompt)) + list(prompt) for prompt in prompts]
    mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def logits_agree(logits: torch.Tensor, expected: torch.Tensor) -> bool:
    """Return whether two tensors of logits are equal up to rounding, or both not finite."""
    if not torch.isfinite(expected).all():
        return not torch.isfinite(logits).all()
    difference = (logits.float() - expected.float()).abs().max() / expected.float().std()
    return bool(difference <= (FLOAT32_TOLERANCE if logits.dtype == torch.float32 else HALF_TOLERANCE))
