"""Compare two answers word by word. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import SequenceMatcher

from sft_app.data.words import pieces_of


@dataclass(frozen=True)
class Passage:
    """Consecutive words of an answer, with the white space before them; `is_shared` if the other answer has them."""

    text: str
    is_shared: bool


def compare_words(left: str, right: str) -> tuple[list[Passage], list[Passage]]:
    """Split both texts into passages; joined, the passages give the texts again."""
    one, other = pieces_of(left), pieces_of(right)
    matcher = _matcher(one, other)
    passages: tuple[list[Passage], list[Passage]] = ([], [])
    for kind, one_start, one_end, other_start, other_end in matcher.get_opcodes():
        spans = (one[one_start:one_end], other[other_start:other_end])
        for side, words in zip(passages, spans, strict=True):
            if words:
                side.append(Passage("".join(words), kind == "equal"))
    return passages


def change_between(left: str, right: str) -> float:
    """Return the share of words that the two texts do not have in common, in order."""
    return 1 - _matcher(pieces_of(left.strip()), pieces_of(right.strip())).ratio()


def _matcher(left: list[str], right: list[str]) -> SequenceMatcher[str]:
    """Compare words without the white space before them."""
    one, other = ([word.strip() for word in words] for words in (left, right))
    return SequenceMatcher(None, one, other, autojunk=False)
