"""The beginning that all conversations of a batch share, computed once: a system prompt, the template's first marks.

With causal attention the activations of a token depend on what stands before it alone, so those of equal beginnings
are equal, and so is the sum of their gradients.
"""

from __future__ import annotations

from typing import Any

import torch

from sft_app.data.tokens import IGNORED
from sft_app.training.fast_paths.attention import can_separate
from sft_app.training.fast_paths.step_plan import WORTH_SHARING


def can_share_beginnings(model: Any) -> bool:
    """On a CPU, since the kernels for GPUs know no such rows; not where dropout makes equal tokens unequal, nor where
    a layer looks at anything but all tokens before it."""
    config = model.config.get_text_config()
    sees_all = not getattr(config, "sliding_window", None) and all(
        layer == "full_attention" for layer in getattr(config, "layer_types", None) or ()
    )
    has_dropout = any(isinstance(module, torch.nn.Dropout) and module.p > 0 for module in model.modules())
    return model.device.type == "cpu" and can_separate(config) and sees_all and not has_dropout


def share_beginning(inputs: dict[str, Any], labels: torch.Tensor) -> tuple[dict[str, Any], torch.Tensor]:
    """A flattened batch, `(1, tokens)`, with the common beginning of its conversations in front and nowhere else.

    `prefix_length` tells the attention about it. A beginning ends before the first trained token of any conversation:
    that token is predicted from the one before it, which has to be the conversation's own. `labels` is `(tokens,)`.
    """
    borders = inputs["cu_seq_lens_q"].tolist()
    spans = list(zip(borders, borders[1:], strict=False))
    length = _common_length([(inputs["input_ids"][0, a:b], labels[a:b]) for a, b in spans])
    if len(spans) < 2 or length < WORTH_SHARING:
        return inputs, labels
    kept = torch.cat([torch.arange(length), *(torch.arange(a + length, b) for a, b in spans)])
    lengths = torch.tensor([length, *(b - a - length for a, b in spans)])
    shorter = {name: inputs[name][:, kept] for name in ("input_ids", "position_ids")}
    own_borders = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)]).to(torch.int32)
    return {**shorter, "cu_seq_lens_q": own_borders, "prefix_length": length}, labels[kept]


def _common_length(rows: list[tuple[torch.Tensor, torch.Tensor]]) -> int:
    """Tokens that all rows begin with, short of the first trained one and of the end of any row."""
    untrained = [int((labels != IGNORED).to(torch.int8).argmax()) - 1 for _, labels in rows]
    longest = max(0, min(*untrained, *(len(ids) - 1 for ids, _ in rows)))
    beginnings = torch.stack([ids[:longest] for ids, _ in rows])
    return int((beginnings == beginnings[0]).all(dim=0).to(torch.int64).cumprod(0).sum())
