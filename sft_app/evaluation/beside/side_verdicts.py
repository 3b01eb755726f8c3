"""Say whether the fine-tuned model answers better than a further side. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sft_app.evaluation.verdicts import FEWEST_TO_JUDGE, UNJUDGED, Line, note_before_numbers, scorecard_lines
from sft_app.runs.scorecard import AnswerScores, SideAnswers

DECIDING_METRIC = "chrf"
HIDDEN = ("worse", "changed")
ONLY_REFERENCES = "All of its answers are the reference answers, word for word. Check that a model wrote them."


@dataclass(frozen=True)
class SideComparison:
    """A further side next to the fine-tuned model; in `lines`, the side called base is this one."""

    label: str
    sentence: str
    note: str
    lines: list[Line]


def compare_sides(sides: list[SideAnswers]) -> list[SideComparison]:
    """Return each further side of a scorecard in words and numbers."""
    return [SideComparison(side.label, side_sentence(side), _note(side), _lines(side)) for side in sides]


def side_sentence(side: SideAnswers) -> str:
    """Say whose answers are closer to the reference answers, by chrF."""
    line = _deciding_line(side.answers) if side.answers else None
    if line is None or side.answers is None:
        return f"Not compared. {side.note}".strip()
    numbers = f"{line.label}: {line.base} against {line.tuned} fine-tuned"
    asked = f"{side.answers.prompts} {'question' if side.answers.prompts == 1 else 'questions'}"
    if line.verdict == UNJUDGED:
        return "The answers cannot be compared, because a model produced NaN or infinite values."
    if side.is_flattered:
        return f"No verdict, because the same conversations chose the fine-tuned weights ({numbers}, {asked})."
    if side.trained_on and line.verdict != "better":
        return (
            f"No verdict, because some of these questions, or nearly the same ones, trained it or chose its weights "
            f"({numbers}, {asked})."
        )
    if line.verdict == "better":
        return f"The fine-tuned model's answers are closer to the reference answers ({numbers}, {asked})."
    if line.verdict == "worse":
        return f"Its answers are closer to the reference answers than the fine-tuned model's ({numbers}, {asked})."
    if line.verdict == "" and side.answers.independent_rows >= FEWEST_TO_JUDGE:
        return f"Its answers are as close to the reference answers as the fine-tuned model's ({numbers}, {asked})."
    return f"Not enough rows to tell whose answers are closer to the reference answers ({numbers}, {asked})."


def _lines(side: SideAnswers) -> list[Line]:
    """Return the side's numbers; nothing speaks for a side that has seen the questions."""
    lines = scorecard_lines(side.answers) if side.answers else []
    return [replace(line, verdict="") if side.trained_on and line.verdict in HIDDEN else line for line in lines]


def _deciding_line(answers: AnswerScores) -> Line | None:
    return next((line for line in scorecard_lines(answers) if line.name == DECIDING_METRIC), None)


def _note(side: SideAnswers) -> str:
    """Say what is unusual about the side, and what to know before reading the numbers; "" if it was not compared."""
    if side.answers is None:
        return ""
    seen, left_out = side.trained_on, side.unanswered
    notes = {
        side.note: True,
        f"{seen} of these questions, or nearly the same ones, trained it or chose its weights.": seen,
        f"Questions without an answer of it, which are left out: {left_out}.": left_out,
        ONLY_REFERENCES: "stopped" not in side.answers.base and side.answers.base.get("exact_match") == 1.0,
        note_before_numbers(side.answers, "other side"): True,
    }
    return " ".join(note for note, applies in notes.items() if note and applies)
