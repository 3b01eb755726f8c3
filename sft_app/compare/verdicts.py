"""A scorecard in words: what changed, by how much, and whether the rows are enough to say so. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Verdict = Literal["better", "worse", "changed", "not enough rows to tell", ""]


@dataclass(frozen=True)
class Metric:
    """`direction` is 1 where more is better, -1 where less is, 0 where neither is."""

    label: str
    shown: str
    direction: int


METRICS = {
    "loss": Metric("loss", "{:.3f}", -1),
    "perplexity": Metric("perplexity", "{:.2f}", -1),
    "token_accuracy": Metric("tokens predicted right", "{:.1%}", 1),
    "rouge_l": Metric("ROUGE-L with the given", "{:.1%}", 1),
    "chrf": Metric("chrF with the given", "{:.1%}", 1),
    "exact_match": Metric("the given one exactly", "{:.1%}", 1),
    "stopped": Metric("end by themselves", "{:.1%}", 1),
    "length_ratio": Metric("length over the given one's", "{:.2f}", 0),
    "repetition": Metric("words said before", "{:.1%}", -1),
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


def scorecard_lines(part: dict[str, Any]) -> list[Line]:
    """Of a scorecard, or of its `general` or `answers`."""
    return [_line(name, metric, part) for name, metric in METRICS.items() if name in part["base"]]


def summary_sentence(card: dict[str, Any]) -> str:
    """What the scorecard says, in one sentence."""
    rows = card["rows"]
    verdict = verdict_of_loss(card)
    counted = f"{rows['better']} of {card['heldout']['conversations']} held-out answers became more likely"
    share = card["tuned"]["loss"] / card["base"]["loss"] - 1
    if verdict == "not enough rows to tell":
        return f"Not enough rows to tell: {counted}, and the interval of the loss includes no change."
    if verdict == "":
        return f"The held-out answers are predicted as before: {counted}."
    return f"The held-out answers are predicted {verdict}: loss {_signed_share(share)}, and {counted}."


def verdict_of_loss(part: dict[str, Any]) -> Verdict:
    """Of a scorecard or its `general`, by what is measured on every token."""
    return _verdict(METRICS["loss"], part["difference"]["loss"])


def forgetting_sentence(general: dict[str, Any]) -> str:
    """What the scorecard's `general` says, in one sentence."""
    verdict = verdict_of_loss(general)
    questions = f"{general['heldout']['conversations']} general questions"
    share = general["tuned"]["loss"] / general["base"]["loss"] - 1
    if verdict == "not enough rows to tell":
        return f"Not enough rows to tell: the interval of the loss over {questions} includes no change."
    if verdict == "":
        return f"The answers to {questions} are predicted as before."
    told = "Something was forgotten" if verdict == "worse" else "No sign of it"
    return f"{told}: the answers to {questions} are predicted {verdict} than before, loss {_signed_share(share)}."


def _line(name: str, metric: Metric, part: dict[str, Any]) -> Line:
    base, tuned = (part[side][name] for side in ("base", "tuned"))
    before, after, change = metric.shown.format(base), metric.shown.format(tuned), _signed(metric, tuned - base)
    found = part["difference"].get(name)
    if found is None:
        return Line(name, metric.label, before, after, change, "", "")
    low, high = found["low"], found["high"]
    interval = f"{_signed(metric, low)} … {_signed(metric, high)}"
    return Line(name, metric.label, before, after, change, interval, _verdict(metric, found), low, high)


def _verdict(metric: Metric, found: dict[str, float]) -> Verdict:
    if found["low"] <= 0 <= found["high"]:
        return "not enough rows to tell" if found["low"] < found["high"] else ""
    if metric.direction == 0:
        return "changed"
    return "better" if (found["value"] > 0) == (metric.direction > 0) else "worse"


def _signed_share(share: float) -> str:
    return f"{'−' if share < 0 else '+'}{abs(share):.0%}"


def _signed(metric: Metric, value: float) -> str:
    shown = metric.shown.format(abs(value))
    return f"{'−' if value < 0 else '+'}{shown}"
