"""Define what a run trains on: the number and lengths of its conversations, and what a dry run measured."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sft_app.data.checkup.lengths import TokenLengths
from sft_app.data.split import size_to_hold_out
from sft_app.settings import RunSettings, replayed_conversations, without_replay_of_text

# The usual lengths of a replayed conversation and of its answer (`training/replay`), and the longest ones.
REPLAYED_TOKENS, REPLAYED_TRAINED = 80, 40
REPLAYED_LONGEST, REPLAY_TOKENS = 220, 120
# The file in the run folder that a dry run writes its `DryRunResult` to.
MEASURED_FILE = "measured.json"


@dataclass(frozen=True)
class Workload:
    """The conversations of a run.

    `tokens` and `trained` are the lengths of a sample, cut at `max_length`, the longest first; `conversations` and
    `heldout` count all of one's own. They start with the same `beginning` tokens. Each pass has `replayed` general
    conversations on top. `is_text` if they are running text.
    """

    tokens: np.ndarray
    trained: np.ndarray
    conversations: int
    heldout: int
    max_length: int
    beginning: int = 0
    replayed: int = 0
    is_text: bool = False

    @property
    def mean_tokens(self) -> float:
        return float(self.tokens.mean())

    @property
    def mean_trained(self) -> float:
        return float(self.trained.mean())

    @property
    def row_tokens(self) -> float:
        """Return the mean length of what is trained on, with the replayed conversations."""
        return self._with_replay(self.mean_tokens, REPLAYED_TOKENS)

    @property
    def row_trained(self) -> float:
        """Return the mean number of trained tokens, with the replayed conversations."""
        return self._with_replay(self.mean_trained, REPLAYED_TRAINED)

    @property
    def row_lengths(self) -> np.ndarray:
        """Return the lengths of a sample of what is trained on, with the replayed conversations, the longest first."""
        added = round(len(self.tokens) * self.replayed / self.conversations) if self.conversations else 0
        return np.sort(np.append(self.tokens, np.full(added, min(self.max_length, REPLAYED_TOKENS))))[::-1]

    def _with_replay(self, own: float, replayed: int) -> float:
        rows = self.conversations + self.replayed
        return (self.conversations * own + self.replayed * min(replayed, self.max_length)) / rows if rows else own

    def longest(self, rows: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the tokens and the trained tokens of the longest `rows` conversations, each (rows,)."""
        tokens, trained = np.resize(self.tokens[:rows], rows), np.resize(self.trained[:rows], rows)
        if not self.replayed:
            return tokens, trained
        tokens = np.append(tokens, np.full(rows, min(self.max_length, REPLAYED_LONGEST)))
        trained = np.append(trained, np.full(rows, min(self.max_length, REPLAY_TOKENS)))
        order = np.argsort(-tokens, kind="stable")[:rows]
        return tokens[order], trained[order]


@dataclass(frozen=True)
class DryRunResult:
    """What a dry run measured. `seconds_per_step` is for a step of `tokens_per_step`, with the largest batch.

    `loss_spread` is that of the base model (`evaluation/power`), None if it is not known.
    """

    peak_gib: float
    seconds_per_step: float
    tokens_per_step: float
    trained_per_step: float
    loss_spread: float | None = None


def plan_workload(lengths: TokenLengths, settings: RunSettings) -> Workload:
    """Build a run's workload from the lengths of its data. Raises: DataError if none is left to train on."""
    max_length = lengths.max_length_for(settings.max_length)
    order = np.argsort(-lengths.lengths)
    tokens = np.minimum(lengths.lengths[order], max_length)
    trained = lengths.trained_of(max_length)[order]
    total = lengths.total - len(lengths.refused) * max(1, round(lengths.total / max(len(lengths.lengths), 1)))
    heldout = size_to_hold_out(total, settings)
    own = total - heldout
    replayed = replayed_conversations(without_replay_of_text(settings, lengths.is_text), own)
    return Workload(tokens, trained, own, heldout, max_length, lengths.beginning, replayed, lengths.is_text)
