"""Where two answers differ: word by word, and in what each side would have said next."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

import torch

_WORD = re.compile(r"\s*\S+|\s+$")


@dataclass(frozen=True)
class Passage:
    """Some words of an answer, with the white space before them; `is_shared`: the other answer has them too."""

    text: str
    is_shared: bool


@dataclass(frozen=True)
class Candidate:
    """A token that may come next, and each side's probability for it."""

    text: str
    left: float
    right: float


def compare_words(left: str, right: str) -> tuple[list[Passage], list[Passage]]:
    """Both texts in passages, which put together again are the texts."""
    one, other = _WORD.findall(left), _WORD.findall(right)
    matcher = SequenceMatcher(None, [word.strip() for word in one], [word.strip() for word in other], autojunk=False)
    passages: tuple[list[Passage], list[Passage]] = ([], [])
    for kind, one_start, one_end, other_start, other_end in matcher.get_opcodes():
        spans = (one[one_start:one_end], other[other_start:other_end])
        for side, words in zip(passages, spans, strict=True):
            if words:
                side.append(Passage("".join(words), kind == "equal"))
    return passages


def likeliest(tokenizer: Any, left: torch.Tensor, right: torch.Tensor, count: int = 8) -> list[Candidate]:
    """The tokens that either side finds likeliest, `count` of each, the most probable first.

    `left` and `right` are the logits of one position, `(vocabulary,)` each.
    """
    one, other = (torch.softmax(logits.float(), dim=-1) for logits in (left, right))
    ids = sorted({*one.topk(count).indices.tolist(), *other.topk(count).indices.tolist()})
    found = [Candidate(_shown(tokenizer, [id]), float(one[id]), float(other[id])) for id in ids]
    return sorted(found, key=lambda candidate: -max(candidate.left, candidate.right))


def _shown(tokenizer: Any, ids: Sequence[int]) -> str:
    return tokenizer.decode(ids, skip_special_tokens=False)
