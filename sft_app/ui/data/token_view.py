"""Show one conversation as a chat, and as tokens coloured by whether they are trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from sft_app.data.reading import LoadedData
from sft_app.data.tokens import render_conversation, template_notes, thinking_notes
from sft_app.data.tool_templates import tool_notes
from sft_app.errors import AppError
from sft_app.models.starter import starter_is_ready
from sft_app.settings import RunSettings
from sft_app.ui.context import PageContext
from sft_app.ui.data import views as data_views
from sft_app.ui.data.row_view import RowView, build_row_view
from sft_app.ui.events import Updates

TOKEN_COLOURS = {
    "trained": "#10b981",
    "end, trained": "#0ea5e9",
    "context": "#94a3b8",
    "end, not trained": "#f59e0b",
    "cut": "#f43f5e",
}


@dataclass(frozen=True)
class TokenView:
    """The components that show one conversation. `number` selects it, counting from 1.

    `row` shows a row that a finding names.
    """

    number: gr.Number
    row: RowView
    chat: gr.Chatbot
    note: gr.Markdown
    tokens: gr.HighlightedText

    def outputs(self) -> list[Any]:
        return [self.note, self.tokens]


def build_token_view(context: PageContext, loaded: LoadedData) -> TokenView:
    """Build the view with the first conversation."""
    with gr.Row(equal_height=True):
        gr.Markdown("### What the model is trained on")
        number = gr.Number(
            1,
            label="Conversation",
            precision=0,
            elem_id="conversation-number",
        )
    return TokenView(
        number=number,
        row=build_row_view(),
        chat=gr.Chatbot(
            chat_at(loaded, 1),
            label="As a chat",
            height=320,
            show_label=False,
            autoscroll=False,
            buttons=[],
            elem_id="conversation-chat",
        ),
        note=gr.Markdown(_pending_note(context), elem_id="token-note"),
        tokens=gr.HighlightedText(
            label="As the model reads it",
            color_map=TOKEN_COLOURS,
            show_legend=True,
            show_inline_category=False,
            elem_id="token-view",
        ),
    )


def chat_at(loaded: LoadedData, number: float | None) -> list[Any]:
    """Return the messages of this conversation, or of the nearest one that exists."""
    return data_views.chat_of(loaded.conversations[_clamp(number, loaded) - 1])


def token_updates(context: PageContext, view: TokenView, settings: RunSettings, number: float | None) -> Updates:
    """Show a note and the coloured tokens, or an error in the note."""
    try:
        loaded = context.data.load(settings.reading())
        tokenizer = context.models.tokenizer(settings)
        conversation = loaded.conversations[_clamp(number, loaded) - 1]
        rendered = render_conversation(tokenizer, conversation, context.lengths.max_length(settings))
    except AppError as error:
        return no_tokens(view, str(error))
    notes = [*_missing_number_note(number, loaded), *template_notes(tokenizer, rendered)]
    notes += [*thinking_notes(tokenizer, conversation), *tool_notes(tokenizer, conversation)]
    return {
        view.note: data_views.token_note(rendered, notes),
        view.tokens: data_views.token_spans(tokenizer, rendered),
    }


def no_tokens(view: TokenView, problem: str) -> Updates:
    return {view.note: f"The tokens cannot be shown: {problem}", view.tokens: []}


def _clamp(number: float | None, loaded: LoadedData) -> int:
    """Return the nearest conversation number; an empty field means the first one."""
    return int(min(max(1 if number is None else number, 1), len(loaded.examples)))


def _missing_number_note(number: float | None, loaded: LoadedData) -> list[str]:
    shown, last = _clamp(number, loaded), len(loaded.examples)
    if number in (None, shown):
        return []
    return [f"There is no conversation {number:g}, so this is number {shown:,}. Choose a number from 1 to {last:,}."]


def _pending_note(context: PageContext) -> str:
    if starter_is_ready(context.home):
        return "Reading the tokens …"
    return "Fetching the starter model for its tokenizer. This happens once and takes about a minute …"
