"""Find the texts most similar to a question, in any script, among up to a hundred thousand. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

BUCKETS = 1 << 20
"""Character trigrams are hashed to this many columns. Two that share a column count as the same one."""
MAX_GRAMS = 24_000_000
"""Trigrams kept of all texts together, 8 bytes each. With many texts, only the beginning and end of each are read."""
SHORTEST_READ, LONGEST_READ = 200, 4000
TEXTS_AT_ONCE = 2000
_MIX = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F), np.uint64(0x165667B19E3779F9))


@dataclass(frozen=True)
class Neighbour:
    """The position of a text, and how similar it is to the query: 0 if they have nothing in common, 1 at most."""

    position: int
    similarity: float


class NearestTexts:
    """Ranks texts by the cosine similarity of their character trigrams, weighted by TF-IDF.

    Trigrams need no words, so they work in scripts without spaces, and they recognise other forms of a word.
    Source: Manning, Raghavan and Schütze 2008, "Introduction to Information Retrieval", sections 6.2 and 6.4.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self._total = len(texts)
        self._read = min(max(MAX_GRAMS // max(len(texts), 1), SHORTEST_READ), LONGEST_READ)
        starts = range(0, max(len(texts), 1), TEXTS_AT_ONCE)
        parts = [_count_grams(texts[start : start + TEXTS_AT_ONCE], self._read, start) for start in starts]
        owners, grams, counts = (np.concatenate([part[column] for part in parts]) for column in range(3))
        del parts
        frequency = np.bincount(grams, minlength=BUCKETS)
        self._rarity = (np.log((1 + self._total) / (1 + frequency)) + 1).astype(np.float32)
        weights = _weights(counts, self._rarity[grams])
        weights /= np.sqrt(np.bincount(owners, weights**2, minlength=self._total)).astype(np.float32)[owners]
        order = np.argsort(grams, kind="stable")
        self._owners, self._weights = owners[order], weights[order]
        self._starts = np.concatenate([[0], np.cumsum(frequency)])

    def nearest(self, query: str, count: int) -> list[Neighbour]:
        """Return the `count` most similar texts, the most similar first; of equally similar ones, the earlier first."""
        _, grams, counts = _count_grams([query], self._read, 0)
        weights = _weights(counts, self._rarity[grams])
        similarity = np.zeros(self._total, np.float32)
        for gram, weight in zip(grams, weights / max(float(np.linalg.norm(weights)), 1e-9), strict=True):
            span = slice(self._starts[gram], self._starts[gram + 1])
            similarity[self._owners[span]] += weight * self._weights[span]  # no text is in a span twice
        best = np.argsort(-similarity, kind="stable")[:count]
        return [Neighbour(int(at), min(1.0, float(similarity[at]))) for at in best]


def _weights(counts: np.ndarray, rarity: np.ndarray) -> np.ndarray:
    weights: np.ndarray = (1 + np.log(counts, dtype=np.float32)) * rarity
    return weights


def _count_grams(texts: Sequence[str], read: int, first: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Count the trigrams of each text: (text's position from `first` on, column, count), each text's columns once."""
    marked = [f" {_shortened(' '.join(text.lower().split()), read)} " for text in texts]
    codes = np.frombuffer("".join(marked).encode("utf-32-le", "replace"), dtype=np.uint32).astype(np.uint64)
    owners = np.repeat(np.arange(len(marked)), [len(text) for text in marked])
    whole = owners[:-2] == owners[2:]
    mixed = codes[:-2] * _MIX[0] ^ codes[1:-1] * _MIX[1] ^ codes[2:] * _MIX[2]
    columns = (mixed[whole] >> np.uint64(32)) & np.uint64(BUCKETS - 1)
    keys, counts = np.unique(owners[:-2][whole].astype(np.uint64) * np.uint64(BUCKETS) + columns, return_counts=True)
    found, column = np.divmod(keys, np.uint64(BUCKETS))
    return (found.astype(np.int64) + first).astype(np.int32), column.astype(np.int32), counts.astype(np.int32)


def _shortened(text: str, read: int) -> str:
    """Return the beginning and end of a long text: instructions stand at the beginning, questions often at the end."""
    return text if len(text) <= read else f"{text[: read // 2]} {text[-(read // 2) :]}"
