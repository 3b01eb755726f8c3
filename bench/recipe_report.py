"""Show the recipe bench's results as a Markdown table for each data set."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from statistics import mean
from typing import Any

from sft_app.evaluation.statistics.exact import clopper_pearson

COLUMNS = (
    "recipe",
    "seeds",
    "steps",
    "minutes",
    "held-out loss",
    "change (95 % interval)",
    "chrF",
    "ended",
    "repeated",
    "tests",
    "general loss",
    "known before, lost now",
)


def show(cells: list[dict[str, Any]]) -> None:
    """Print the tables."""
    sys.stdout.write("\n".join(markdown(cells)) + "\n")


def markdown(cells: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the lines of a table for each data set: the means over the seeds, and intervals if there is one seed."""
    for data in dict.fromkeys(cell["data"] for cell in cells):
        yield from (f"### {data}", "", _line(COLUMNS), _line(["---"] * len(COLUMNS)))
        for arm in dict.fromkeys(cell["arm"] for cell in cells if cell["data"] == data):
            yield _line(row([cell for cell in cells if (cell["data"], cell["arm"]) == (data, arm)]))
        yield ""


def row(cells: list[dict[str, Any]]) -> list[str]:
    """Return the table's row for the cells of one recipe, one per seed."""
    losses = [cell["loss"]["tuned"] for cell in cells]
    answers = [cell["answers"] for cell in cells if cell["answers"]]
    general = [cell["general"] for cell in cells if cell["general"]]
    tests = [cell["tests"] for cell in cells if cell["tests"]]
    spread = f" ({min(losses):.2f} to {max(losses):.2f})" if len(losses) > 1 else ""
    return [
        cells[0]["arm"],
        str(len(cells)),
        f"{mean(cell['steps'] for cell in cells):.0f}",
        f"{mean(cell['training_seconds'] for cell in cells) / 60:.1f}",
        f"{mean(losses):.3f}{spread}",
        _change([cell["loss"] for cell in cells]),
        *(_answers(answers, name) for name in ("chrf", "stopped", "repetition")),
        f"{sum(t['passed'][1] for t in tests)} of {sum(t['total'] for t in tests)}" if tests else "",
        _change(general),
        _lost([cell["known"] for cell in cells if cell["known"]]),
    ]


def _line(values: list[str] | tuple[str, ...]) -> str:
    return f"| {' | '.join(values)} |"


def _change(changes: list[dict[str, Any]]) -> str:
    """Return the mean change, and the interval of a single one."""
    if not changes:
        return ""
    if any(change["change"] is None for change in changes):
        return "not a number"
    text = f"{mean(change['change'] for change in changes):+.3f}"
    (one, *others) = changes
    return text if others or one["low"] is None else f"{text} ({one['low']:+.2f} to {one['high']:+.2f})"


def _answers(answers: list[dict[str, Any]], name: str) -> str:
    """Return both sides' share, base and fine-tuned."""
    if not answers:
        return ""
    base, tuned = (mean(one[side][name] for one in answers) for side in ("base", "tuned"))
    return f"{base:.0%} → {tuned:.0%}"


def _lost(known: list[dict[str, Any]]) -> str:
    """Return how many of the known questions were lost, and for a single seed the exact interval of the share."""
    lost, before = sum(one["lost"] for one in known), sum(one["known"] for one in known)
    if not before or len(known) > 1:
        return f"{lost} of {before}" if before else ""
    low, high = clopper_pearson(lost, before)
    return f"{lost} of {before} ({low:.0%} to {high:.0%})"
