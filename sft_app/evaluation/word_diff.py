"""Compare two answers word by word. Imports no torch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import SequenceMatcher

_WORD = re.compile(r"\s*\S+|\s+$")


@dataclass(frozen=True)
class Passage:
    """Consecutive words of an answer, with the white space before them; `is_shared` if the other answer has them."""

    text: str
    is_shared: bool


def compare_words(left: str, right: str) -> tuple[list[Passage], list[Passage]]:
    """Split both texts into passages; joined, the passages give the texts again."""
    one, other = _WORD.findall(left), _WORD.findall(right)
    matcher = SequenceMatcher(None, [word.strip() for word in one], [word.strip() for word in other], autojunk=False)
    passages: tuple[list[Passage], list[Passage]] = ([], [])
    for kind, one_start, one_end, other_start, other_end in matcher.get_opcodes():
        spans = (one[one_start:one_end], other[other_start:other_end])
        for side, words in zip(passages, spans, strict=True):
            if words:
                side.append(Passage("".join(words), kind == "equal"))
    return passages


def change_between(left: str, right: str) -> float:
    """Return the share of words that the two texts do not have in common, in order."""
    return 1 - SequenceMatcher(None, left.split(), right.split(), autojunk=False).ratio()
