"""Describe requests to two sides as plain values that can be sent to the process with the models. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sft_app.inference.sides import Side

if TYPE_CHECKING:
    from sft_app.inference.generation import Sampling
    from sft_app.inference.pair import LoadedPair
    from sft_app.inference.stream import Messages


class PairTask(Protocol):
    """Describes a request to two sides."""

    @property
    def steps(self) -> int:
        """Return the maximum number of tokens generated one after the other."""

    def results(self, pair: LoadedPair) -> Iterator[Any]:
        """Yield the results.

        Raises: AppError.
        """


@dataclass(frozen=True)
class AnswerTask:
    """Asks both sides a question; the results are `PairUpdate`s."""

    left: Messages
    right: Messages
    sampling: Sampling
    strength: float = 1.0

    @property
    def steps(self) -> int:
        """Return the maximum number of tokens generated one after the other."""
        return 2 * self.sampling.max_new_tokens  # sides that cannot share a batch answer in turn

    def results(self, pair: LoadedPair) -> Iterator[Any]:
        """Yield `PairUpdate`s."""
        from sft_app.inference.stream import stream_pair

        return stream_pair(pair, self.left, self.right, self.sampling, self.strength)


@dataclass(frozen=True)
class NextTokenTask:
    """Asks what each side would write next; the only result is (the end of the preceding text, the candidates)."""

    conversations: Sequence[Messages]
    written: Sequence[int]
    strength: float
    shown_before: int
    steps: int = 2

    def results(self, pair: LoadedPair) -> Iterator[Any]:
        """Yield the end of the preceding text and the candidates."""
        from sft_app.inference.stream import next_token_candidates

        before = pair.tokenizer.decode(self.written)[-self.shown_before :]
        yield before, next_token_candidates(pair, self.conversations, self.written, self.strength)


@dataclass(frozen=True)
class PairTaskRequest:
    """Holds a task with its sides and the size of their base in memory."""

    task: PairTask
    sides: tuple[Side, Side]
    home: Path
    base_gib: float
