"""Runs: every run with what came of it; open, download or delete one."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from sft_app.export.adapter import zip_adapter
from sft_app.runs import delete_run, list_runs
from sft_app.summary import summarise_run
from sft_app.ui import views
from sft_app.ui.context import PageContext
from sft_app.ui.events import PRIVATE, tells_errors


@dataclass(frozen=True)
class RunsTab:
    """What the page's wiring needs of this tab."""

    chosen: gr.Dropdown
    open_train: gr.Button
    open_compare: gr.Button
    listing: list[gr.Component]
    list_all: Any


def build_runs_tab(context: PageContext) -> RunsTab:
    """A table to read and a row of buttons for the chosen run."""
    table = gr.Dataframe(
        views.runs_frame([]), interactive=False, datatype="str", wrap=True, show_label=False, elem_id="runs-table"
    )
    chosen = gr.Dropdown([], label="Chosen run", info="Choose here or click a row.", elem_id="chosen-run")
    with gr.Row():
        open_train = gr.Button("Open in Train", size="md", min_width=140)
        open_compare = gr.Button("Open in Compare", size="md", min_width=140)
        download = gr.Button("Download adapter", size="md", min_width=140, elem_id="download-adapter")
        delete = gr.Button("Delete …", variant="stop", size="md", min_width=140, elem_id="delete-run")
    file = gr.DownloadButton("Save the adapter", visible=False, variant="primary", elem_id="save-adapter")
    with gr.Group(visible=False) as confirmation:
        question = gr.Markdown(container=True)
        with gr.Row():
            really = gr.Button("Delete it for good", variant="stop", elem_id="really-delete")
            keep = gr.Button("Keep it")

    def list_all(run_id: str | None) -> list[Any]:
        summaries = [summarise_run(run) for run in list_runs(context.home)]
        choices = [(views.run_label(summary), summary["run"]) for summary in summaries]
        still = run_id if run_id in {summary["run"] for summary in summaries} else None
        first = summaries[0]["run"] if summaries else None
        return [views.runs_frame(summaries), gr.Dropdown(choices, value=still or first)]

    def choose_row(event: gr.SelectData) -> str | None:
        runs = list_runs(context.home)
        row = event.index[0]
        return runs[row].id if row < len(runs) else None

    @tells_errors
    def pack(run_id: str | None) -> Any:
        folder = Path(tempfile.mkdtemp(prefix="adapter-"))
        return gr.DownloadButton(value=str(zip_adapter(context.get(run_id), folder)), visible=True)

    @tells_errors
    def ask(run_id: str | None) -> list[Any]:
        run = context.get(run_id)
        return [gr.Group(visible=True), f"Delete **{run.id}** with its adapter, metrics and log? There is no way back."]

    @tells_errors
    def delete_chosen(run_id: str | None) -> Any:
        delete_run(context.get(run_id))
        gr.Info(f"Run {run_id} is deleted.")
        return gr.Group(visible=False)

    listing = [table, chosen]
    table.select(choose_row, None, chosen, **PRIVATE)
    chosen.change(
        lambda: [gr.DownloadButton(visible=False), gr.Group(visible=False)], None, [file, confirmation], **PRIVATE
    )
    download.click(pack, chosen, file, api_visibility="private")
    delete.click(ask, chosen, [confirmation, question], **PRIVATE)
    keep.click(lambda: gr.Group(visible=False), None, confirmation, **PRIVATE)
    really.click(delete_chosen, chosen, confirmation, **PRIVATE).success(list_all, chosen, listing, **PRIVATE)
    return RunsTab(chosen, open_train, open_compare, listing, list_all)
