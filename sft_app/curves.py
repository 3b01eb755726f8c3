"""Curves as HTML and SVG: sharp at every width, in the theme's colours, and cheap enough to be drawn anew each second.

The lines are drawn on a square of 1000 units that is stretched to the plot; text stands beside it as HTML, so that it
is not stretched too. No Gradio here, so that every picture can be tested as a function.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from sft_app.runs.records import StepMetrics

CURVES_CSS = Path(__file__).with_suffix(".css")  # the page and the report load it
MOST_POINTS = 240
MOST_SMALL_POINTS = 80
MOST_SPOTS = 80
SIDE = 1000
TRAINING, HELD_OUT = "#94a3b8", "#10b981"
RUN_COLOURS = ("#10b981", "#3b82f6", "#f59e0b", "#a855f7", "#f43f5e", "#06b6d4")
Point = tuple[float, float]


@dataclass(frozen=True)
class Series:
    """One line. `points` are (step, value), steps rising; `is_measured` draws it thick, with a dot at each point."""

    name: str
    points: tuple[Point, ...]
    colour: str
    is_measured: bool = False


@dataclass(frozen=True)
class CurveBin:
    """Neighbouring points in one: their middle, and between which values they lie, so that no spike is lost."""

    step: float
    low: float
    mean: float
    high: float

    @classmethod
    def over(cls, points: Sequence[Point]) -> CurveBin:
        values = [value for _, value in points]
        middle = (points[0][0] + points[-1][0]) / 2
        return cls(middle, min(values), sum(values) / len(values), max(values))


@dataclass(frozen=True)
class Small:
    """One of the curves beside the loss: its key in `StepMetrics`, its title, and how a value is written."""

    key: str
    title: str
    form: str


SMALL_CURVES = (
    Small("learning_rate", "Learning rate", "{:.2g}"),
    Small("grad_norm", "Gradient norm", "{:.3g}"),
    Small("tokens_per_second", "Speed, tokens/s", "{:,.0f}"),
    Small("memory_gib", "Memory, GiB", "{:.2f}"),
)


def run_curves(metrics: Sequence[StepMetrics]) -> str:
    """The loss of one run, and below it four small curves of how training goes."""
    training, held_out = points_of(metrics, "loss"), points_of(metrics, "heldout_loss")
    series = [Series("training", training, TRAINING), Series("held-out", held_out, HELD_OUT, is_measured=True)]
    broken = broken_sentence(metrics)
    if not training and not held_out:
        told = broken or "The curves appear here after the first step."
        return f'<section class="ft-card ft-empty">{told}</section>'
    small = "".join(_small_curve(curve, points_of(metrics, curve.key)) for curve in SMALL_CURVES)
    latest = [(one, f"{one.points[-1][1]:.3f}") for one in series if one.points]
    head = _head("Loss", latest)
    note = f'<p class="ft-key">{broken}</p>' if broken else ""
    return f'<section class="ft-card ft-curves">{head}{plot(series)}{note}<div class="ft-small">{small}</div></section>'


def loss_of_runs(runs: Sequence[tuple[str, Sequence[StepMetrics]]]) -> str:
    """Held-out loss (thick) and training loss (thin) of several runs, given as (name, metrics), in one plot."""
    series, named = [], []
    for place, (name, metrics) in enumerate(runs):
        colour = run_colour(place)
        held_out = Series(f"{name}, held-out", points_of(metrics, "heldout_loss"), colour, is_measured=True)
        training = Series(f"{name}, training", points_of(metrics, "loss"), colour)
        series += [training, held_out]
        named.append((Series(name, (), colour), ""))
    found = [(name, broken_sentence(metrics)) for name, metrics in runs]
    broken = "".join(f'<p class="ft-key">{escape(name)}: {sentence}</p>' for name, sentence in found if sentence)
    if not any(one.points for one in series):
        told = broken or "None of these runs has a loss yet."
        return f'<section class="ft-card ft-empty">{told}</section>'
    note = '<p class="ft-key">Thick line: held-out loss, the one to compare. Thin line: training loss.</p>' + broken
    return f'<section class="ft-card ft-curves">{_head("Loss", named)}{plot(series)}{note}</section>'


def run_colour(place: int) -> str:
    """The colour of the run at this place of a comparison, in its chart and in its table."""
    return RUN_COLOURS[place % len(RUN_COLOURS)]


def points_of(metrics: Sequence[StepMetrics], key: str) -> tuple[Point, ...]:
    """(step, value) by step; a step measured twice counts once, what is no finite number is left out."""
    points = {row.step: value for row in metrics if (value := getattr(row, key)) is not None and math.isfinite(value)}
    return tuple(sorted(points.items()))


def broken_sentence(metrics: Sequence[StepMetrics]) -> str:
    """From which step on there is a loss that cannot be drawn; empty where every loss is a number."""
    losses = [(row.step, loss) for row in metrics for loss in (row.loss, row.heldout_loss) if loss is not None]
    steps = [step for step, loss in losses if not math.isfinite(loss)]
    return f"At step {min(steps):,} the loss is not a number: nothing after that can be judged." if steps else ""


def thin(points: Sequence[Point], most: int = MOST_POINTS) -> list[CurveBin]:
    """At most `most` stretches of neighbouring points; with few points each is a stretch of its own."""
    count = min(most, len(points))
    parts = (points[place * len(points) // count : (place + 1) * len(points) // count] for place in range(count))
    return [CurveBin.over(part) for part in parts]


def ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) inside `low` … `high`; at least one."""
    span = high - low
    if span <= 0:
        return [low]
    power = 10.0 ** math.floor(math.log10(span / about))
    apart = next(power * factor for factor in (1, 2, 5, 10) if span / (power * factor) <= about)
    first = math.ceil(low / apart - 1e-9)
    inside = [round(number * apart, 12) for number in range(first, math.floor(high / apart + 1e-9) + 1)]
    return inside or [low]


