"""Draw curves as HTML and SVG: sharp at every width, in the theme's colours, and cheap enough to redraw every second.

The lines are drawn on a square of 1000 units that is stretched to the plot; text is HTML next to it, so that it is not
stretched too. No Gradio here, so that every picture can be tested as a function.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sft_app.runs.records import StepMetrics
from sft_app.templating import render_html

CURVES_CSS = Path(__file__).with_suffix(".css")  # the page and the report load it
MAX_POINTS = 240
MAX_SMALL_POINTS = 80
MAX_SPOTS = 80
SIDE = 1000
TRAINING, HELD_OUT = "#94a3b8", "#10b981"
RUN_COLOURS = ("#10b981", "#3b82f6", "#f59e0b", "#a855f7", "#f43f5e", "#06b6d4")
Point = tuple[float, float]


@dataclass(frozen=True)
class Series:
    """Describes one line.

    `points` are (step, value) by step; `is_measured` draws it thick, with a dot at each point.
    """

    name: str
    points: tuple[Point, ...]
    colour: str
    is_measured: bool = False


@dataclass(frozen=True)
class CurveBin:
    """Adjacent points drawn as one: their mean and the range of their values, so that no spike is lost."""

    step: float
    low: float
    mean: float
    high: float

    @classmethod
    def over(cls, points: Sequence[Point]) -> CurveBin:
        """Summarise these points."""
        values = [value for _, value in points]
        middle = (points[0][0] + points[-1][0]) / 2
        return cls(middle, min(values), sum(values) / len(values), max(values))


@dataclass(frozen=True)
class SmallCurve:
    """One of the curves below the loss: its key in `metrics.jsonl`, its title, and how a value is written."""

    key: str
    title: str
    form: str


SMALL_CURVES = (
    SmallCurve("learning_rate", "Learning rate", "{:.2g}"),
    SmallCurve("grad_norm", "Gradient norm", "{:.3g}"),
    SmallCurve("tokens_per_second", "Speed, tokens/s", "{:,.0f}"),
    SmallCurve("memory_gib", "Memory, GiB", "{:.2f}"),
)


def run_curves(metrics: Sequence[StepMetrics]) -> str:
    """Draw the loss of one run, and below it four small curves of how training goes."""
    training, held_out = metric_points(metrics, "loss"), metric_points(metrics, "heldout_loss")
    series = [Series("training", training, TRAINING), Series("held-out", held_out, HELD_OUT, is_measured=True)]
    broken = broken_sentence(metrics)
    if not training and not held_out:
        text = broken or "The curves appear here after the first step."
        return render_html("notice.html", kind="ft-empty", text=text)
    return render_html(
        "curves/run.html",
        legend=[(one.colour, one.name, f"{one.points[-1][1]:.3f}") for one in series if one.points],
        plot=drawn_plot(series),
        broken=broken,
        small=[_small_curve(curve, metric_points(metrics, curve.key)) for curve in SMALL_CURVES],
    )


def loss_of_runs(runs: Sequence[tuple[str, Sequence[StepMetrics]]]) -> str:
    """Draw held-out loss (thick) and training loss (thin) of several runs, given as (name, metrics), in one plot."""
    series = []
    for index, (name, metrics) in enumerate(runs):
        colour = run_colour(index)
        held_out = Series(f"{name}, held-out", metric_points(metrics, "heldout_loss"), colour, is_measured=True)
        series += [Series(f"{name}, training", metric_points(metrics, "loss"), colour), held_out]
    sentences = [(name, broken_sentence(metrics)) for name, metrics in runs]
    return render_html(
        "curves/runs.html",
        legend=[(run_colour(index), name, "") for index, (name, _) in enumerate(runs)],
        plot=drawn_plot(series) if any(one.points for one in series) else None,
        broken=[(name, sentence) for name, sentence in sentences if sentence],
    )


def run_colour(index: int) -> str:
    """Return the colour of the run at this index of a comparison, in its chart and its table."""
    return RUN_COLOURS[index % len(RUN_COLOURS)]


def metric_points(metrics: Sequence[StepMetrics], key: str) -> tuple[Point, ...]:
    """Return (step, value) by step; a step measured twice counts once, and values that are not finite are dropped."""
    points = {row.step: value for row in metrics if (value := getattr(row, key)) is not None and math.isfinite(value)}
    return tuple(sorted(points.items()))


def broken_sentence(metrics: Sequence[StepMetrics]) -> str:
    """Say from which step on the loss cannot be drawn; "" if every loss is a number."""
    losses = [(row.step, loss) for row in metrics for loss in (row.loss, row.heldout_loss) if loss is not None]
    steps = [step for step, loss in losses if not math.isfinite(loss)]
    return f"At step {min(steps):,} the loss is not a number, so nothing after that can be judged." if steps else ""


def thin(points: Sequence[Point], most: int = MAX_POINTS) -> list[CurveBin]:
    """Join adjacent points into at most `most` bins; if there are fewer points, each gets its own bin."""
    count = min(most, len(points))
    parts = (points[index * len(points) // count : (index + 1) * len(points) // count] for index in range(count))
    return [CurveBin.over(part) for part in parts]


def ticks(low: float, high: float, about: int) -> list[float]:
    """Return round numbers (1, 2 or 5 times a power of ten apart) inside `low` … `high`; at least one."""
    span = high - low
    if span <= 0:
        return [low]
    power = 10.0 ** math.floor(math.log10(span / about))
    spacing = next(power * factor for factor in (1, 2, 5, 10) if span / (power * factor) <= about)
    first = math.ceil(low / spacing - 1e-9)
    inside = [round(number * spacing, 12) for number in range(first, math.floor(high / spacing + 1e-9) + 1)]
    return inside or [low]


def plot(series: Sequence[Series], most: int = MAX_POINTS) -> str:
    """Draw the lines with their axes; pointing at the plot shows the values at the nearest step."""
    return render_html("curves/plot.html", plot=drawn_plot(series, most))


@dataclass(frozen=True)
class _Line:
    """A line as the paths that draw it: the band behind it, the line itself, and its dots."""

    colour: str
    width: str
    band: str
    path: str
    dots: str


@dataclass(frozen=True)
class _Spot:
    """A strip across the plot that shows the values of one step, as (colour, text)."""

    side: str
    style: str
    step: str
    values: list[tuple[str, str]]


@dataclass(frozen=True)
class _Plot:
    """A plot: its lines, its spots, and (position on the square, value) of the ticks on both axes."""

    description: str
    lines: list[_Line]
    rows: list[tuple[float, str]]
    columns: list[tuple[float, str]]
    spots: list[_Spot]


@dataclass(frozen=True)
class _SmallPlot:
    """A small curve with its title; `line` is None and both values empty while there is nothing to draw."""

    title: str
    line: _Line | None = None
    latest: str = ""
    most: str = ""


@dataclass(frozen=True)
class _Frame:
    """The range of steps and values that a plot shows, and where its points fall on the square."""

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


def drawn_plot(series: Sequence[Series], most: int = MAX_POINTS, position: str = "step {:,g}") -> _Plot:
    """Return the lines with their axes, for a template; `position` is how a place along the plot is written."""
    drawn = [one for one in series if one.points]
    steps = [step for one in drawn for step, _ in one.points]
    frame = _Frame.around(steps, [value for one in drawn for _, value in one.points])
    return _Plot(
        description=", ".join(
            f"{one.name} {one.points[-1][1]:.3f} at {position.format(one.points[-1][0])}" for one in drawn
        ),
        lines=[_drawn_line(one, frame, most) for one in sorted(drawn, key=lambda one: one.is_measured)],
        rows=[(frame.y(tick), f"{tick:.6g}") for tick in ticks(frame.low, frame.high, 4)],
        columns=[(frame.x(tick), f"{tick:,.0f}") for tick in ticks(frame.left, frame.right, 6) if tick == int(tick)],
        spots=_spots(drawn, frame, position),
    )


def _drawn_line(series: Series, frame: _Frame, most: int) -> _Line:
    """Draw the mean of points that are too dense to tell apart, and behind it a band from the lowest to the highest."""
    stretches = thin(series.points, most)
    means = [(one.step, one.mean) for one in stretches]
    is_thinned = len(stretches) < len(series.points)
    edge = [(one.step, one.high) for one in stretches] + [(one.step, one.low) for one in reversed(stretches)]
    has_dots = len(means) == 1 or (series.is_measured and not is_thinned and len(means) <= MAX_SPOTS)
    return _Line(
        series.colour,
        width="ft-thick" if series.is_measured else "ft-thin",
        band=f"{_path(edge, frame)}Z" if is_thinned else "",
        path=_path(means, frame),
        dots="".join(f"M{frame.x(step):g} {frame.y(mean):g}h0" for step, mean in means) if has_dots else "",
    )


def _path(points: Sequence[Point], frame: _Frame) -> str:
    return "M" + "L".join(f"{frame.x(step):g} {frame.y(value):g}" for step, value in points)


def _spots(drawn: Sequence[Series], frame: _Frame, position: str) -> list[_Spot]:
    """Return strips across the plot, each shown while a pointer or finger is on it."""
    values = [dict(one.points) for one in drawn]
    measured = {step for one in drawn if one.is_measured for step, _ in one.points}
    every = sorted({step for one in drawn for step, _ in one.points})
    apart = math.ceil(len(every) / MAX_SPOTS)
    chosen = sorted({*every[::apart], every[-1], *(measured if len(measured) <= MAX_SPOTS else ())})
    edges = [0.0, *((frame.x(a) + frame.x(b)) / 2 for a, b in zip(chosen, chosen[1:], strict=False)), float(SIDE)]
    spots = []
    for step, start, end in zip(chosen, edges, edges[1:], strict=False):
        known = [(one, at[step]) for one, at in zip(drawn, values, strict=True) if step in at]
        x = frame.x(step)
        inside = 100 * (x - start) / (end - start) if end > start else 0
        spots.append(
            _Spot(
                side="ft-before" if x > SIDE / 2 else "ft-after",
                style=f"left:{start / 10:g}%;width:{(end - start) / 10:g}%;--at:{inside:.0f}%",
                step=position.format(step).capitalize(),
                values=[(one.colour, f"{one.name} {value:.3f}") for one, value in known],
            )
        )
    return spots


def _small_curve(curve: SmallCurve, points: tuple[Point, ...]) -> _SmallPlot:
    """Draw from zero, so that a small change does not look large."""
    if not points:
        return _SmallPlot(curve.title)
    steps, values = [step for step, _ in points], [value for _, value in points]
    top = max(values) or 1.0
    frame = _Frame(steps[0], max(steps[-1], steps[0] + 1), min(0.0, min(values)), 1.08 * top)
    line = _drawn_line(Series(curve.title, points, HELD_OUT), frame, MAX_SMALL_POINTS)
    return _SmallPlot(curve.title, line, curve.form.format(values[-1]), curve.form.format(top))
