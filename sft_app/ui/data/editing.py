"""Edit, remove and add examples in a table, page by page, and save the result as a copy.

The table is HTML with text fields instead of a `gr.Dataframe`, which cannot lock single cells, takes no pasted cells,
lets people delete its columns, and would be copied at every event of the page. What is typed stays in the browser
(`example_tables.js`) until it is saved.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from sft_app.data.checkup.edits import write_edited_copy
from sft_app.data.checkup.pages import index_of_row, read_page
from sft_app.runtime.progress import ProgressCallback
from sft_app.settings import DataSettings
from sft_app.ui.context import PageContext
from sft_app.ui.data import checkup, example_views
from sft_app.ui.data.example_views import Draft, Request, read_request
from sft_app.ui.events import PRIVATE, Updates, error_message
from sft_app.ui.forms import form_updates, settings_from_form
from sft_app.ui.permissions import allowed, clear_error_after, open_to_all

EXAMPLE_TABLES = Path(__file__).with_name("example_tables.js").read_text(encoding="utf-8")
RAW: dict[str, Any] = {"api_visibility": "private", "preprocess": False}
UNSAVED = "Your edits to the examples are not saved, so training does not use them. Save them as a copy first."


@dataclass(frozen=True)
class Editor:
    """The components to edit examples. `request` holds the unsaved edits, and `form` how the data is read."""

    box: gr.Accordion
    table: gr.HTML
    previous: gr.Button
    next: gr.Button
    row: gr.Textbox
    save: gr.Button
    discard: gr.Button
    request: gr.JSON
    form: gr.JSON

    def outputs(self) -> list[Any]:
        return [self.table, self.previous, self.next]


def build_editor() -> Editor:
    """Build the editor. Its table is empty until it is opened."""
    with gr.Accordion("Edit examples", open=False, elem_id="edit") as box:
        table = gr.HTML(example_views.table_message("Reading the examples …"), elem_id="edit-table")
        with gr.Row(elem_id="edit-buttons"):
            previous = gr.Button("Previous", size="md", min_width=90, interactive=False, elem_id="edit-previous")
            following = gr.Button("Next", size="md", min_width=90, interactive=False, elem_id="edit-next")
            row = gr.Textbox(
                placeholder="Go to row …",
                max_lines=1,
                show_label=False,
                container=False,
                min_width=120,
                elem_id="edit-row",
            )
            discard = gr.Button("Discard changes", size="md", min_width=140, elem_id="edit-discard")
            save = gr.Button("Save as a copy", variant="primary", size="md", min_width=140, elem_id="edit-save")
    request, form = (gr.JSON(visible=False) for _ in range(2))
    return Editor(box, table, previous, following, row, save, discard, request, form)


def wire_editor(
    context: PageContext, editor: Editor, fields: dict[str, Any], copied: list[Any], data_changed: Callable[..., Any]
) -> Any:
    """Wire the editor and return the event that saves. `copied` are the components that a new copy changes.

    What was typed on a page is collected whenever another page is shown, or other data (`data_changed`).
    """
    names = list(fields)

    @allowed("look", context)
    def show(sent: Any, shown: list[Any]) -> Updates:
        try:
            context.access.check("clean")  # here, so that no one types what cannot be saved
            return page_updates(context, editor, settings_from_form(names, shown).reading(), sent)
        except Exception as error:  # any error: the next change must still update the table
            return {editor.table: example_views.table_message(error_message(error), is_problem=True)}

    @allowed("clean", context)
    def save(sent: Any, shown: list[Any], progress: Any = gr.Progress()) -> Updates:  # noqa: B008
        settings, request = settings_from_form(names, shown).reading(), read_request(sent)
        copy = save_copy(context, settings, request, lambda share: progress(share, desc="Saving"))
        form = form_updates(fields, {"data": str(copy), "format": "auto", "columns": (), "max_rows": None})
        return {
            **form,
            copied[-1]: gr.DownloadButton(value=checkup.for_download(copy), visible=True),
            editor.table: example_views.table_message("Saved. Reading the copy …", request.first),
            editor.request: None,
        }

    inputs = [editor.request, editor.form]
    events: list[tuple[Callable[..., Any], str]] = [
        (editor.box.expand, "request(before, 'here')"),
        (editor.previous.click, "request(before, 'previous')"),
        (editor.next.click, "request(before, 'next')"),
        (editor.row.submit, "request(before, parseInt(row) || 1)"),
        (editor.discard.click, "discard(before)"),
        (data_changed, "requestForOtherData(before)"),
    ]
    for listen, asked in events:
        asking = _ask(editor, fields, listen, asked)
        asking.success(show, inputs, editor.outputs(), show_progress_on=editor.table, **RAW)
    asking = _ask(editor, fields, editor.save.click, "request(before, 'here')")
    outputs = [*copied, editor.table, editor.request]
    saving = asking.success(save, inputs, outputs, show_progress_on=editor.table, **RAW)
    clear_error_after(saving, editor.table)
    return saving


def page_updates(context: PageContext, editor: Editor, settings: DataSettings, sent: Any) -> Updates:
    """Show the page of examples that the browser asks for. Raises: AppError if the data cannot be read."""
    request, loaded = read_request(sent), context.data.load(settings)
    page = read_page(loaded, request.first if request.row is None else index_of_row(loaded, request.row))
    notes = []
    if request.row not in (None, page.examples[0].row):
        notes.append(f"There is no usable row {request.row:,}, so the table begins with row {page.examples[0].row:,}.")
    count = f"{len(loaded.examples):,} conversations{'' if loaded.is_whole else ' and more'}"
    return {
        editor.table: example_views.edit_table(page, request, _key(context, settings), count, notes),
        editor.previous: gr.Button(interactive=page.first > 0),
        editor.next: gr.Button(interactive=page.next is not None),
    }


def save_copy(context: PageContext, settings: DataSettings, request: Request, on_progress: ProgressCallback) -> Path:
    """Write the data with its unsaved edits to a new copy. Raises: AppError if an edit cannot be used."""
    file = context.data.load(settings).file
    edits = request.drafts.get(_key(context, settings), Draft()).edits()
    stem = re.sub(r"-edited\d*$", "", file.path.name.partition(".")[0])
    copy = checkup.unused_name(context.uploads.cleaned_folder(), f"{stem}-edited")
    write_edited_copy(file, edits, copy, on_progress)
    return copy


def warn_before_leaving(leaving: Callable[..., Any]) -> None:
    """Warn about unsaved edits on this event, which continues to where training uses the data without them."""
    stop = "() => { exampleTables.stopUnlessUnsaved(); return []; }"
    warn = open_to_all(lambda: gr.Warning(UNSAVED))
    leaving(None, None, None, js=stop, **PRIVATE).success(warn, None, None, **PRIVATE)


def _ask(editor: Editor, fields: dict[str, Any], listen: Callable[..., Any], asked: str) -> Any:
    """Return an event after which `request` holds what was typed and the page to show, and `form` the data settings."""
    js = f"(before, row, ...values) => [exampleTables.{asked}, values]"
    inputs = [editor.request, editor.row, *fields.values()]
    return listen(None, inputs, [editor.request, editor.form], js=js, **PRIVATE)


def _key(context: PageContext, settings: DataSettings) -> str:
    """Identify a file and how it is read, also after a restart or another upload of it.

    Whether it has changed meanwhile is checked conversation by conversation when the edits are saved.
    """
    return hashlib.blake2b(repr((settings, context.access.whose())).encode(), digest_size=8).hexdigest()
