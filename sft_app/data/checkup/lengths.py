"""How many tokens the conversations have, and what each `max_length` keeps of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from sft_app.data.reading import Example
from sft_app.data.sources.rows import Progress, Rejected
from sft_app.data.tokens import IGNORED, RenderedConversation, render_conversation
from sft_app.errors import DataError

CANDIDATES = (128, 256, 512, 1024, 2048, 4096, 8192, 16_384, 32_768, 65_536, 131_072)
BINS = 24


@dataclass(frozen=True)
class Kept:
    """What a `max_length` keeps: shares, 0 to 1, of conversations that stay whole and of trained tokens."""

    max_length: int
    conversations: float
    trained_tokens: float


@dataclass(frozen=True)
class TokenLengths:
    """Of `total` conversations those that were measured, sorted by row.

    `rows`, `lengths` and `trained` are int64 (measured,); `trained_within` (measured, limits) counts the trained
    tokens within each of `limits`. `refused` are those that the chat template does not take.
    """

    rows: np.ndarray
    lengths: np.ndarray
    trained: np.ndarray
    trained_within: np.ndarray
    limits: tuple[int, ...]
    refused: list[Rejected]
    total: int

    def percentile(self, share: float) -> int:
        """Nearest rank."""
        return int(np.percentile(self.lengths, 100 * share, method="inverted_cdf"))

    def kept(self, max_length: int) -> Kept:
        """Raises: ValueError when `max_length` is not one of `limits`."""
        within = self.trained_within[:, self.limits.index(max_length)]
        whole = float(np.mean(self.lengths <= max_length))
        return Kept(max_length, whole, float(within.sum() / max(self.trained.sum(), 1)))

    def cut_rows(self, max_length: int) -> list[int]:
        """Rows that lose trained tokens."""
        within = self.trained_within[:, self.limits.index(max_length)]
        return sorted(set(self.rows[within < self.trained].tolist()))

    def kept_table(self) -> list[Kept]:
        """For the usual lengths up to the first that keeps everything."""
        table: list[Kept] = []
        for limit in CANDIDATES:
            table.append(self.kept(limit))
            if limit >= self.lengths.max():
                break
        return table

    def histogram(self) -> list[tuple[int, int, int]]:
        """(from, to, conversations) of equal widths up to the longest; `to` is not included."""
        width = max(1, -(-int(self.lengths.max() + 1) // BINS))
        edges = np.arange(0, int(self.lengths.max()) + width + 1, width)
        counts, _ = np.histogram(self.lengths, edges)
        return [(int(low), int(low + width), int(n)) for low, n in zip(edges[:-1], counts, strict=True)]

    def as_json(self) -> dict[str, Any]:
        return {
            "p50": self.percentile(0.50),
            "p95": self.percentile(0.95),
            "p99": self.percentile(0.99),
            "max": int(self.lengths.max()),
            "measured": len(self.lengths),
            "of": self.total,
            "kept": [asdict(kept) for kept in self.kept_table()],
            "histogram": [{"from": low, "to": high, "conversations": n} for low, high, n in self.histogram()],
        }


def measure_lengths(
    tokenizer: Any, examples: Sequence[Example], max_length: int, total: int, on_progress: Progress | None = None
) -> TokenLengths:
    """Renders every example.

    Raises:
        DataError: the template takes none of them.
    """
    limits = tuple(sorted({*CANDIDATES, max_length}))
    rows, measured, refused = [], [], []
    for done, example in enumerate(sorted(examples, key=lambda example: example.row)):
        try:
            measured.append(_measure(render_conversation(tokenizer, example.conversation, max_length), limits))
            rows.append(example.row)
        except DataError as error:
            refused.append(Rejected(example.row, str(error)))
        if on_progress and done % 50 == 0:
            on_progress(done / len(examples))
    if not measured:
        raise DataError(f"Row {refused[0].row}: {refused[0].reason}")
    table = np.array(measured, dtype=np.int64)
    return TokenLengths(np.array(rows), table[:, 0], table[:, 1], table[:, 2:], limits, refused, total)


def _measure(rendered: RenderedConversation, limits: tuple[int, ...]) -> list[int]:
    """Tokens, trained tokens, and the trained ones within each limit."""
    places = np.flatnonzero(np.array(rendered.labels) != IGNORED)
    return [len(rendered.labels), len(places), *np.searchsorted(places, limits).tolist()]
