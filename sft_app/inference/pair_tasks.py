"""What can be asked of two sides, as plain values: a process that holds the models can be given it, and only plain
values come back. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sft_app.inference.sides import Side

if TYPE_CHECKING:
    from sft_app.inference.generation import Sampling
    from sft_app.inference.pair import LoadedPair

Messages = Sequence[dict[str, str]]


class PairTask(Protocol):
    """`steps` is how many tokens are generated one after the other, at most."""

    @property
    def steps(self) -> int: ...

    def results(self, pair: LoadedPair) -> Iterator[Any]:
        """Raises: AppError."""


@dataclass(frozen=True)
class AnswerTask:
    """Both answers to a question; the results are `PairUpdate`s."""

    left: Messages
    right: Messages
    sampling: Sampling
    strength: float = 1.0

    @property
    def steps(self) -> int:
        return 2 * self.sampling.max_new_tokens  # sides that are no rows of one batch answer in turn

    def results(self, pair: LoadedPair) -> Iterator[Any]:
        from sft_app.inference.stream import stream_pair

        return stream_pair(pair, self.left, self.right, self.sampling, self.strength)


@dataclass(frozen=True)
class NextTokenTask:
    """What each side would say next; the one result is (the end of what stands before it, the candidates)."""

    asked: Sequence[Messages]
    written: Sequence[int]
    strength: float
    shown_before: int
    steps: int = 2

    def results(self, pair: LoadedPair) -> Iterator[Any]:
        from sft_app.inference.stream import candidates_after

        before = pair.tokenizer.decode(self.written)[-self.shown_before :]
        yield before, candidates_after(pair, self.asked, self.written, self.strength)


@dataclass(frozen=True)
class PlacedTask:
    """A task with the sides it is asked of, and how large their base is in memory."""

    task: PairTask
    sides: tuple[Side, Side]
    home: Path
    base_gib: float