def plot(series: Sequence[Series], most: int = MOST_POINTS) -> str:
    """The lines with their axes; a pointer over the plot is told the values at the nearest step."""
    drawn = [one for one in series if one.points]
    steps = [step for one in drawn for step, _ in one.points]
    values = [value for one in drawn for _, value in one.points]
    frame = _Frame.around(steps, values)
    across = [tick for tick in ticks(frame.left, frame.right, 6) if tick == int(tick)]
    rows = "".join(f'<path class="ft-grid" d="M0 {frame.y(tick)}H{SIDE}"/>' for tick in ticks(frame.low, frame.high, 4))
    beside = "".join(
        f'<b class="ft-y" style="top:{frame.y(tick) / 10:g}%">{tick:.6g}</b>'
        for tick in ticks(frame.low, frame.high, 4)
    )
    below = "".join(f'<b class="ft-x" style="left:{frame.x(tick) / 10:g}%">{tick:,.0f}</b>' for tick in across)
    lines = "".join(_line(one, frame, most) for one in sorted(drawn, key=lambda one: one.is_measured))
    told = escape(", ".join(f"{one.name} {one.points[-1][1]:.3f} at step {one.points[-1][0]:g}" for one in drawn))
    return (
        f'<div class="ft-plot"><svg viewBox="0 0 {SIDE} {SIDE}" preserveAspectRatio="none" role="img" '
        f'aria-label="{told}">{rows}{lines}</svg>{beside}{below}{_spots(drawn, frame)}</div>'
    )


@dataclass(frozen=True)
class _Frame:
    """The part of the plane that a plot shows, and where its points fall on the square."""

    left: float
    right: float
    low: float
    high: float

    @classmethod
    def around(cls, steps: Sequence[float], values: Sequence[float]) -> _Frame:
        margin = 0.06 * (max(values) - min(values)) or 0.05 * abs(values[0]) or 1.0
        return cls(min(steps), max(*steps, min(steps) + 1), min(values) - margin, max(values) + margin)

    def x(self, step: float) -> float:
        return round(SIDE * (step - self.left) / (self.right - self.left), 1)

    def y(self, value: float) -> float:
        return round(SIDE * (self.high - value) / (self.high - self.low), 1)


