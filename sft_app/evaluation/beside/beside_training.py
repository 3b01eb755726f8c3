"""Put into words what the scorecard says besides base and fine-tuned: prompts, further sides, memorised answers.

Imports no torch.
"""

from __future__ import annotations

from dataclasses import dataclass

from sft_app.evaluation.beside.memorised_verdict import is_memorising, memorised_sentence
from sft_app.evaluation.beside.prompted_verdicts import (
    PromptLine,
    PromptVerdict,
    prompt_verdict,
    prompted_lines,
    prompted_note,
    prompted_sentence,
)
from sft_app.evaluation.beside.side_verdicts import SideComparison, compare_sides
from sft_app.runs.memorised import RepeatedAnswer
from sft_app.runs.scorecard import Scorecard

COMMON_PHRASES = "Phrases that many of your answers share, such as a sign-off, do not count."


@dataclass(frozen=True)
class PromptComparison:
    """The base model with a prompt next to the fine-tuned model; without `lines` if they could not be compared."""

    verdict: PromptVerdict
    sentence: str
    note: str
    lines: list[PromptLine]


@dataclass(frozen=True)
class RepeatedAnswers:
    """How much of the answers repeats training answers; `worst` are those that repeat most."""

    sentence: str
    note: str
    is_memorising: bool
    worst: list[RepeatedAnswer]


@dataclass(frozen=True)
class BesideTraining:
    """Each part is None if it was not measured; `sides` are those that were asked for."""

    prompted: PromptComparison | None
    sides: list[SideComparison]
    memorised: RepeatedAnswers | None

    def sentences(self) -> list[str]:
        """Return a sentence for each part that was measured."""
        sides = [f"{side.label}: {side.sentence}" for side in self.sides]
        before, after = ([part.sentence] if part else [] for part in (self.prompted, self.memorised))
        return [*before, *sides, *after]


def beside_training(card: Scorecard | None) -> BesideTraining:
    """Return both parts of a scorecard in words."""
    prompted, memorised = (card.prompted, card.memorised) if card else (None, None)
    return BesideTraining(
        prompted=PromptComparison(
            prompt_verdict(prompted),
            prompted_sentence(prompted),
            prompted_note(prompted) if prompted.predicted else "",
            prompted_lines(prompted),
        )
        if prompted
        else None,
        sides=compare_sides(card.sides) if card else [],
        memorised=RepeatedAnswers(
            memorised_sentence(memorised), COMMON_PHRASES, is_memorising(memorised), memorised.worst
        )
        if memorised
        else None,
    )
