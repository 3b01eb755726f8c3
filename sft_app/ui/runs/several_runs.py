"""Several runs side by side: their losses in one chart, and what was set differently."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from sft_app.curves import loss_of_runs
from sft_app.runs.summary import differing_settings
from sft_app.ui.context import PageContext
from sft_app.ui.events import UNCHECKED, tells_errors
from sft_app.ui.run_files import files_stamp
from sft_app.ui.runs.run_views import can_be_compared, comparison_card, run_names, too_few_card

MOST_RUNS = 6


@dataclass(frozen=True)
class SeveralRuns:
    """`refresh` is the event that draws the comparison anew where a run has gone on."""

    chosen: gr.Dropdown
    refresh: dict[str, Any]


def build_several_runs(context: PageContext) -> SeveralRuns:
    """The choice, and below it the chart and the table."""
    chosen = gr.Dropdown(
        [],
        multiselect=True,
        max_choices=MOST_RUNS,
        label="Runs to compare",
        info=f"Up to {MOST_RUNS} runs: their curves in one chart, and the settings that differ.",
        elem_id="several-runs",
    )
    chart, table, seen = gr.HTML(elem_id="several-curves"), gr.HTML(elem_id="several-settings"), gr.State(None)

    @tells_errors
    def compare(run_ids: list[str] | None, before: Any) -> list[Any]:
        return comparison_values(context, run_ids or [], before)

    refresh: dict[str, Any] = {"fn": compare, "inputs": [chosen, seen], "outputs": [chart, table, seen], **UNCHECKED}
    chosen.change(**refresh)
    return SeveralRuns(chosen, refresh)


def comparison_values(context: PageContext, run_ids: list[str], seen: Any) -> list[Any]:
    """Chart and table of these runs, skipped while nothing is new since `seen`."""
    known = [summary for summary in context.summaries() if can_be_compared(summary)]
    chosen = sorted((one for one in known if one.run in run_ids), key=lambda one: run_ids.index(one.run))
    runs = [context.get(one.run) for one in chosen]
    now = [len(known), *(files_stamp(run) for run in runs)]
    if now == seen:
        return [gr.skip(), gr.skip(), gr.skip()]
    if len(runs) < 2:
        return [too_few_card(len(known)), "", now]
    named = list(zip(run_names(chosen), map(context.run_files.metrics, runs), strict=True))
    differing = differing_settings([run.record() for run in runs])
    return [loss_of_runs(named), comparison_card(chosen, differing), now]
