"""Define `strength.json`: how strongly the adapter is applied, and what was measured to choose that."""

from __future__ import annotations

from sft_app.runs.records import Number, Record

STRENGTHS = (1.25, 1.0, 0.75, 0.5, 0.25)
"""The shares of an adapter's trained strength that are tried."""
CHOOSING_QUESTIONS = 40
"""How many general questions choose, at most; they are not those of the scorecard."""


class TriedStrength(Record):
    """What an adapter does at a share of its trained strength; losses are in nats per token.

    `heldout_loss` is that of the conversations that choose, None if there are none. Of the `known` general questions,
    `lost` are no longer predicted well.
    """

    strength: float
    heldout_loss: Number | None = None
    general_loss: Number = 0.0
    known: int = 0
    lost: int = 0


class StrengthChoice(Record):
    """The strength that was kept, and all that were tried. The saved adapter has it already; 1 is as trained.

    If it was chosen `by_hand`, it need not be one of those tried.
    """

    chosen: float = 1.0
    by_hand: bool = False
    questions: int = 0
    tried: list[TriedStrength] = []
