"""Say whether fine-tuning does better than a prompt with training examples. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sft_app.evaluation.verdicts import (
    FEWEST_TO_JUDGE,
    METRICS,
    TOO_FEW,
    UNJUDGED,
    Line,
    scorecard_lines,
    verdict_of_loss,
)
from sft_app.runs.scorecard import PredictedScores, PromptedScores
from sft_app.runs.summary import number_text

PromptVerdict = Literal["fine-tuned", "prompt", "as well", "too few", "not judged"]
EQUAL_WITHIN = 0.05
"""A prompt does as well if the whole interval of the difference lies within this share of its loss."""


@dataclass(frozen=True)
class PromptLine:
    """A metric with the base model's value without a prompt; in `line`, the side called base has the prompt."""

    line: Line
    plain: str


def prompted_lines(found: PromptedScores) -> list[PromptLine]:
    """Return a line per metric: the base model, the base model with the prompt, and the fine-tuned model."""
    parts = [part for part in (found.predicted, found.answers) if part is not None]
    return [
        PromptLine(
            line, number_text(found.base[line.name], METRICS[line.name].shown) if line.name in found.base else "–"
        )
        for part in parts
        for line in scorecard_lines(part)
    ]


def prompt_verdict(found: PromptedScores) -> PromptVerdict:
    """Return which does better, by the loss on the last reference answers."""
    part = found.predicted
    if part is None:
        return "not judged"
    verdict = verdict_of_loss(part)
    if verdict == UNJUDGED:
        return "not judged"
    if found.is_flattered and verdict == "better":
        return "too few"
    if verdict == TOO_FEW:
        return "as well" if _is_within_margin(part) else "too few"
    return {"better": "fine-tuned", "worse": "prompt"}.get(verdict, "as well")  # type: ignore[return-value]


def prompted_sentence(found: PromptedScores) -> str:
    """Say whether the fine-tuned model beats the prompt, by how much, and what follows."""
    part = found.predicted
    if found.note or part is None:
        reason = found.note or "No held-out answer could be scored with examples in front of its question."
        return f"Prompt or fine-tune? Not compared. {reason}"
    prompt, losses = _prompt_in_words(found), _losses_in_words(part)
    match prompt_verdict(found):
        case "fine-tuned":
            sentence = f"Fine-tuning does better than a prompt with {prompt}: {losses}."
        case "prompt":
            sentence = (
                f"A prompt with {prompt} does better than this fine-tuned model: {losses}. "
                "Use the prompt, or train on more examples or for longer."
            )
        case "as well":
            sentence = (
                f"A prompt with {prompt} does as well as this fine-tuned model, to within {EQUAL_WITHIN:.0%}: "
                f"{losses}. Fine-tuning only makes the prompt shorter."
            )
        case "too few":
            sentence = (
                f"Not enough rows to tell whether fine-tuning does better than a prompt with {prompt}: {losses} on "
                f"{part.row_count} {'answer' if part.row_count == 1 else 'answers'}."
            )
        case _:
            sentence = f"A prompt with {prompt} cannot be compared: a loss is not a number."
    return f"{sentence} {_contradiction(found)}".strip()


def prompted_note(found: PromptedScores) -> str:
    """Say how the comparison was made, and what was left out."""
    rows = found.predicted.row_count if found.predicted else 0
    system = "the run's system prompt and " if found.has_system else ""
    made = (
        f"The base model gets {system}the nearest training examples as earlier turns, {found.used:.1f} on average; the "
        f"fine-tuned model gets only the question. The loss is that of the last answer of {rows} held-out "
        f"{'conversation' if rows == 1 else 'conversations'}."
    )
    left_out = f" For {found.left_out} of the questions, the prompt was too long." if found.left_out else ""
    flattered = " The same conversations chose the fine-tuned weights, so their lead is not judged."
    return f"{made}{left_out}{flattered if found.is_flattered else ''}"


def _is_within_margin(part: PredictedScores) -> bool:
    difference, margin = part.difference.get("loss"), EQUAL_WITHIN * part.base["loss"]
    if (
        part.independent_rows < FEWEST_TO_JUDGE
        or difference is None
        or difference.low is None
        or difference.high is None
    ):
        return False
    return -margin <= difference.low and difference.high <= margin


def _prompt_in_words(found: PromptedScores) -> str:
    if not found.used:
        return "no examples (none had room)"
    most = "" if found.used == found.examples else "up to "
    return f"{most}{found.examples} of your examples" if found.examples > 1 else "the nearest of your examples"


def _losses_in_words(part: PredictedScores) -> str:
    prompt, tuned = (number_text(side["loss"], METRICS["loss"].shown) for side in (part.base, part.tuned))
    return f"loss {prompt} with the prompt, {tuned} fine-tuned"


def _contradiction(found: PromptedScores) -> str:
    """Say if the models' own answers show the opposite of the loss; "" if they do not."""
    if found.answers is None:
        return ""
    shown = {line.name: line for line in scorecard_lines(found.answers)}
    others = {"fine-tuned": ["worse"], "prompt": ["better"], "as well": ["better", "worse"]}
    line = shown.get("chrf")
    if line is None or line.verdict not in others.get(prompt_verdict(found), []):
        return ""
    closer = "with the prompt" if line.verdict == "worse" else "of the fine-tuned model"
    return (
        f"But the answers {closer} are closer to the reference answers "
        f"({line.label}: {line.base} with the prompt, {line.tuned} fine-tuned)."
    )