def _line(series: Series, frame: _Frame, most: int) -> str:
    """Where there are more points than can be told apart: their mean, and behind it a band from lowest to highest."""
    stretches = thin(series.points, most)
    places = [(frame.x(one.step), frame.y(one.mean)) for one in stretches]
    is_thinned = len(stretches) < len(series.points)
    edge = [(one.step, one.high) for one in stretches] + [(one.step, one.low) for one in reversed(stretches)]
    band = f'<path class="ft-band" fill="{series.colour}" d="{_path(edge, frame)}Z"/>' if is_thinned else ""
    has_dots = len(places) == 1 or (series.is_measured and not is_thinned and len(places) <= MOST_SPOTS)
    dots = "".join(f"M{x:g} {y:g}h0" for x, y in places) if has_dots else ""
    width = "ft-thick" if series.is_measured else "ft-thin"
    return (
        f'{band}<path class="{width}" stroke="{series.colour}" '
        f'd="{_path([(one.step, one.mean) for one in stretches], frame)}"/>'
        f'<path class="ft-dots" stroke="{series.colour}" d="{dots}"/>'
    )


def _path(points: Sequence[Point], frame: _Frame) -> str:
    return "M" + "L".join(f"{frame.x(step):g} {frame.y(value):g}" for step, value in points)


def _spots(drawn: Sequence[Series], frame: _Frame) -> str:
    """Strips across the plot, each with the values of one step, shown while a pointer or finger is on it."""
    values = [dict(one.points) for one in drawn]
    measured = {step for one in drawn if one.is_measured for step, _ in one.points}
    every = sorted({step for one in drawn for step, _ in one.points})
    apart = math.ceil(len(every) / MOST_SPOTS)
    chosen = sorted({*every[::apart], every[-1], *(measured if len(measured) <= MOST_SPOTS else ())})
    edges = [0.0, *((frame.x(a) + frame.x(b)) / 2 for a, b in zip(chosen, chosen[1:], strict=False)), float(SIDE)]
    spots = []
    for step, start, end in zip(chosen, edges, edges[1:], strict=False):
        lines = "".join(
            f'<span style="--c:{one.colour}">{escape(one.name)} {known[step]:.3f}</span>'
            for one, known in zip(drawn, values, strict=True)
            if step in known
        )
        place = frame.x(step)
        inside = 100 * (place - start) / (end - start) if end > start else 0
        side = "ft-before" if place > SIDE / 2 else "ft-after"
        spots.append(
            f'<i class="ft-spot {side}" style="left:{start / 10:g}%;width:{(end - start) / 10:g}%;--at:{inside:.0f}%">'
            f"<em><u>Step {step:,g}</u>{lines}</em></i>"
        )
    return "".join(spots)


def _small_curve(curve: Small, points: tuple[Point, ...]) -> str:
    """Drawn from zero, so that a small wobble does not look like a leap."""
    if not points:
        return f'<figure><figcaption>{curve.title}<strong>–</strong></figcaption><div class="ft-mini"></div></figure>'
    steps, values = [step for step, _ in points], [value for _, value in points]
    top = max(values) or 1.0
    frame = _Frame(steps[0], max(steps[-1], steps[0] + 1), min(0.0, min(values)), 1.08 * top)
    line = _line(Series(curve.title, points, HELD_OUT), frame, MOST_SMALL_POINTS)
    latest, most = curve.form.format(values[-1]), curve.form.format(top)
    return (
        f"<figure><figcaption>{curve.title}<strong>{latest}</strong></figcaption>"
        f'<div class="ft-mini"><svg viewBox="0 0 {SIDE} {SIDE}" preserveAspectRatio="none" role="img" '
        f'aria-label="{curve.title}: {latest}, at most {most}">{line}</svg></div><small>0 to {most}</small></figure>'
    )


def _head(title: str, entries: Sequence[tuple[Series, str]]) -> str:
    legend = "".join(
        f'<span style="--c:{one.colour}">{escape(one.name)}{f" <b>{value}</b>" if value else ""}</span>'
        for one, value in entries
    )
    return f'<header><strong>{title}</strong><div class="ft-legend">{legend}</div></header>'
