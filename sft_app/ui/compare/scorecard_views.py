"""Turn a scorecard into HTML: its verdict, both sides' numbers with intervals, and the rows that changed most."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sft_app.curves import HELD_OUT, TRAINING, Series, drawn_plot
from sft_app.data.checkup.finding import count_of
from sft_app.evaluation.beside.beside_training import beside_training
from sft_app.evaluation.forgetting.sentences import KNOWN_COLUMNS, describe_known, forgetting_sentence
from sft_app.evaluation.forgetting.strength import COLUMNS as STRENGTH_COLUMNS
from sft_app.evaluation.forgetting.strength import strength_text
from sft_app.evaluation.results.headline import headline
from sft_app.evaluation.verdicts import (
    Line,
    cannot_be_judged,
    computed_note,
    judgeable_answers,
    note_before_numbers,
    scorecard_lines,
    summary_sentence,
)
from sft_app.runs.scorecard import ChangedRow, PredictedScores, Scorecard, Scores
from sft_app.runs.strength import StrengthChoice, TriedStrength
from sft_app.runs.summary import number_text
from sft_app.templating import render_html
from sft_app.ui.compare.suite_views import tests_view

GENERAL = "#f59e0b"
SCORE_CLASSES = {"better": "ft-better", "worse": "ft-worse", "changed": "ft-changed"}
ROW_OUTCOMES = (
    ("better", "became more likely"),
    ("equal", "stayed the same"),
    ("worse", "became less likely"),
    ("not_a_number", "have no valid loss"),
)
NO_GENERAL = (
    "Not measured yet. Press “Measure” to ask general questions too and see what got worse outside your task. "
    "A run with general prompts set to 0 asks none."
)
BROKEN = "No complete answer: the model stopped because it produced NaN or infinite values."
NO_ANSWERS = "No answers were generated. Choose how many questions to answer below and press “Measure”."


@dataclass(frozen=True)
class ScorePart:
    """One part of a scorecard: its numbers line by line, or why it was not measured.

    `lines` are numbers with the CSS class of their verdict and the (left, width) of their interval. `counts` are
    (CSS class, percent) of the rows that got better, stayed the same or got worse, and `counted` is the same in words.
    """

    title: str
    description: str
    is_measured: bool = False
    lines: Sequence[tuple[Line, str, tuple[float, float]]] = ()
    counts: Sequence[tuple[str, float]] = ()
    counted: str = ""
    note: str = ""
    kind: str = ""


@dataclass(frozen=True)
class StrengthPlot:
    """The losses at the strengths that were tried; `legend` has (colour, name, "") of what is drawn."""

    plot: Any
    legend: list[tuple[str, str, str]]


def scorecard_view(card: Scorecard, strength: StrengthChoice | None = None) -> str:
    """Show the verdict, the scores on your task, the forgetting check next to them, and the strengths tried."""
    task = _part(
        f"Your held-out examples · {card.row_count}", "How likely each model finds the reference answers.", card
    )
    said = headline(card)
    return render_html(
        "compare/scorecard.html",
        kind=SCORE_CLASSES.get(said.kind, ""),
        headline=said,
        summary=" ".join(filter(None, [summary_sentence(card), computed_note(card)])),
        parts=[task, _general(card), _answers(card)],
        known=describe_known(card),
        known_columns=KNOWN_COLUMNS,
        strength=strength_text(strength),
        strength_columns=STRENGTH_COLUMNS,
        strength_plot=_strength_plot(strength),
        beside=beside_training(card),
        classes=SCORE_CLASSES,
    ) + tests_view(card)


def changed_rows_view(card: Scorecard) -> str:
    """Show the rows that changed most, in full."""
    changed = {"Most improved": card.most_changed.improved, "Most damaged": card.most_changed.damaged}
    groups = [(title, [_changed_row(row) for row in rows]) for title, rows in changed.items() if rows]
    return render_html("compare/changed_rows.html", groups=groups)


def _general(card: Scorecard) -> ScorePart:
    part = card.general
    if part is None:
        return ScorePart("Did it forget?", NO_GENERAL)
    return _part(f"Did it forget? · {count_of(part.row_count, 'general question')}", forgetting_sentence(card), part)


def _answers(card: Scorecard) -> ScorePart:
    answers = judgeable_answers(card)
    if answers is None:
        return ScorePart("The models' own answers", NO_ANSWERS, kind="ft-wide")
    description = "What each model writes on its own, compared with the reference answer."
    asked = count_of(answers.prompts, "held-out question")
    return _part(f"The models' own answers · {asked}", description, answers, "ft-wide")


def _strength_plot(choice: StrengthChoice | None) -> StrengthPlot | None:
    """Draw both losses over the strengths in percent, with the one that is kept; None without tried ones."""
    if choice is None or not choice.tried:
        return None
    tried = sorted(choice.tried, key=lambda one: one.strength)
    yours = [(100 * one.strength, one.heldout_loss) for one in tried if one.heldout_loss is not None]
    general = [(100 * one.strength, one.general_loss) for one in tried]
    kept = [(100 * one.strength, loss) for one in tried if one.strength == choice.chosen for loss in _losses(one)]
    lines = [Series("your examples", _finite(yours), TRAINING), Series("general questions", _finite(general), GENERAL)]
    dots = [Series("kept", (point,), HELD_OUT, is_measured=True) for point in _finite(kept)]
    drawn = [line for line in (*lines, *dots[:1]) if line.points]
    plot = drawn_plot([*lines, *dots], position="{:g}%") if any(line.points for line in lines) else None
    return StrengthPlot(plot, [(line.colour, line.name, "") for line in drawn]) if plot else None


def _losses(one: TriedStrength) -> list[float]:
    return [loss for loss in (one.heldout_loss, one.general_loss) if loss is not None]


def _finite(points: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    return tuple(point for point in points if math.isfinite(point[1]))


def _part(title: str, description: str, part: Scores, kind: str = "") -> ScorePart:
    rows = part.rows.model_dump() if isinstance(part, PredictedScores) else {}
    counts = {"not_a_number": rows.get("not_a_number", 0)} if cannot_be_judged(part) else rows
    total = sum(counts.values())
    return ScorePart(
        title,
        description,
        is_measured=True,
        lines=[(line, SCORE_CLASSES.get(line.verdict, ""), _interval(line)) for line in scorecard_lines(part)],
        counts=[
            (SCORE_CLASSES.get(name, "ft-equal"), 100 * counts.get(name, 0) / total)
            for name, _ in ROW_OUTCOMES
            if total
        ],
        counted=", ".join(f"{counts[name]} {outcome}" for name, outcome in ROW_OUTCOMES if counts.get(name)),
        note=note_before_numbers(part),
        kind=kind,
    )


def _interval(line: Line) -> tuple[float, float]:
    """Return left and width of an interval in percent, on a scale whose middle means no difference."""
    reach = max(abs(line.low), abs(line.high)) or 1.0
    left, right = (50 + 50 * end / reach for end in (line.low, line.high))
    return left, max(right - left, 1)


def _changed_row(row: ChangedRow) -> tuple[str, str, list[tuple[str, str]]]:
    """Return the question, the row with its losses, and (name, text) of the reference and both answers."""
    *prompt, reference = row.messages
    before, after = (number_text(loss, "{:.2f}") for loss in (row.base_loss, row.tuned_loss))
    texts = [("reference", reference.content), *zip(("base", "fine-tuned"), row.answers, strict=False)]
    return (
        prompt[-1].content if prompt else "",
        f"row {row.row} · loss {before} → {after}",
        [(name, BROKEN if text is None else text) for name, text in texts],
    )
