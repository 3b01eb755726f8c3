"""Turn several runs into a side-by-side comparison. Without Gradio."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from sft_app.curves import run_colour
from sft_app.runs.summary import RunSummary, clock, loss_change
from sft_app.settings import DataSettings
from sft_app.templating import render_html
from sft_app.ui.views import STATE_WORDS, empty_card

# Runs that differ in one of these have different held-out conversations or tokens, so their losses are not comparable.
HELDOUT_SETTINGS = {
    *DataSettings.model_fields,
    "heldout_fraction",
    "heldout_min",
    "heldout_max",
    "max_length",
    "seed",
    "model",
    "revision",
    "model revision",
    "chat_template",
    "enable_thinking",
}
NOT_COMPARABLE = (
    "These runs were not measured on the same held-out tokens (see the settings below), "
    "so a lower loss does not mean that a run is better."
)


def run_names(summaries: Sequence[RunSummary]) -> list[str]:
    """Return each run's name in a comparison, with its id if two runs share a name."""
    names = [summary.name or summary.run for summary in summaries]
    counts = Counter(names)
    return [
        f"{name} ({summary.run})" if counts[name] > 1 else name for name, summary in zip(names, summaries, strict=True)
    ]


def can_be_compared(summary: RunSummary) -> bool:
    """Return whether the run has taken a step and its settings can be read."""
    return bool(summary.steps) and summary.model is not None


def comparison_card(summaries: Sequence[RunSummary], differing: Sequence[tuple[str, list[str]]]) -> str:
    """Show the results of each run and the settings in which they differ, with a column for each run."""
    is_fair = not any(name in HELDOUT_SETTINGS or name.startswith("contents of") for name, _ in differing)
    return render_html(
        "runs/comparison.html",
        warning="" if is_fair else NOT_COMPARABLE,
        runs=[(run_colour(index), name) for index, name in enumerate(run_names(summaries))],
        results=[_row(*result) for result in _results(summaries, is_fair)],
        settings=[_row(name.replace("_", " "), values) for name, values in differing],
    )


def queue_choices(queued: Sequence[RunSummary]) -> list[tuple[str, str]]:
    """Return (position and name, id) of the queued runs, which are given in queue order."""
    names = run_names(queued)
    return [
        (f"{position}. {name}", summary.run)
        for position, (name, summary) in enumerate(zip(names, queued, strict=True), start=1)
    ]


def too_few_card(runs: int) -> str:
    """Show how to get a comparison while fewer than two runs are selected."""
    if runs < 2:
        return empty_card("A comparison needs two runs. Train another with a different setting, then choose both here.")
    return empty_card("Choose two or more runs to see their curves in one chart and the settings that differ.")


def _results(summaries: Sequence[RunSummary], is_fair: bool) -> list[tuple[str, list[str], int | None]]:
    """Return (name, value of each run, index of the best run or None)."""
    return [
        ("state", [STATE_WORDS[summary.state] for summary in summaries], None),
        ("steps", [f"{summary.steps:,} of {summary.total_steps:,}" for summary in summaries], None),
        ("held-out loss", [loss_change(summary) for summary in summaries], _lowest(summaries) if is_fair else None),
        ("tokens/s", [_rounded(summary.tokens_per_second) for summary in summaries], None),
        ("time", [clock(summary.seconds) for summary in summaries], None),
    ]


def _lowest(summaries: Sequence[RunSummary]) -> int | None:
    """Return the index of the only run with the lowest held-out loss."""
    losses = [(summary.heldout_loss_tuned, index) for index, summary in enumerate(summaries)]
    known = sorted((loss, place) for loss, place in losses if loss is not None and math.isfinite(loss))
    return known[0][1] if len(known) > 1 and known[0][0] < known[1][0] else None


def _rounded(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"


def _row(name: str, values: Sequence[str], best: int | None = None) -> tuple[str, list[tuple[str, bool]]]:
    """Return a row's name and (value, whether it is the best) of each cell."""
    return name, [(value, index == best) for index, value in enumerate(values)]
