"""Where two answers part: what each side would have said next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Candidate:
    """A token that may come next, and each side's probability for it."""

    text: str
    left: float
    right: float


def likeliest(tokenizer: Any, left: torch.Tensor, right: torch.Tensor, count: int = 8) -> list[Candidate]:
    """The tokens that either side finds likeliest, `count` of each, the most probable first.

    `left` and `right` are the logits of one position, `(vocabulary,)` each.
    """
    one, other = (torch.softmax(logits.float(), dim=-1) for logits in (left, right))
    ids = sorted({*one.topk(count).indices.tolist(), *other.topk(count).indices.tolist()})
    texts = [tokenizer.decode([id], skip_special_tokens=False) for id in ids]
    found = [Candidate(text, float(one[id]), float(other[id])) for text, id in zip(texts, ids, strict=True)]
    return sorted(found, key=lambda candidate: -max(candidate.left, candidate.right))
