"""Group equal and nearly equal texts, up to a million of them, without keeping them in memory.

A grouping is an int64 array (texts,): for each text, the position of the first text in its group.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from operator import add

import numpy as np
from rensa import RMinHash

PERMUTATIONS = 64
"""32-bit digests kept per text: 256 bytes, so a million texts take 256 MB."""
BAND = 4
"""Digests per band. Two texts that share 0.8 of their word pairs agree in one of 16 bands in 99.98% of cases."""
NEAR_SIMILARITY = 0.8
"""The share of equal digests, an estimate of the Jaccard similarity, from which two texts are near duplicates."""
FEW_WORDS = 6
"""In texts with fewer words than this, one word changes the question: they are duplicates only if equal."""
LONGEST_MEAN_WORD = 20
"""Texts with more characters per word than this use a script without spaces: each character counts as a word."""
BATCH = 1024
CHUNK = 1 << 15

_SENTENCE_MARKS = ".,;:!?…\"'()[]“”‘’«»„¿¡。，、；：！？"


class NearDuplicates:
    """Groups near duplicates. Texts are added one by one; only 64 digests of each are kept.

    Source: Broder 1997, "On the resemblance and containment of documents" (MinHash); Leskovec, Rajaraman and Ullman,
    "Mining of Massive Datasets", section 3.4 (bands).
    """

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self._pending: list[list[str]] = []
        self._digests = bytearray()
        self._grouping: np.ndarray | None = None

    def add(self, text: str) -> None:
        """Add a text at the next position."""
        self._grouping = None
        self._pending.append(_shingles(text))
        if len(self._pending) == BATCH:
            self._sketch()

    def groups(self) -> np.ndarray:
        """Group all texts added so far; a chain of near duplicates is one group. Returns int64 (texts,)."""
        if self._grouping is None:
            self._grouping = self._group()
        return self._grouping

    def _group(self) -> np.ndarray:
        self._sketch()
        digests = np.frombuffer(self._digests, dtype=np.uint32).reshape(-1, PERMUTATIONS)
        same = equal_groups(_combine(digests))
        different = np.flatnonzero(same == np.arange(len(same)))
        links = [_near_links(digests, different, band) for band in range(0, PERMUTATIONS, BAND)]
        return _connect(len(same), [(np.arange(len(same)), same), *links])

    def _sketch(self) -> None:
        if self._pending:
            rows = RMinHash.digest_matrix_from_token_sets(self._pending, PERMUTATIONS, self._seed).to_rows()
            self._digests += np.array(rows, dtype=np.uint32).tobytes()
            self._pending = []


def equal_groups(hashes: np.ndarray) -> np.ndarray:
    """Group equal values; `hashes` is (texts,), 64-bit and assumed not to collide."""
    _, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    return first[inverse].astype(np.int64)


def merge_groups(*groupings: np.ndarray) -> np.ndarray:
    """Merge groupings, (texts,) each: texts that share a group in any of them share one in the result."""
    total = len(groupings[0])
    return _connect(total, [(np.arange(total), grouping) for grouping in groupings])


def repeats(groups: np.ndarray) -> np.ndarray:
    """Return the positions, ascending, of the texts that are not the first in their group."""
    return np.flatnonzero(groups != np.arange(len(groups)))


def _shingles(text: str) -> list[str]:
    """Split a text into pairs of adjacent words, on which similarity is measured; a short text stays whole."""
    lowered = text.lower()
    words = lowered.split()
    if len(lowered) > LONGEST_MEAN_WORD * max(len(words), 1):
        words = list("".join(words))
    if len(words) >= FEW_WORDS:
        return list(map(add, words, words[1:]))
    bare = " ".join(filter(None, (word.strip(_SENTENCE_MARKS) for word in words)))
    return [bare or " ".join(words)]


def _combine(columns: np.ndarray) -> np.ndarray:
    """Hash each row of digests, (texts, columns), to one uint64, (texts,); equal rows give equal values."""
    combined = np.zeros(len(columns), dtype=np.uint64)
    for column in columns.T:
        combined = (combined ^ column) * np.uint64(0x9E3779B97F4A7C15)  # odd, so no information is lost (Knuth 6.4)
        combined ^= combined >> np.uint64(32)
    return combined


def _near_links(digests: np.ndarray, different: np.ndarray, band: int) -> tuple[np.ndarray, np.ndarray]:
    """Pair positions from `different` that agree in this band and are near duplicates by all their digests.

    Among texts that agree, each is compared only with the first and with the one before it, so the time does not grow
    with the square of their number. If thousands agree because they open with the same page of instructions, the next
    band places the near duplicates among them next to each other.
    """
    following = (band + BAND) % PERMUTATIONS
    keys, next_keys = (_combine(digests[:, start : start + BAND])[different] for start in (band, following))
    order = np.lexsort((next_keys, keys))
    is_first = np.diff(keys[order], prepend=~keys[order[:1]]) != 0
    first_position = np.maximum.accumulate(np.where(is_first, np.arange(len(order)), 0))
    later = np.flatnonzero(~is_first)
    texts = np.tile(different[order[later]], 2)
    others = different[order[np.concatenate([first_position[later], later - 1])]]
    near = np.fromiter(chain.from_iterable(_are_near(digests, texts, others)), dtype=bool, count=len(texts))
    return texts[near], others[near]


def _are_near(digests: np.ndarray, texts: np.ndarray, others: np.ndarray) -> Iterator[np.ndarray]:
    """Yield, in chunks, which pairs are nearly equal, because the digests of all pairs would not fit in memory."""
    for start in range(0, len(texts), CHUNK):
        chunk = slice(start, start + CHUNK)
        yield (digests[texts[chunk]] == digests[others[chunk]]).mean(axis=1) >= NEAR_SIMILARITY


def _connect(total: int, links: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Group `total` texts so that linked positions share a group.

    Each round attaches the first text of every group to the earliest text it is linked to, for all groups at once.
    """
    one, other = (np.concatenate(ends) for ends in zip(*links, strict=True))
    groups = np.arange(total)
    while len(one):
        np.minimum.at(groups, np.maximum(one, other), np.minimum(one, other))
        while (groups != groups[groups]).any():
            groups = groups[groups]
        one, other = groups[one], groups[other]
        different = one != other
        one, other = one[different], other[different]
    return groups
