"""Define what a run trains on: the number and lengths of its conversations, and what a dry run measured."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sft_app.data.checkup.lengths import TokenLengths
from sft_app.data.split import size_to_hold_out
from sft_app.settings import RunSettings, replayed_conversations

# The usual lengths of a replayed conversation and of its answer (`training/replay`).
REPLAYED_TOKENS, REPLAYED_TRAINED = 80, 40
# The file in the run folder that a dry run writes its `DryRunResult` to.
MEASURED_FILE = "measured.json"


@dataclass(frozen=True)
class Workload:
    """The conversations of a run.

    `tokens` and `trained` are the lengths of a sample, cut at `max_length`, the longest first, replayed conversations
    included; `conversations` and `heldout` count all of one's own. All conversations start with the same `beginning`
    tokens.
    """

    tokens: np.ndarray
    trained: np.ndarray
    conversations: int
    heldout: int
    max_length: int
    beginning: int = 0

    @property
    def mean_tokens(self) -> float:
        return float(self.tokens.mean())

    @property
    def mean_trained(self) -> float:
        return float(self.trained.mean())


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
    tokens, trained = _with_replay(tokens, trained, settings)
    total = lengths.total - len(lengths.refused) * max(1, round(lengths.total / max(len(lengths.lengths), 1)))
    heldout = size_to_hold_out(total, settings)
    return Workload(tokens, trained, total - heldout, heldout, max_length, lengths.beginning)


def _with_replay(tokens: np.ndarray, trained: np.ndarray, settings: RunSettings) -> tuple[np.ndarray, np.ndarray]:
    """Add the replayed conversations to a sample, which is in descending order of `tokens`."""
    added = replayed_conversations(settings, len(tokens))
    if not added:
        return tokens, trained
    longest = int(tokens.max())
    tokens = np.concatenate([tokens, np.full(added, min(longest, REPLAYED_TOKENS))])
    trained = np.concatenate([trained, np.full(added, min(longest, REPLAYED_TRAINED))])
    order = np.argsort(-tokens, kind="stable")
    return tokens[order], trained[order]
