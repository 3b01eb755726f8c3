"""Ask whether the fine-tuned model is not worse than the base by more than a margin of the loss. Imports no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from sft_app.errors import SettingsError
from sft_app.evaluation.verdicts import FEWEST_TO_JUDGE, cannot_be_judged, is_uncorrected
from sft_app.runs.scorecard import PredictedScores, Scorecard
from sft_app.runs.summary import as_float

Answer = Literal["not worse", "worse", "not enough rows to tell", "not a number"]


@dataclass(frozen=True)
class LossMargin:
    """Whether the loss of a part of the scorecard rose by more than `margin` nats per token."""

    part: str
    margin: float
    answer: Answer
    sentence: str


def loss_margins(card: Scorecard, margin: float) -> list[LossMargin]:
    """Answer the question for the held-out conversations and, if they were measured, for the general questions.

    "Not worse" means that the whole 95 % interval of the change lies below the margin: a one-sided test at 2.5 %.
    Source: Piaggio et al. 2012, "Reporting of noninferiority and equivalence randomized trials" (CONSORT).

    Raises:
        SettingsError: the margin is not above 0.
    """
    check_margin(margin)
    parts = {"held-out conversations": card, "general questions": card.general}
    return [_answer(name, part, margin) for name, part in parts.items() if part is not None]


def check_margin(margin: float) -> None:
    """Raises: SettingsError if the margin is not above 0."""
    if not (math.isfinite(margin) and margin > 0):
        raise SettingsError("The margin must be above 0, for example 0.05 nats per token.")


def _answer(name: str, part: PredictedScores, margin: float) -> LossMargin:
    change = part.difference.get("loss")
    low, high = (as_float(end) for end in (change.low, change.high)) if change else (math.nan, math.nan)
    if cannot_be_judged(part):
        return LossMargin(name, margin, "not a number", f"The loss on {name} cannot be judged: it is not a number.")
    if part.independent_rows < FEWEST_TO_JUDGE or not math.isfinite(low + high):
        needed = f"at least {FEWEST_TO_JUDGE} are needed"
        sentence = f"There are too few {name} to tell whether the loss rose by more than {margin:g}: {needed}."
        return LossMargin(name, margin, "not enough rows to tell", sentence)
    if is_uncorrected(part):
        sentence = (
            f"It cannot be told whether the loss on {name} rose by more than {margin:g}: the same conversations chose "
            "the weights. Bring a file of held-out conversations for the next run."
        )
        return LossMargin(name, margin, "not enough rows to tell", sentence)
    found = f"the 95% interval of the change is {low:+.3f} to {high:+.3f}"
    if high < margin:
        return LossMargin(
            name, margin, "not worse", f"The loss on {name} did not rise by more than {margin:g}: {found}."
        )
    if low > margin:
        return LossMargin(name, margin, "worse", f"The loss on {name} rose by more than {margin:g}: {found}.")
    sentence = f"It is not clear whether the loss on {name} rose by more than {margin:g}: {found}."
    return LossMargin(name, margin, "not enough rows to tell", sentence)
