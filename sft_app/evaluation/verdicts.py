"""Put a scorecard into words: what changed, by how much, and whether the rows suffice to tell. Imports no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from sft_app.evaluation.answer_metrics import ANSWER_METRICS, Metric
from sft_app.runs.scorecard import AnswerScores, Interval, PredictedScores, Scorecard, Scores, Selection, SideScores
from sft_app.runs.summary import as_float, number_text, relative_change

Verdict = Literal["better", "worse", "changed", "not enough rows to tell", "not a number: cannot be judged", ""]
TOO_FEW: Verdict = "not enough rows to tell"
UNJUDGED: Verdict = "not a number: cannot be judged"
SIDE_LABELS = {"base": "base model", "tuned": "fine-tuned model"}
# Five fair coins agree in one of 16 cases, six in one of 32: with fewer rows, even a unanimous change can be chance.
FEWEST_TO_JUDGE = 6
# From simulations (tests/evaluation/statistics/test_intervals.py): with fewer rows than the key, up to one interval in
# this many misses the truth, if differences have no longer tail than a lognormal with sigma 1; longer tails have no
# such bound.
MISSED_ONE_IN = {8: 4, 16: 5, 40: 7}
FEW_ROWS = max(MISSED_ONE_IN)
CHANCE = 0.05
# The largest exponent of e that a float can represent.
LARGEST_EXPONENT = 709.0


METRICS: dict[str, Metric] = {
    "loss": Metric("loss", "{:.3f}", -1),
    "perplexity": Metric("perplexity", "{:.2f}", -1),
    "token_accuracy": Metric("token accuracy", "{:.1%}", 1),
    **ANSWER_METRICS,
}


@dataclass(frozen=True)
class Line:
    """A metric of both sides; `interval`, from `low` to `high`, is that of the difference, "" if there is none."""

    name: str
    label: str
    base: str
    tuned: str
    difference: str
    interval: str
    verdict: Verdict
    low: float = 0.0
    high: float = 0.0


def scorecard_lines(part: Scores) -> list[Line]:
    """Return the lines of a scorecard, its `general`, or its `judgeable_answers`."""
    return [_line(name, metric, part) for name, metric in METRICS.items() if name in part.base and name in part.tuned]


def summary_sentence(card: PredictedScores) -> str:
    """Return the scorecard's result in a sentence, or in two if a loss is not a number."""
    verdict = verdict_of_loss(card)
    counted = f"{card.rows.better} of {card.row_count} held-out answers became more likely"
    if verdict == UNJUDGED:
        return unjudged_sentence(card, "the held-out answers")
    if verdict == TOO_FEW:
        return f"Not enough rows to tell: {counted}, and {why_too_few(card)}."
    if verdict == "":
        return f"The model predicts the held-out answers as well as before: {counted}."
    return f"The model predicts the held-out answers {verdict} than before: loss {change_of_loss(card)}; {counted}."


def verdict_of_loss(part: PredictedScores) -> Verdict:
    """Return the verdict of a scorecard or its `general` by its loss, which is measured on every token."""
    return _verdict("loss", part)


def judgeable_answers(card: Scorecard) -> AnswerScores | None:
    """Return the scores of both sides' own answers. In files of older versions, which did not count broken answers, a
    side without a loss has no numbers here."""
    part = card.answers
    if part is None or part.broken is not None:
        return part
    base = dict.fromkeys(part.base, math.nan) if _has_broken(card.base) else part.base
    tuned = dict.fromkeys(part.tuned, math.nan) if _has_broken(card.tuned) else part.tuned
    return part.model_copy(update={"base": base, "tuned": tuned})


def cannot_be_judged(part: Scores) -> bool:
    """Return whether a side has a value that is not a number, so that this part cannot say which side is better."""
    return _has_broken(part.base) or _has_broken(part.tuned)


def is_uncorrected(part: Scores) -> bool:
    """Return whether the same conversations chose the weights and nothing is recorded to correct the change for it, so
    that nothing can be concluded from it."""
    return isinstance(part, Scorecard) and part.selection is not None and not part.selection.is_corrected


