"""Compare two answers word by word. Imports no torch."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from sft_app.data.words import pieces_of

MOST_MATCHES = 200_000
"""With more pairs of equal words, `SequenceMatcher` takes seconds to minutes. Answers of 2,000 words have 40,000."""


@dataclass(frozen=True)
class Passage:
    """Consecutive words of an answer, with the white space before them; `is_shared` if the other answer has them."""

    text: str
    is_shared: bool


def compare_words(left: str, right: str) -> tuple[list[Passage], list[Passage]]:
    """Split both texts into passages; joined, the passages give the texts again.

    If both repeat a few words without end, only what they share at the beginning and at the end counts as shared.
    """
    one, other = pieces_of(left), pieces_of(right)
    passages: tuple[list[Passage], list[Passage]] = ([], [])
    for is_shared, *spans in _spans(_stripped(one), _stripped(other)):
        for side, pieces, span in zip(passages, (one, other), spans, strict=True):
            if text := "".join(pieces[span]):
                side.append(Passage(text, is_shared))
    return passages


def change_between(left: str, right: str) -> float:
    """Return the share of words that the two texts do not have in common, in order."""
    one, other = _stripped(pieces_of(left.strip())), _stripped(pieces_of(right.strip()))
    return 1 - 2 * _count_common(one, other) / (len(one) + len(other)) if one or other else 0.0


def _stripped(pieces: list[str]) -> list[str]:
    """Return words without the white space before them."""
    return [piece.strip() for piece in pieces]


def _spans(one: list[str], other: list[str]) -> Iterator[tuple[bool, slice, slice]]:
    """Yield what both share and what they do not, in order, as slices of both."""
    start = _count_equal(one, other)
    end = _count_equal(one[start:][::-1], other[start:][::-1])
    middles = one[start : len(one) - end], other[start : len(other) - end]
    yield True, slice(start), slice(start)
    for kind, *ends in _opcodes(*middles):
        first, last, other_first, other_last = (start + position for position in ends)
        yield kind == "equal", slice(first, last), slice(other_first, other_last)
    yield True, slice(len(one) - end, None), slice(len(other) - end, None)


def _opcodes(one: list[str], other: list[str]) -> Sequence[tuple[str, int, int, int, int]]:
    counts = Counter(one), Counter(other)
    if sum(count * counts[1][word] for word, count in counts[0].items()) > MOST_MATCHES:
        return [("replace", 0, len(one), 0, len(other))]
    return SequenceMatcher(None, one, other, autojunk=False).get_opcodes()


def _count_equal(one: list[str], other: list[str]) -> int:
    """Count the words that are the same up to the first different one."""
    return next(
        (index for index, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )


def _count_common(one: list[str], other: list[str]) -> int:
    """Return the length of the longest common subsequence, with one bit for each word of `one`.

    Source: Hyyro 2004, "Bit-parallel LCS-length computation revisited".
    """
    places: defaultdict[str, int] = defaultdict(int)
    for index, word in enumerate(one):
        places[word] |= 1 << index
    all_bits = (1 << len(one)) - 1
    row = all_bits
    for word in other:
        matched = row & places.get(word, 0)
        row = ((row + matched) | (row - matched)) & all_bits
    return len(one) - row.bit_count()
