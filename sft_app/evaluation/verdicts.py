"""A scorecard in words: what changed, by how much, and whether the rows are enough to say so. Imports no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from sft_app.evaluation.answer_metrics import ANSWER_METRICS, Metric
from sft_app.runs.scorecard import AnswerScores, Interval, PredictedScores, Scorecard, Scores, SideScores
from sft_app.runs.summary import as_float, number_text, relative_change

Verdict = Literal["better", "worse", "changed", "not enough rows to tell", "not a number: cannot be judged", ""]
TOO_FEW: Verdict = "not enough rows to tell"
UNJUDGED: Verdict = "not a number: cannot be judged"
SIDE_LABELS = {"base": "base model", "tuned": "fine-tuned model"}
# Five fair coins fall alike in one of 16 cases, six in one of 32: with fewer rows, even the same in each can be chance.
FEWEST_TO_JUDGE = 6
# By simulation (tests/evaluation/test_intervals.py), up to one in so many intervals of fewer rows misses the truth, of
# differences whose tail is no longer than that of a lognormal with sigma 1. There is no such number for longer tails.
MISSED_ONE_IN = {8: 4, 16: 5, 40: 7}
FEW_ROWS = max(MISSED_ONE_IN)
# Of e, in a float.
LARGEST_EXPONENT = 709.0


METRICS: dict[str, Metric] = {
    "loss": Metric("loss", "{:.3f}", -1),
    "perplexity": Metric("perplexity", "{:.2f}", -1),
    "token_accuracy": Metric("token accuracy", "{:.1%}", 1),
    **ANSWER_METRICS,
}


@dataclass(frozen=True)
class Line:
    """One number of both sides; `interval`, from `low` to `high`, is that of the difference, and empty for a number
    without one."""

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
    """Of a scorecard, or of its `general` or `answers_of` it."""
    return [_line(name, metric, part) for name, metric in METRICS.items() if name in part.base and name in part.tuned]


def summary_sentence(card: PredictedScores) -> str:
    """What the scorecard says, in one sentence, or where there is no number in two."""
    verdict = verdict_of_loss(card)
    counted = f"{card.rows.better} of {card.row_count} held-out answers became more likely"
    if verdict == UNJUDGED:
        return _unjudged_sentence(card, "the held-out answers")
    if verdict == TOO_FEW:
        return f"Not enough rows to tell: {counted}, and {_why_too_few(card)}."
    if verdict == "":
        return f"The held-out answers are predicted as well as before: {counted}."
    return f"The held-out answers are predicted {verdict}: loss {_change_of_loss(card)}, and {counted}."


def verdict_of_loss(part: PredictedScores) -> Verdict:
    """Of a scorecard or its `general`, by what is measured on every token."""
    return _verdict("loss", part)


def forgetting_sentence(general: PredictedScores) -> str:
    """What the scorecard's `general` says, in one sentence, or where there is no number in two."""
    verdict = verdict_of_loss(general)
    questions = f"{general.row_count} general questions"
    if verdict == UNJUDGED:
        return _unjudged_sentence(general, f"the answers to {questions}")
    if verdict == TOO_FEW:
        return f"Not enough rows to tell from {questions}: {_why_too_few(general)}."
    if verdict == "":
        return f"The answers to {questions} are predicted as well as before."
    told = "Something was forgotten" if verdict == "worse" else "No sign of forgetting"
    return f"{told}: the answers to {questions} are predicted {verdict} than before, loss {_change_of_loss(general)}."


def answers_of(card: Scorecard) -> AnswerScores | None:
    """What both sides wrote themselves; a side without a loss has no numbers here where nobody has counted the answers
    that broke off, as in files of older versions."""
    part = card.answers
    if part is None or part.broken is not None:
        return part
    base = dict.fromkeys(part.base, math.nan) if _has_broken(card.base) else part.base
    tuned = dict.fromkeys(part.tuned, math.nan) if _has_broken(card.tuned) else part.tuned
    return part.model_copy(update={"base": base, "tuned": tuned})


def cannot_be_judged(part: Scores) -> bool:
    """Whether a side has a number that is none, and so nothing in this part says which side is better."""
    return _has_broken(part.base) or _has_broken(part.tuned)


def note_of(part: Scores) -> str:
    """What a reader has to know of a scorecard, its `general` or `answers_of` it before its numbers; empty for none."""
    return _broken_note(part) if cannot_be_judged(part) else rows_note(part)


def rows_note(part: Scores) -> str:
    """What it means that a scorecard, its `general` or `answers` has few rows; empty where it has enough."""
    rows = part.row_count
    if rows >= FEW_ROWS or not rows:
        return ""
    counted, more = f"{rows} {'row' if rows == 1 else 'rows'}", "Measure more held-out rows to be more certain."
    if rows < FEWEST_TO_JUDGE:
        return f"With {counted}, even the same change in every row can be chance, so there is no verdict. {more}"
    missed = next(one_in for limit, one_in in MISSED_ONE_IN.items() if rows < limit)
    return (
        f"{counted} are few. The intervals are widened for that, but in simulations of ordinary differences they still "
        f"missed the true difference in up to 1 in {missed} cases instead of 1 in 20. If a few rare rows change a lot, "
        f"they may be missing here, and then no interval can show them. {more}"
    )


