"""The report of the run on the right: the answers to show, and its two files."""

from __future__ import annotations

import tempfile
from pathlib import Path

import gradio as gr

from sft_app.runs.folder import Run
from sft_app.ui.compare.views import pair_choices
from sft_app.ui.context import PageContext
from sft_app.ui.events import PRIVATE, UNCHECKED, Updates
from sft_app.ui.permissions import allowed, open_to_all

REPORT_INTRO = (
    "One file you can share that shows what the run on the right changed: scorecard, curves, answers side by side, "
    "votes, data, settings, and how to reproduce the run. It opens in any browser, even offline. The Markdown version "
    "is shorter and fits in a model card."
)


def build_report(context: PageContext, right: gr.Dropdown, tab: gr.Tab) -> None:
    """Build the choice of answers and the report's files. The list of answers is refreshed when `tab` is opened."""
    gr.Markdown(REPORT_INTRO, elem_id="report-told")
    pairs = gr.Dropdown(
        [],
        multiselect=True,
        label="Pairs to show",
        info="Questions that both sides answered, most changed first.",
        elem_id="report-pairs",
    )
    make = gr.Button("Create report", variant="primary", size="md", elem_id="make-report")
    with gr.Row():
        files = [
            gr.DownloadButton("Download as HTML", visible=False, elem_id="save-report"),
            gr.DownloadButton("Download as Markdown", visible=False, elem_id="save-markdown"),
        ]

    @allowed("look", context)
    def list_pairs(name: str | None, chosen: list[str] | None) -> gr.Dropdown:
        return _pairs_field(context.sides.find_run(name), chosen or [])

    @allowed("look", context)
    def write(name: str | None, chosen: list[str]) -> Updates:
        from sft_app.export.report import write_report

        run = context.sides.get_run(name)
        written = write_report(run, Path(tempfile.mkdtemp(prefix="report-")), chosen, f"{run.id}-report")
        return {
            button: gr.DownloadButton(value=str(file), visible=True)
            for button, file in zip(files, written, strict=True)
        }

    @open_to_all
    def hide_files() -> Updates:
        """Hide the files, because they no longer match the selection."""
        return {button: gr.DownloadButton(visible=False) for button in files}

    gr.on([tab.select, right.change], list_pairs, [right, pairs], pairs, **UNCHECKED)
    make.click(write, [right, pairs], files, api_visibility="private")
    gr.on([right.change, pairs.input], hide_files, None, files, **PRIVATE)


def _pairs_field(run: Run | None, chosen: list[str]) -> gr.Dropdown:
    """List the run's pairs, keeping those selected before, or else selecting those that a report shows by default."""
    from sft_app.evaluation.answer_pairs import SHOWN, collect_pairs

    pairs = collect_pairs(run) if run else []
    kept = [pair.id for pair in pairs if pair.id in chosen]
    return gr.Dropdown(pair_choices(pairs), value=kept or [pair.id for pair in pairs[:SHOWN]])