def note_before_numbers(part: Scores, base: str = SIDE_LABELS["base"]) -> str:
    """Return what to know before reading the numbers of a part of the scorecard; "" if nothing.

    `base` says what the side called base is.
    """
    return _broken_note(part, base) if cannot_be_judged(part) else rows_note(part)


def rows_note(part: Scores) -> str:
    """Return what it means that a part of the scorecard has few rows; "" if it has enough."""
    rows = part.independent_rows
    if rows >= FEW_ROWS or not rows:
        return ""
    counted, more = f"{rows} {'row' if rows == 1 else 'rows'}", "Measure more held-out rows to be more certain."
    if rows < FEWEST_TO_JUDGE:
        return f"With {counted}, even the same change in every row could be chance, so there is no verdict. {more}"
    missed = next(one_in for limit, one_in in MISSED_ONE_IN.items() if rows < limit)
    return (
        f"{counted} is a small sample. The intervals are widened to account for that, but in simulations of ordinary "
        f"differences they still missed the true difference in up to 1 in {missed} cases instead of 1 in 20. If a few "
        f"rare rows change a lot, they may be missing here, and then no interval can show them. {more}"
    )


def computed_note(card: Scorecard) -> str:
    """Return what decides, how the weights were chosen, and what is unusual about how the scorecard was computed; "" if
    nothing of this is recorded."""
    is_corrected = any(change.p_holm is not None for change in card.difference.values())
    unusual = f"{card.note[0].upper()}{card.note[1:]}." if card.note else ""
    return " ".join(
        filter(None, [_primary_note(card) if is_corrected else "", _selection_note(card.selection), unusual])
    )


def _primary_note(card: Scorecard) -> str:
    decides = "The loss decides" if card.primary == "loss" else "Your tests decide"
    return (
        f"{decides}, as set before training. Among several other measures, one can change by chance, so their verdicts "
        "need stronger evidence (Holm's correction)."
    )


def _selection_note(selection: Selection | None) -> str:
    if selection is None:
        return ""
    if selection.rows == "other":
        return "Other held-out conversations chose which weights to keep, so these only judge them."
    if not selection.is_corrected:
        return (
            "The weights were chosen on these same conversations, which makes them look better than they are. The run "
            "has no record of that choice to correct for, so there is no verdict."
        )
    return (
        f"The weights were chosen from {selection.evaluations} evaluations on these same conversations, which makes "
        "them look better than they are. The change in loss and token accuracy is corrected for that (two-fold "
        "cross-fitting); the measures of generated answers cannot be, so they have no verdict."
    )


def drawn_interval(difference: Interval) -> tuple[float, float, float] | None:
    """Return (low, value, high) of a `difference` to draw; None if it has no interval.

    A difference that is the same in every row has no interval, because the rows show no spread.
    """
    low, value, high = (as_float(end) for end in (difference.low, difference.value, difference.high))
    return (low, value, high) if all(map(math.isfinite, (low, value, high))) and low < high else None


def _line(name: str, metric: Metric, part: Scores) -> Line:
    base, tuned = (_shown_value(side, name) for side in (part.base, part.tuned))
    before, after = number_text(base, metric.shown), number_text(tuned, metric.shown)
    verdict = _verdict(name, part)
    if verdict == UNJUDGED or not math.isfinite(tuned - base):
        return Line(name, metric.label, before, after, "–", "", verdict)
    difference = part.difference.get(name)
    corrected = as_float(difference.value) if difference else math.nan
    change = _signed(metric, corrected if math.isfinite(corrected) else tuned - base)
    span = drawn_interval(difference) if difference else None
    if span is None:
        return Line(name, metric.label, before, after, change, "", verdict)
    low, _, high = span
    interval = f"{_signed(metric, low)} … {_signed(metric, high)}"
    return Line(name, metric.label, before, after, change, interval, verdict, low, high)


def _has_broken(side: SideScores) -> bool:
    """Return whether a value is not finite, except perplexity, which may overflow although the loss is finite."""
    return not all(math.isfinite(value) for name, value in side.items() if name != "perplexity")