def computed_note(card: Scorecard) -> str:
    """What is out of the ordinary about how a scorecard was computed; empty where nothing is, or it does not say."""
    return f"{card.note[0].upper()}{card.note[1:]}." if card.note else ""


def drawn_interval(difference: Interval) -> tuple[float, float, float] | None:
    """Low, value and high of a scorecard's `difference`; None where it has no interval.

    A difference that is the same in every row has none: such rows do not show how much others could differ.
    """
    low, value, high = (as_float(end) for end in (difference.low, difference.value, difference.high))
    return (low, value, high) if all(map(math.isfinite, (low, value, high))) and low < high else None


def _line(name: str, metric: Metric, part: Scores) -> Line:
    base, tuned = (_shown_value(side, name) for side in (part.base, part.tuned))
    before, after = number_text(base, metric.shown), number_text(tuned, metric.shown)
    verdict = _verdict(name, part)
    if verdict == UNJUDGED or not math.isfinite(tuned - base):
        return Line(name, metric.label, before, after, "–", "", verdict)
    change, found = _signed(metric, tuned - base), part.difference.get(name)
    span = drawn_interval(found) if found else None
    if span is None:
        return Line(name, metric.label, before, after, change, "", verdict)
    low, _, high = span
    interval = f"{_signed(metric, low)} … {_signed(metric, high)}"
    return Line(name, metric.label, before, after, change, interval, verdict, low, high)


def _has_broken(side: SideScores) -> bool:
    """Perplexity aside, which is made from the loss and may be beyond every float."""
    return not all(math.isfinite(value) for name, value in side.items() if name != "perplexity")


def _shown_value(side: SideScores, name: str) -> float:
    """NaN for all that was counted where there were no numbers to count with."""
    is_counted = name not in ("loss", "perplexity")
    return math.nan if is_counted and _has_broken(side) else _value(side, name)


def _value(side: SideScores, name: str) -> float:
    """Perplexity from the loss, since a file may hold one that was too large and cut."""
    if name != "perplexity" or "loss" not in side:
        return side[name]
    loss = side["loss"]
    return math.inf if loss > LARGEST_EXPONENT else math.exp(loss)


def _verdict(name: str, part: Scores) -> Verdict:
    if cannot_be_judged(part):
        return UNJUDGED
    base, tuned = (_value(side, name) for side in (part.base, part.tuned))
    found, direction = part.difference.get(name), METRICS[name].direction
    if found is None:
        return ""
    if not all(map(math.isfinite, (base, tuned, found.value))):
        return UNJUDGED
    span = drawn_interval(found)
    if span is None and found.value == 0 and part.row_count > 1:
        return ""
    if span is None and not math.isfinite(as_float(found.low)):
        return TOO_FEW
    if part.row_count < FEWEST_TO_JUDGE or (span and span[0] <= 0 <= span[2]):
        return TOO_FEW
    if direction == 0:
        return "changed"
    return "better" if (found.value > 0) == (direction > 0) else "worse"


def _why_too_few(part: Scores) -> str:
    if part.row_count < FEWEST_TO_JUDGE:
        return f"at least {FEWEST_TO_JUDGE} rows are needed for a verdict"
    return "the interval of the loss includes zero change"


def _unjudged_sentence(part: Scores, what: str) -> str:
    """Whose loss is no number, and what to do."""
    if not _has_broken(part.base):
        return (
            f"The fine-tuned model cannot be judged: its loss on {what} is not a number. "
            "Train again with a lower learning rate."
        )
    return (
        f"Nothing can be judged: the base model's loss on {what} is not a number. "
        "Check the model, or train with dtype float32."
    )


def _broken_note(part: Scores) -> str:
    """Which answers broke off, where that was counted."""
    if not isinstance(part, AnswerScores) or part.broken is None:
        return ""
    numbers = {SIDE_LABELS["base"]: part.broken.base, SIDE_LABELS["tuned"]: part.broken.tuned}
    counted = [f"{number} of {part.prompts} from the {side}" for side, number in numbers.items() if number]
    return f"Incomplete answers, because the model's numbers became infinite: {', '.join(counted)}." if counted else ""


def _change_of_loss(part: PredictedScores) -> str:
    """In per cent, or from zero as it is."""
    base, tuned = (part.base["loss"], part.tuned["loss"])
    share = relative_change(base, tuned)
    if share is None:
        return _signed(METRICS["loss"], tuned - base)
    return f"{'−' if share < 0 else '+'}{abs(share):.0%}"


def _signed(metric: Metric, value: float) -> str:
    return f"{'−' if value < 0 else '+'}{number_text(abs(value), metric.shown)}"
