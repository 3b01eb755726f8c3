"""Quick ways to bring examples: drop a file on the tab, paste rows, or choose a file that was used before."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import gradio as gr

from sft_app.errors import DataError
from sft_app.settings import parse_settings
from sft_app.ui.context import PageContext
from sft_app.ui.events import PRIVATE, Updates
from sft_app.ui.permissions import allowed, clear_error_after

RECENT_SHOWN = 8
NOTHING_RECENT = "Nothing yet. Files that you upload, and cleaned copies, appear here."
# A file that is dropped anywhere on the tab goes to the upload button. Only there: other tabs have their own uploads.
DROP_FILES = """(() => {
    const input = () => [...document.querySelectorAll('input[type=file]')]
        .find(field => field.parentElement.querySelector('#upload'));
    const isOpen = () => document.getElementById('upload')?.offsetParent;
    const isFile = event => [...(event.dataTransfer?.types ?? [])].includes('Files') && isOpen();
    const mark = on => document.documentElement.classList.toggle('ft-dropping', on);
    let leaving;
    document.addEventListener('dragover', event => {
        if (!isFile(event)) return;
        event.preventDefault(); clearTimeout(leaving); mark(true);
    });
    document.addEventListener('dragleave', () => { clearTimeout(leaving); leaving = setTimeout(mark, 100, false); });
    document.addEventListener('drop', event => {
        mark(false);
        if (!isFile(event)) return;
        event.preventDefault();
        const chosen = new DataTransfer(), target = input();
        if (!target || !event.dataTransfer.files.length) return;
        chosen.items.add(event.dataTransfer.files[0]);
        target.files = chosen.files;
        target.dispatchEvent(new Event('change', {bubbles: true}));
    });
})()"""


@dataclass(frozen=True)
class QuickSources:
    """The components to paste rows and to choose a recent file. `listing` is the accordion of the latter."""

    pasted: gr.Textbox
    use_pasted: gr.Button
    listing: gr.Accordion
    recent: gr.Radio
    note: gr.Markdown


def build_quick_sources(lists_recent: bool) -> QuickSources:
    with gr.Accordion("Paste rows or a table", open=False, elem_id="paste-rows"):
        pasted = gr.Textbox(
            label="Rows",
            info="Cells copied from a spreadsheet with their header, CSV, or JSON lines.",
            placeholder="question\tanswer\nWhere is my order?\tIt left our nursery today.",
            lines=6,
            max_lines=12,
            elem_id="pasted-rows",
        )
        use_pasted = gr.Button("Use these rows", size="md", elem_id="use-pasted")
    with gr.Accordion("Recent files", open=False, visible=lists_recent, elem_id="recent-files") as listing:
        note = gr.Markdown(NOTHING_RECENT)
        recent = gr.Radio([], show_label=False, container=False, visible=False, elem_id="recent")
    return QuickSources(pasted, use_pasted, listing, recent, note)


def wire_quick_sources(
    context: PageContext, quick: QuickSources, data: gr.Textbox, detect: Updates, shown_on: Any, cancels: list[Any]
) -> list[Any]:
    """Wire them to `data`, the source, with the updates `detect` for a new one. Return the events that may take long.

    `cancels` are the events of other sources that are still loading.
    """

    @allowed("upload", context)
    def use_pasted(text: str) -> Updates:
        if not text.strip():
            raise DataError("Paste some rows first: a header and at least one row, or one JSON object per line.")
        kept = context.uploads.keep_written(pasted_name(text), text.encode(errors="replace"))
        return {data: str(kept), **detect}

    @allowed("look", context)
    def list_recent(current: str) -> Updates:
        files = context.uploads.recent(RECENT_SHOWN)
        choices = [(described(file, datetime.now()), str(file)) for file in files]
        chosen = current if current in map(str, files) else None
        radio = gr.Radio(choices=choices, value=chosen, visible=bool(files))
        return {quick.recent: radio, quick.note: gr.Markdown(NOTHING_RECENT, visible=not files)}

    @allowed("look", context)
    def use_recent(file: str) -> Updates:
        context.access.check_data(parse_settings({"data": file}))
        if not Path(file).is_file():
            raise DataError(f"{Path(file).name} no longer exists. Upload it again.")
        return {data: file, **detect}

    outputs = [data, *detect]
    slow: dict[str, Any] = {"api_visibility": "private", "cancels": cancels}
    pasting = quick.use_pasted.click(use_pasted, quick.pasted, outputs, show_progress_on=shown_on, **slow)
    clear_error_after(pasting, shown_on)
    quick.listing.expand(list_recent, data, [quick.recent, quick.note], **PRIVATE)
    choosing = {**PRIVATE, "preprocess": False}  # the choices are those of this moment, not those of the built page
    quick.recent.input(use_recent, quick.recent, outputs, **choosing, cancels=[*cancels, pasting])
    return [pasting]


def pasted_name(text: str) -> str:
    """Name pasted text so that it is read as what it looks like; the reader decides about anything else."""
    first = text.lstrip().partition("\n")[0]
    if first[:1] in ("{", "["):
        return "pasted.jsonl"
    return "pasted.tsv" if "\t" in first else "pasted.txt"


def described(file: Path, now: datetime) -> str:
    """Describe a file by its name and when it was stored, such as `tickets.csv (today, 14:05)`."""
    stored = datetime.fromtimestamp(file.stat().st_mtime)
    days = (now.date() - stored.date()).days
    day = {0: "today", 1: "yesterday"}.get(days, f"{stored:%d %B %Y}".lstrip("0"))
    return f"{file.name} ({day}, {stored:%H:%M})"
