"""The Export tab: choose a run, then download or push it."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from sft_app.ui import views
from sft_app.ui.context import PageContext
from sft_app.ui.events import UNCHECKED
from sft_app.ui.export.downloads import build_downloads
from sft_app.ui.export.push_panel import build_push_tabs
from sft_app.ui.permissions import allowed

EXPORT_INTRO = (
    "Your fine-tune is yours: use it in another program, push it to the Hugging Face Hub, or put it online as a Space."
)
RUN_INFO = "Runs with a saved adapter, newest first."
NO_RUNS = "No run has saved an adapter yet. Train one, then export it here."


@dataclass(frozen=True)
class ExportTab:
    """The components that the page's wiring needs."""

    chosen: gr.Dropdown


def build_export_tab(context: PageContext, opened: gr.Tab) -> ExportTab:
    """Build the choice of a run, and a tab for each destination. The runs are listed again when the tab is `opened`."""
    gr.Markdown(EXPORT_INTRO, elem_id="export-told")
    chosen = gr.Dropdown([], label="Run", info=RUN_INFO, elem_id="export-run")
    with gr.Tabs(elem_id="export-ways"):
        with gr.Tab("Download"):
            build_downloads(context, chosen)
        build_push_tabs(context, chosen)

    @allowed("look", context)
    def list_runs(run_id: str | None) -> gr.Dropdown:
        return run_choices(context, run_id)

    opened.select(list_runs, chosen, chosen, **UNCHECKED)
    return ExportTab(chosen)


def run_choices(context: PageContext, run_id: str | None) -> gr.Dropdown:
    """List the runs that have an adapter, and select `run_id` if it is one of them, else the newest."""
    summaries = [summary for summary in context.runs.summaries() if summary.adapter]
    ids = [summary.run for summary in summaries]
    choices = [(views.run_label(summary), summary.run) for summary in summaries]
    info = RUN_INFO if ids else NO_RUNS
    return gr.Dropdown(choices, value=run_id if run_id in ids else next(iter(ids), None), info=info)
