"""Compare each side's most likely next tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class TokenCandidate:
    """Holds a possible next token and each side's probability for it."""

    text: str
    left: float
    right: float


def most_likely_tokens(
    tokenizer: PreTrainedTokenizerBase, left: torch.Tensor, right: torch.Tensor, count: int = 8
) -> list[TokenCandidate]:
    """Return the `count` most likely tokens of either side, the most probable first.

    `left` and `right` are the logits of one position, `(vocabulary,)` each.
    """
    one, other = (torch.softmax(logits.float(), dim=-1) for logits in (left, right))
    ids = sorted({*one.topk(count).indices.tolist(), *other.topk(count).indices.tolist()})
    texts = [tokenizer.decode([id], skip_special_tokens=False) for id in ids]
    candidates = [TokenCandidate(text, float(one[id]), float(other[id])) for text, id in zip(texts, ids, strict=True)]
    return sorted(candidates, key=lambda candidate: -max(candidate.left, candidate.right))
