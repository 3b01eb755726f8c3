"""Show the row that a finding names: its conversation or, if it has none that can be shown, the row of the file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import gradio as gr

from sft_app.data.reading import PREVIEWED, DataFile, LoadedData
from sft_app.data.rows import Rejected
from sft_app.data.sources.data_files import read_rows
from sft_app.errors import NothingUsable
from sft_app.settings import DataSettings
from sft_app.ui.context import PageContext
from sft_app.ui.data import views as data_views
from sft_app.ui.data.views import ShownRow
from sft_app.ui.events import PRIVATE, Updates, filled_in
from sft_app.ui.forms import settings_from_form
from sft_app.ui.permissions import allowed, open_to_all

MAX_RAW_ROWS = 100_000
"""Reading up to this row of a file takes about two seconds."""
MAX_CHARACTERS = 4000
# A finding's rows are buttons. A click passes the row on; the buttons of the row shown step through the same finding.
ROW_BUTTONS = (
    "(()=>{let rows=[],at=0;const show=()=>{const field=document.querySelector('#wanted-row :is(textarea,input)');"
    "field.value=[rows[at],rows.length,Date.now()].join(' ');field.dispatchEvent(new Event('input',{bubbles:true}))};"
    "document.addEventListener('click',({target})=>{"
    "const row=target.closest('.ft-row'),step=target.closest('.ft-step');"
    "if(row){const all=[...row.closest('li').querySelectorAll('.ft-row')];rows=all.map(one=>one.dataset.row);"
    "at=all.indexOf(row);show();"
    "document.querySelector('#conversation-number').scrollIntoView({block:'nearest',behavior:'smooth'})}"
    "else if(step&&rows.length){at=(at+Number(step.dataset.step)+rows.length)%rows.length;show()}})})()"
)


@dataclass(frozen=True)
class RowView:
    """The row shown, and the hidden field that says which row is wanted."""

    card: gr.HTML
    wanted: gr.Textbox


def build_row_view() -> RowView:
    return RowView(gr.HTML(elem_id="shown-row"), gr.Textbox(visible="hidden", elem_id="wanted-row"))


def wire_row_view(context: PageContext, row: RowView, number: gr.Number, fields: dict[str, Any]) -> None:
    """Show a row when its button is clicked. A number that is typed hides the row again."""
    names = list(fields)

    @allowed("look", context)
    def show_row(wanted: str, shown: list[Any]) -> Updates:
        chosen, of, _ = wanted.split()
        reading = settings_from_form(names, shown).reading()
        return row_updates(context, row, number, reading, ShownRow(int(chosen), int(of) > 1))

    filled, form = filled_in(row.wanted.change, fields.values())
    filled.success(show_row, [row.wanted, form], [row.card, number], **PRIVATE)
    number.input(open_to_all(lambda: ""), None, row.card, js="() => ''", **PRIVATE)


def row_updates(
    context: PageContext, view: RowView, number: gr.Number, settings: DataSettings, row: ShownRow
) -> Updates:
    """Show the row's conversation or, if the page has none, the row as it is in the file. Raises: AppError."""
    try:
        loaded = context.data.load(settings)
    except NothingUsable:
        text, problem = _raw_row(context.data.open(settings), row.number)
        return {view.card: data_views.row_card(row, None, text, problem or "it cannot be used as it is in the file:")}
    conversation = next((place for place, one in enumerate(loaded.examples, start=1) if one.row == row.number), None)
    if conversation is not None:
        return {view.card: data_views.row_card(row, conversation), number: conversation}
    text, problem = _raw_row(loaded.file, row.number)
    return {view.card: data_views.row_card(row, None, text, problem or _why_no_chat(loaded, row.number))}


def _why_no_chat(loaded: LoadedData, row: int) -> str:
    reason = next((rejected.reason for rejected in loaded.rejected if rejected.row == row), "")
    if reason:
        return f"it is skipped, because {reason}. The row in the file:"
    if not loaded.is_whole and row > loaded.examples[-1].row:
        return (
            f"it is beyond the first {PREVIEWED:,} conversations, which the page shows as a chat. The row in the file:"
        )
    return "it is not a conversation of its own. The row in the file:"


def _raw_row(file: DataFile, row: int) -> tuple[str, str]:
    """Return a row of the file as text, and why it cannot be shown; one of them is empty."""
    if row > MAX_RAW_ROWS:
        return "", f"it is beyond the first {MAX_RAW_ROWS:,} rows, which the page can show. Open the file to see it."
    for item in read_rows(file.path, sheet=file.settings.sheet):
        if isinstance(item, Rejected):
            if item.row == row:
                return "", f"it cannot be read: {item.reason}."
        elif item.number == row:
            return _shortened(json.dumps(item.values, indent=2, ensure_ascii=False, default=str)), ""
    return "", "the file has no such row any more."


def _shortened(text: str) -> str:
    return text if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS]} …"
