"""Measure conversations in tokens, compute how much of them each `max_length` keeps, and suggest one."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from sft_app.data.reading import Example
from sft_app.data.rows import JsonObject, Rejected
from sft_app.data.tokens import IGNORED, RenderedConversation, render_conversation
from sft_app.errors import DataError, NoChatTemplate
from sft_app.runtime.progress import ProgressCallback

CANDIDATES = (128, 256, 512, 1024, 2048, 4096, 8192, 16_384, 32_768, 65_536, 131_072)
BINS = 24
UNLIMITED = 2**31
QUICKLY_MEASURED = 2_000
"""How many conversations are enough for a quick estimate."""
COVERED, MULTIPLE, LEAST = 0.99, 64, 128
"""The suggested `max_length` keeps this share of the conversations whole, rounded up to a multiple of 64. It is at
least 128, so that replayed conversations fit next to answers of one word."""


@dataclass(frozen=True)
class Kept:
    """What a `max_length` keeps, as shares from 0 to 1: uncut conversations and trained tokens."""

    max_length: int
    conversations: float
    trained_tokens: float


@dataclass(frozen=True)
class TokenLengths:
    """The token lengths of the measured conversations, out of `total` conversations, sorted by row.

    `rows`, `lengths` and `trained` are int64 (measured,); `trained_within` (measured, limits) counts the trained
    tokens within each of `limits`. `refused` are those that the chat template rejects. `max_length` is the requested
    value, or `suggested_max_length` if there is none. All conversations start with the same `beginning` tokens.
    """

    rows: np.ndarray
    lengths: np.ndarray
    trained: np.ndarray
    trained_within: np.ndarray
    limits: tuple[int, ...]
    refused: list[Rejected]
    total: int
    max_length: int
    suggested_max_length: int
    beginning: int
    is_text: bool = False
    """Whether they are running text without turns."""

    def max_length_for(self, requested: int | None) -> int:
        """Return the `max_length` of a run: the requested value, or the suggested one if it is None."""
        return requested or self.suggested_max_length

    def trained_of(self, max_length: int) -> np.ndarray:
        """Estimate how many trained tokens of each conversation `max_length` keeps, int64 (measured,).

        A cut removes the end of a conversation, where the answer is. The estimate is exact for a single answer.
        """
        kept: np.ndarray = np.maximum(self.trained - np.maximum(self.lengths - max_length, 0), 0)
        return kept

    def percentile(self, share: float) -> int:
        """Compute a percentile of the lengths, by the nearest rank; `share` is 0 to 1."""
        return int(np.percentile(self.lengths, 100 * share, method="inverted_cdf"))

    def kept(self, max_length: int) -> Kept:
        """Compute what a `max_length` keeps. Raises: ValueError if it is not one of `limits`."""
        within = self.trained_within[:, self.limits.index(max_length)]
        uncut = float(np.mean(self.lengths <= max_length))
        return Kept(max_length, uncut, float(within.sum() / max(self.trained.sum(), 1)))

    def cut_rows(self, max_length: int) -> list[int]:
        """List the rows that lose trained tokens."""
        within = self.trained_within[:, self.limits.index(max_length)]
        return sorted(set(self.rows[within < self.trained].tolist()))

    def kept_table(self) -> list[Kept]:
        """Compute what each common `max_length` keeps, up to the first that keeps everything."""
        table: list[Kept] = []
        for limit in CANDIDATES:
            table.append(self.kept(limit))
            if limit >= self.lengths.max():
                break
        return table

    def histogram(self) -> list[tuple[int, int, int]]:
        """Count conversations by length in bins of equal width: (from, to, conversations), `to` excluded."""
        width = max(1, -(-int(self.lengths.max() + 1) // BINS))
        edges = np.arange(0, int(self.lengths.max()) + width + 1, width)
        counts, _ = np.histogram(self.lengths, edges)
        return [(int(low), int(low + width), int(n)) for low, n in zip(edges[:-1], counts, strict=True)]

    def as_json(self) -> JsonObject:
        """Return the lengths in tokens, as `inspect --json` prints them."""
        return {
            "p50": self.percentile(0.50),
            "p95": self.percentile(0.95),
            "p99": self.percentile(0.99),
            "max": int(self.lengths.max()),
            "max_length": self.max_length,
            "suggested_max_length": self.suggested_max_length,
            "measured": len(self.lengths),
            "of": self.total,
            "kept": [asdict(kept) for kept in self.kept_table()],
            "histogram": [{"from": low, "to": high, "conversations": n} for low, high, n in self.histogram()],
        }


def suggest_max_length(lengths: np.ndarray, context: int) -> int:
    """Suggest the 99th percentile of token `lengths`, rounded up to a multiple of 64, from 128 to `context`
    tokens."""
    enough = int(np.percentile(lengths, 100 * COVERED, method="inverted_cdf"))
    return min(max(LEAST, MULTIPLE * math.ceil(enough / MULTIPLE)), context, CANDIDATES[-1])


def measure_lengths(
    tokenizer: Any,
    examples: Sequence[Example],
    max_length: int | None,
    total: int,
    on_progress: ProgressCallback | None = None,
) -> TokenLengths:
    """Measure every example by rendering it. If `max_length` is None, the suggested one is used.

    Raises:
        DataError: there is no chat template, or it rejects all of them.
    """
    rows, trained_spans, lengths, refused = [], [], [], []
    is_text = all(example.conversation.is_text() for example in examples)
    common: list[int] | None = None
    for done, example in enumerate(sorted(examples, key=lambda example: example.row)):
        try:
            rendered = render_conversation(tokenizer, example.conversation, UNLIMITED)
            lengths.append(len(rendered.labels))
            trained_spans.append(_spans(rendered))
            common = _common(rendered.input_ids if common is None else common, rendered)
            rows.append(example.row)
        except NoChatTemplate:
            raise
        except DataError as error:
            refused.append(Rejected(example.row, str(error)))
        if on_progress and done % 50 == 0:
            on_progress(done / len(examples))
    if not rows:
        raise DataError(f"Row {refused[0].row}: {refused[0].reason}")
    suggested = suggest_max_length(np.array(lengths), tokenizer.model_max_length)
    chosen = suggested if max_length is None else max_length
    limits = tuple(sorted({*CANDIDATES, chosen}))
    within = np.array(
        [[_within(spans, limit) for limit in (*limits, UNLIMITED)] for spans in trained_spans], dtype=np.int64
    )
    return TokenLengths(
        rows=np.array(rows),
        lengths=np.array(lengths, dtype=np.int64),
        trained=within[:, -1],
        trained_within=within[:, :-1],
        limits=limits,
        refused=refused,
        total=total,
        max_length=chosen,
        suggested_max_length=suggested,
        beginning=len(common or ()),
        is_text=is_text,
    )


def _common(beginning: list[int], rendered: RenderedConversation) -> list[int]:
    """Shorten the common beginning to the part that this conversation shares before its first trained token."""
    pairs = zip(beginning, rendered.input_ids, rendered.labels, strict=False)
    return [id for id, _, _ in itertools.takewhile(lambda pair: pair[0] == pair[1] and pair[2] == IGNORED, pairs)]


def _spans(rendered: RenderedConversation) -> list[tuple[int, int]]:
    """Find the spans of trained tokens: (from, to), `to` excluded."""
    trained = np.diff((np.array(rendered.labels) != IGNORED).astype(np.int8), prepend=0, append=0)
    return list(zip(np.flatnonzero(trained == 1).tolist(), np.flatnonzero(trained == -1).tolist(), strict=True))


def _within(spans: list[tuple[int, int]], limit: int) -> int:
    """Count the trained tokens before `limit`."""
    return sum(min(end, limit) - start for start, end in spans if start < limit)
