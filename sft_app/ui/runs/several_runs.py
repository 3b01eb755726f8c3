"""Several runs side by side: their losses in one chart, and the settings that differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from sft_app.curves import loss_of_runs
from sft_app.runs.summary import differing_settings
from sft_app.ui.context import PageContext
from sft_app.ui.events import NO_UPDATES, UNCHECKED, Updates
from sft_app.ui.permissions import allowed
from sft_app.ui.run_files import files_stamp
from sft_app.ui.runs.run_views import can_be_compared, comparison_card, run_names, too_few_card

MAX_RUNS = 6


@dataclass(frozen=True)
class SeveralRuns:
    """The selection of runs, their chart and their table.

    `refresh` is the event that redraws the comparison when a run has continued. `seen` is what `chart` and `table` show
    already.
    """

    chosen: gr.Dropdown
    chart: gr.HTML
    table: gr.HTML
    seen: gr.State
    refresh: dict[str, Any]


def build_several_runs(context: PageContext) -> SeveralRuns:
    """Build the selection, and below it the chart and the table."""
    chosen = gr.Dropdown(
        [],
        multiselect=True,
        max_choices=MAX_RUNS,
        label="Runs to compare",
        info=f"Up to {MAX_RUNS} runs: their curves in one chart, and the settings that differ.",
        elem_id="several-runs",
    )
    chart, table, seen = gr.HTML(elem_id="several-curves"), gr.HTML(elem_id="several-settings"), gr.State(None)

    @allowed("look", context)
    def compare(run_ids: list[str] | None, before: Any) -> Updates:
        return comparison_updates(context, several, run_ids or [], before) or NO_UPDATES

    refresh: dict[str, Any] = {"fn": compare, "inputs": [chosen, seen], "outputs": [chart, table, seen], **UNCHECKED}
    several = SeveralRuns(chosen, chart, table, seen, refresh)
    chosen.change(**refresh)
    return several


def comparison_updates(context: PageContext, several: SeveralRuns, run_ids: list[str], seen: Any) -> Updates:
    """Show the chart and table of these runs; no updates if nothing has changed since `seen`."""
    known = [summary for summary in context.runs.summaries() if can_be_compared(summary)]
    chosen = sorted((one for one in known if one.run in run_ids), key=lambda one: run_ids.index(one.run))
    runs = [context.runs.get(one.run) for one in chosen]
    now = [len(known), *(files_stamp(run) for run in runs)]
    if now == seen:
        return {}
    if len(runs) < 2:
        return {several.chart: too_few_card(len(known)), several.table: "", several.seen: now}
    named = list(zip(run_names(chosen), map(context.runs.files.metrics, runs), strict=True))
    differing = differing_settings([run.record() for run in runs])
    return {several.chart: loss_of_runs(named), several.table: comparison_card(chosen, differing), several.seen: now}