def _shown_value(side: SideScores, name: str) -> float:
    """Return the value to show; NaN for counts of a side whose loss is not finite."""
    is_counted = name not in ("loss", "perplexity")
    return math.nan if is_counted and _has_broken(side) else _value(side, name)


def _value(side: SideScores, name: str) -> float:
    """Return a value; perplexity is computed from the loss, because a file may hold a capped one."""
    if name != "perplexity" or "loss" not in side:
        return side[name]
    loss = side["loss"]
    return math.inf if loss > LARGEST_EXPONENT else math.exp(loss)


def _verdict(name: str, part: Scores) -> Verdict:
    """Return the verdict of the primary measure by its interval, and of every other one by its corrected p-value."""
    if cannot_be_judged(part):
        return UNJUDGED
    base, tuned = (_value(side, name) for side in (part.base, part.tuned))
    difference, direction = part.difference.get(name), METRICS[name].direction
    if difference is None:
        return ""
    if not all(map(math.isfinite, (base, tuned, difference.value))):
        return UNJUDGED
    span = drawn_interval(difference)
    if span is None and difference.value == 0 and part.row_count > 1:
        return ""
    if span is None and not math.isfinite(as_float(difference.low)):
        return TOO_FEW
    if part.independent_rows < FEWEST_TO_JUDGE:
        return TOO_FEW
    if is_uncorrected(part):
        return TOO_FEW if name == "loss" else ""
    if _is_primary(name, part):
        if span and span[0] <= 0 <= span[2]:
            return TOO_FEW
    elif difference.p_holm is None:
        return ""
    elif difference.p_holm >= CHANCE:
        return TOO_FEW
    if direction == 0:
        return "changed"
    return "better" if (difference.value > 0) == (direction > 0) else "worse"


def _is_primary(name: str, part: Scores) -> bool:
    return name == "loss" and not (isinstance(part, Scorecard) and part.primary != "loss")


def why_too_few(part: Scores) -> str:
    """Return the reason for which the loss of a part has no verdict, without a full stop."""
    if part.independent_rows < FEWEST_TO_JUDGE:
        once = "" if part.independent_rows == part.row_count else ", of which copies and related ones count once"
        return f"at least {FEWEST_TO_JUDGE} rows are needed for a verdict{once}"
    if is_uncorrected(part):
        return "the same conversations chose the weights"
    if not _is_primary("loss", part):
        return "the change in loss could be chance, corrected for the number of measures"
    return "the interval for the change in loss includes zero"


def unjudged_sentence(part: Scores, what: str) -> str:
    """Say whose loss is not a number, and what to do."""
    if not _has_broken(part.base):
        return (
            f"The fine-tuned model cannot be judged: its loss on {what} is not a number. "
            "Train again with a lower learning rate."
        )
    return (
        f"Nothing can be judged: the base model's loss on {what} is not a number. "
        "Check the model, or train with dtype float32."
    )


def _broken_note(part: Scores, base: str) -> str:
    """Say how many answers of each side are broken; "" if none, or if they were not counted."""
    if not isinstance(part, AnswerScores) or part.broken is None:
        return ""
    numbers = {f"the {base}": part.broken.base, f"the {SIDE_LABELS['tuned']}": part.broken.tuned}
    counted = [f"{number} of {part.prompts} from {side}" for side, number in numbers.items() if number]
    return (
        f"Incomplete answers, because the model produced NaN or infinite values: {', '.join(counted)}."
        if counted
        else ""
    )


def change_of_loss(part: PredictedScores) -> str:
    """Return the relative change in percent, or the absolute change if the loss was zero."""
    base, tuned = part.base["loss"], part.tuned["loss"]
    if (change := part.difference.get("loss")) and math.isfinite(as_float(change.value)):
        tuned = base + change.value
    share = relative_change(base, tuned)
    if share is None:
        return _signed(METRICS["loss"], tuned - base)
    return f"{'−' if share < 0 else '+'}{abs(share):.0%}"


def _signed(metric: Metric, value: float) -> str:
    return f"{'−' if value < 0 else '+'}{number_text(abs(value), metric.shown)}"
