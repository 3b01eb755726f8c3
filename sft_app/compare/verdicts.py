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
    """One number of both sides; `interval` is that of the difference, and empty for a number without one."""

    name: str
    label: str
    base: str
    tuned: str
    difference: str
    interval: str
    verdict: Verdict


def scorecard_lines(part: dict[str, Any]) -> list[Line]:
    """Of a scorecard, or of its `general` or `answers`."""
    return [_line(name, metric, part) for name, metric in METRICS.items() if name in part["base"]]


def summary_sentence(card: dict[str, Any]) -> str:
    """What the scorecard says, in one sentence."""
    rows, loss = card["rows"], card["difference"]["loss"]
    verdict = _verdict(METRICS["loss"], loss)
    counted = f"{rows['better']} of {card['heldout']['conversations']} held-out answers became more likely"
    share = card["tuned"]["loss"] / card["base"]["loss"] - 1
    if verdict == "not enough rows to tell":
        return f"Not enough rows to tell: {counted}, and the interval of the loss includes no change."
    if verdict == "":
        return f"The held-out answers are predicted as before: {counted}."
    return f"The held-out answers are predicted {verdict}: loss {share:+.0%}, and {counted}."


def forgetting_sentence(general: dict[str, Any]) -> str:
    """What the scorecard's `general` says, in one sentence."""
    verdict = _verdict(METRICS["loss"], general["difference"]["loss"])
    questions = f"{general['heldout']['conversations']} general questions"
    share = general["tuned"]["loss"] / general["base"]["loss"] - 1
    if verdict == "not enough rows to tell":
        return f"Not enough rows to tell: the interval of the loss over {questions} includes no change."
    if verdict == "":
        return f"The answers to {questions} are predicted as before."
    told = "Something was forgotten" if verdict == "worse" else "No sign of it"
    return f"{told}: the answers to {questions} are predicted {verdict} than before, loss {share:+.1%}."


def _line(name: str, metric: Metric, part: dict[str, Any]) -> Line:
    base, tuned = (part[side][name] for side in ("base", "tuned"))
    found = part["difference"].get(name)
    interval = f"{_signed(metric, found['low'])} … {_signed(metric, found['high'])}" if found else ""
    verdict = _verdict(metric, found) if found else ""
    before, after = metric.shown.format(base), metric.shown.format(tuned)
    return Line(name, metric.label, before, after, _signed(metric, tuned - base), interval, verdict)


def _verdict(metric: Metric, found: dict[str, float]) -> Verdict:
    if found["low"] <= 0 <= found["high"]:
        return "not enough rows to tell" if found["low"] < found["high"] else ""
    if metric.direction == 0:
        return "changed"
    return "better" if (found["value"] > 0) == (metric.direction > 0) else "worse"


def _signed(metric: Metric, value: float) -> str:
    shown = metric.shown.format(abs(value))
    return f"{'−' if value < 0 else '+'}{shown}"
