"""Compute the prefix that all conversations of a batch share once: a system prompt, the template's first tokens.

With causal attention, a token's activations depend only on the tokens before it. So equal prefixes have equal
activations, and their gradients add up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from sft_app.data.tokens import IGNORED
from sft_app.training.fast_paths.attention import supports_separate_attention
from sft_app.training.fast_paths.step_plan import MIN_SHARED_TOKENS

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def can_share_prefix(model: PreTrainedModel) -> bool:
    """Return whether the model can share a prefix.

    Only on a CPU, since GPU kernels do not support such rows; not with dropout, which makes equal tokens unequal, nor
    with layers that do not attend to all earlier tokens.
    """
    config = model.config.get_text_config()
    sees_all = not getattr(config, "sliding_window", None) and all(
        layer == "full_attention" for layer in getattr(config, "layer_types", None) or ()
    )
    has_dropout = any(isinstance(module, torch.nn.Dropout) and module.p > 0 for module in model.modules())
    return model.device.type == "cpu" and supports_separate_attention(config) and sees_all and not has_dropout


def share_prefix(inputs: dict[str, Any], labels: torch.Tensor) -> tuple[dict[str, Any], torch.Tensor]:
    """Move the conversations' common prefix to the front of a packed batch, `(1, tokens)`, once.

    `prefix_length` tells the attention about it. The prefix ends before the first trained token of any conversation,
    since that token is predicted from the conversation's own preceding token. `labels` is `(tokens,)`.
    """
    borders = inputs["cu_seq_lens_q"].tolist()
    spans = list(zip(borders, borders[1:], strict=False))
    length = _common_prefix_length([(inputs["input_ids"][0, a:b], labels[a:b]) for a, b in spans])
    if len(spans) < 2 or length < MIN_SHARED_TOKENS:
        return inputs, labels
    kept = torch.cat([torch.arange(length), *(torch.arange(a + length, b) for a, b in spans)])
    lengths = torch.tensor([length, *(b - a - length for a, b in spans)])
    shorter = {name: inputs[name][:, kept] for name in ("input_ids", "position_ids")}
    own_borders = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)]).to(torch.int32)
    return {**shorter, "cu_seq_lens_q": own_borders, "prefix_length": length}, labels[kept]


def _common_prefix_length(rows: list[tuple[torch.Tensor, torch.Tensor]]) -> int:
    """Return how many tokens all rows start with, before the first trained token and the end of any row."""
    untrained = [int((labels != IGNORED).to(torch.int8).argmax()) - 1 for _, labels in rows]
    longest = max(0, min(*untrained, *(len(ids) - 1 for ids, _ in rows)))
    prefixes = torch.stack([ids[:longest] for ids, _ in rows])
    return int((prefixes == prefixes[0]).all(dim=0).to(torch.int64).cumprod(0).sum())
