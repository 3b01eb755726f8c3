"""Draw the recipe bench: what each recipe gains at the task against what it loses elsewhere."""

from __future__ import annotations

import math
from pathlib import Path
from statistics import mean
from typing import Any
from xml.etree import ElementTree

WIDTH, HEIGHT, EDGE = 460, 340, 56
COLOURS = ("#047857", "#1d4ed8", "#b45309", "#be123c", "#6d28d9", "#0e7490", "#4d7c0f", "#a21caf", "#374151", "#92400e")
Span = tuple[float, float]


def draw(cells: list[dict[str, Any]], file: Path) -> None:
    """Write an SVG with a panel for each data set: the loss on general questions to the right, the gain upwards.

    Each recipe is a point, the mean over its seeds, with the 95 % intervals of a single seed as lines. A run whose loss
    is not a number is only in the table.
    """
    measured = [cell for cell in cells if cell["general"] and _is_number(cell["general"]) and _is_number(cell["loss"])]
    panels = list(dict.fromkeys(cell["data"] for cell in measured))
    root = ElementTree.Element(
        "svg",
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "viewBox": f"0 0 {WIDTH} {HEIGHT * len(panels)}",
            "font-family": "sans-serif",
            "font-size": "12",
        },
    )
    ElementTree.SubElement(root, "rect", {"width": "100%", "height": "100%", "fill": "white"})
    for number, data in enumerate(panels):
        group = ElementTree.SubElement(root, "g", {"transform": f"translate(0 {number * HEIGHT})"})
        _draw_panel(group, data, [cell for cell in measured if cell["data"] == data])
    ElementTree.indent(root)
    file.write_text(ElementTree.tostring(root, encoding="unicode") + "\n", encoding="utf-8")


def _is_number(change: dict[str, Any]) -> bool:
    return change["change"] is not None and math.isfinite(change["change"])


def _draw_panel(group: ElementTree.Element, data: str, cells: list[dict[str, Any]]) -> None:
    arms = {arm: [cell for cell in cells if cell["arm"] == arm] for arm in dict.fromkeys(cell["arm"] for cell in cells)}
    points = {arm: (_point(of_arm, "general", 1), _point(of_arm, "loss", -1)) for arm, of_arm in arms.items()}
    right = _scale([point[0] for point in points.values()], EDGE, WIDTH - 120)
    up = _scale([point[1] for point in points.values()], HEIGHT - EDGE, 32)
    _text(group, EDGE, 18, f"{data}: gain at the task and loss elsewhere, in nats per token", weight="bold")
    for ends in (((EDGE, up(0)), (WIDTH - 120, up(0))), ((right(0), 32), (right(0), HEIGHT - EDGE))):
        _line(group, *ends, colour="#9ca3af")
    _text(group, EDGE, HEIGHT - 16, "rise of the loss on general questions →")
    _text(group, 16, HEIGHT - EDGE, "fall of the held-out loss →", turned=True)
    for number, (arm, (elsewhere, gain)) in enumerate(points.items()):
        colour, (x, y) = COLOURS[number % len(COLOURS)], (right(elsewhere[0]), up(gain[0]))
        _line(group, (right(elsewhere[1]), y), (right(elsewhere[2]), y), colour)
        _line(group, (x, up(gain[1])), (x, up(gain[2])), colour)
        ElementTree.SubElement(group, "circle", {"cx": f"{x:.1f}", "cy": f"{y:.1f}", "r": "4", "fill": colour})
        _text(group, x + 7, y - 6, f"{arm} ({-gain[0]:+.2f}, {elsewhere[0]:+.2f})", colour)


def _point(cells: list[dict[str, Any]], name: str, sign: int) -> tuple[float, float, float]:
    """Return the mean change with its interval; without an interval, or with several seeds, both ends are the mean."""
    changes = [cell[name] for cell in cells]
    middle = sign * mean(change["change"] for change in changes)
    if len(changes) > 1 or changes[0]["low"] is None:
        return middle, middle, middle
    return middle, sign * changes[0]["low"], sign * changes[0]["high"]


def _scale(spans: list[tuple[float, float, float]], first: float, last: float) -> Any:
    """Return the function from a value to its place, so that zero and every end of an interval is in the picture."""
    values = [0.0, *(value for span in spans for value in span)]
    low, high = min(values), max(values)
    room = 0.08 * (high - low) or 1.0
    low, high = low - room, high + room
    return lambda value: first + (value - low) / (high - low) * (last - first)


def _line(group: ElementTree.Element, one: Span, other: Span, colour: str) -> None:
    names = dict(zip(("x1", "y1", "x2", "y2"), (f"{value:.1f}" for value in (*one, *other)), strict=True))
    ElementTree.SubElement(group, "line", {**names, "stroke": colour, "stroke-width": "1.2"})


def _text(
    group: ElementTree.Element,
    x: float,
    y: float,
    text: str,
    colour: str = "#111827",
    weight: str = "normal",
    turned: bool = False,
) -> None:
    turn = {"transform": f"rotate(-90 {x:.1f} {y:.1f})"} if turned else {}
    place = {"x": f"{x:.1f}", "y": f"{y:.1f}", "fill": colour, "font-weight": weight, **turn}
    ElementTree.SubElement(group, "text", place).text = text
