"""Derive what each part of a scorecard shows. Imports no torch.

Every sentence about a result takes its words from these findings, so that no two sentences disagree.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sft_app.evaluation.suites.summary import SuiteVerdict, suite_verdict
from sft_app.evaluation.verdicts import (
    TOO_FEW,
    UNJUDGED,
    cannot_be_judged,
    judgeable_answers,
    scorecard_lines,
    verdict_of_loss,
)
from sft_app.runs.known import Known, KnownCounts
from sft_app.runs.scorecard import PredictedScores, Scorecard

Change = Literal["better", "worse", "unchanged", "too few", "not a number", "not measured"]
TaskOutcome = Change | SuiteVerdict
Situation = Literal["nothing lost", "some lost", "too few known", "none known", "not a number", "not measured"]
FEWEST_KNOWN = 10
"""With none lost of ten, up to 31 % of all such questions may still be lost (the exact 95 % interval)."""
SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Findings:
    """What a scorecard shows, part by part.

    `task` is what happened at the person's own task, by the measure that was named before training; `loss` is that on
    held-out conversations, `general` that on general questions. `known` is what became of the general questions that
    the base model knew, and `lost_beyond_chance` whether more of them were lost than gained. `others` are (label,
    verdict) of all other measures that changed.
    """

    decider: Literal["loss", "tests"]
    task: TaskOutcome
    loss: Change
    tests: SuiteVerdict
    general: Change
    known: Situation
    lost_beyond_chance: bool
    others: tuple[tuple[str, str], ...]

    @property
    def has_forgotten(self) -> bool:
        """Whether the loss on general questions rose, or known questions were lost, beyond chance."""
        return self.general == "worse" or self.lost_beyond_chance

    @property
    def is_forgetting_unjudged(self) -> bool:
        """Whether a model produced values that are not numbers on the general questions."""
        return "not a number" in (self.general, self.known)


def find_results(card: Scorecard) -> Findings:
    """Derive the findings of a scorecard."""
    loss = _change(card)
    tests = suite_verdict(card.tests)
    task: TaskOutcome = tests if card.primary == "tests" and loss != "not a number" else loss
    return Findings(
        decider=card.primary,
        task=task,
        loss=loss,
        tests=tests,
        general="not measured" if card.general is None else _change(card.general),
        known="not measured" if card.known is None else situation(card.known),
        lost_beyond_chance=card.known is not None and lost_more_than_gained(card.known),
        others=tuple(_other_changes(card)),
    )


def situation(known: Known) -> Situation:
    """Return which of the things that can be said of the known questions applies."""
    counts = measured_counts(known)
    if known.is_broken:
        return "not a number"
    if any(part.lost for part in counts):
        return "some lost"
    most = max((part.known for part in counts), default=0)
    if not most:
        return "none known"
    return "nothing lost" if most >= FEWEST_KNOWN else "too few known"


def lost_more_than_gained(known: Known) -> bool:
    """Return whether more questions were lost than gained, beyond chance."""
    return not known.is_broken and any(
        part.lost > part.gained and part.p_holm <= SIGNIFICANT for part in measured_counts(known)
    )


def measured_counts(known: Known) -> list[KnownCounts]:
    """Return the counts of each way of measuring what was known."""
    return [counts for counts in (known.by_answer, known.by_loss) if counts is not None]


def _change(part: PredictedScores) -> Change:
    """Return how the loss changed, beyond chance."""
    verdict = verdict_of_loss(part)
    if cannot_be_judged(part) or verdict == UNJUDGED:
        return "not a number"
    if verdict == TOO_FEW:
        return "too few"
    return "better" if verdict == "better" else "worse" if verdict == "worse" else "unchanged"


def _other_changes(card: Scorecard) -> list[tuple[str, str]]:
    """Return (label, verdict) of each measure besides the losses that changed beyond chance."""
    parts = (("", card), ("", judgeable_answers(card)), (" on general questions", card.general))
    return [
        (f"{line.label}{where}", line.verdict)
        for where, part in parts
        if part is not None
        for line in scorecard_lines(part)
        if line.name != "loss" and line.verdict in ("better", "worse", "changed")
    ]
