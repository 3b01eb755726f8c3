"""The report of the run on the right side: which answers it shows, and its two files."""

from __future__ import annotations

import tempfile
from pathlib import Path

import gradio as gr

from sft_app.runs.folder import Run
from sft_app.ui.compare.views import pair_choices
from sft_app.ui.context import PageContext
from sft_app.ui.events import PRIVATE, UNCHECKED, Updates
from sft_app.ui.permissions import allowed, open_to_all

TOLD = (
    "Everything that shows what the run on the right changed, in one file you can share: scorecard, "
    "curves, answers side "
    "by side, votes, data, settings, and how to reproduce it. It opens in any browser, even offline. "
    "The Markdown version is shorter and fits in a model card."
)


def build_report(context: PageContext, right: gr.Dropdown, tab: gr.Tab) -> None:
    """What goes into the report, and its files; the list of answers is read anew when `tab` is opened."""
    gr.Markdown(TOLD, elem_id="report-told")
    pairs = gr.Dropdown(
        [],
        multiselect=True,
        label="Pairs to show",
        info="Questions both sides answered, most changed first.",
        elem_id="report-pairs",
    )
    make = gr.Button("Create report", variant="primary", size="md", elem_id="make-report")
    with gr.Row():
        files = [
            gr.DownloadButton("Save as one HTML file", visible=False, elem_id="save-report"),
            gr.DownloadButton("Save as Markdown", visible=False, elem_id="save-markdown"),
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
        """What was made is no longer what is chosen."""
        return {button: gr.DownloadButton(visible=False) for button in files}

    gr.on([tab.select, right.change], list_pairs, [right, pairs], pairs, **UNCHECKED)
    make.click(write, [right, pairs], files, api_visibility="private")
    gr.on([right.change, pairs.input], hide_files, None, files, **PRIVATE)


def _pairs_field(run: Run | None, chosen: list[str]) -> gr.Dropdown:
    """The run's pairs, with those chosen before that it has, else those that a report shows by itself."""
    from sft_app.evaluation.answer_pairs import SHOWN, collect_pairs

    pairs = collect_pairs(run) if run else []
    still = [pair.id for pair in pairs if pair.id in chosen]
    return gr.Dropdown(pair_choices(pairs), value=still or [pair.id for pair in pairs[:SHOWN]])
