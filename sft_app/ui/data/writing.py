"""Write the first examples by hand in an empty table, and use or download them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from sft_app.runtime.files import jsonl_line
from sft_app.ui.context import PageContext
from sft_app.ui.data import checkup, example_views
from sft_app.ui.events import PRIVATE, Updates
from sft_app.ui.permissions import allowed

FILE_NAME = "my-examples.jsonl"
INTRODUCTION = (
    "### Write your own\nOne question and its answer on each line. You can paste cells from a spreadsheet. A few dozen "
    "good examples are a start; you can edit them and add more later."
)
TOGGLE = "() => { document.body.classList.toggle('ft-writing'); return []; }"


@dataclass(frozen=True)
class WritingPanel:
    """The components to write examples. What is typed stays in the browser until it is used."""

    use: gr.Button
    download: gr.DownloadButton
    close: gr.Button


def build_writing() -> WritingPanel:
    """Build the panel, which the page's styles hide until it is opened, as a component that is not shown forgets."""
    with gr.Column(elem_id="write-panel"):
        gr.Markdown(INTRODUCTION)
        gr.HTML(example_views.writing_table(), elem_id="write-table")
        with gr.Row():
            close = gr.Button("Close", size="md", min_width=90, elem_id="write-close")
            download = gr.DownloadButton("Download as JSONL", size="md", visible=False, elem_id="write-download")
            use = gr.Button("Use these examples", variant="primary", size="md", elem_id="write-use")
    return WritingPanel(use, download, close)


def wire_writing(
    context: PageContext, panel: WritingPanel, opening: gr.Button, data: Any, detect: Updates, cancels: list[Any]
) -> None:
    """Wire the panel. Its examples become the `data`, whose layout is detected from scratch (`detect`)."""

    @allowed("upload", context)
    def use(sent: Any) -> Updates:
        examples = example_views.read_written(sent)
        lines = [jsonl_line({"messages": example.as_copied()}) for example in examples]
        path = context.uploads.keep_written(FILE_NAME, "".join(lines).encode())
        return {
            data: str(path),
            **detect,
            panel.download: gr.DownloadButton(value=checkup.for_download(path), visible=True),
        }

    for button in (opening, panel.close):
        button.click(None, None, None, js=TOGGLE, **PRIVATE)
    written = gr.JSON(visible=False)
    collected = panel.use.click(None, None, written, js="() => [exampleTables.written()]", **PRIVATE)
    outputs = [data, *detect, panel.download]
    used = collected.success(use, written, outputs, **{**PRIVATE, "preprocess": False, "cancels": cancels})
    used.success(None, None, None, js="() => { exampleTables.markUsed(); return []; }", **PRIVATE)
