"""Data: what the examples are, and which of their tokens will be trained."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from sft_app.data.formats import LoadedData
from sft_app.data.sources import SUFFIXES, file_sha256
from sft_app.data.tokens import IGNORED, render_conversation
from sft_app.errors import AppError, DataError
from sft_app.models.starter import starter_is_ready
from sft_app.settings import EXAMPLE_DATA, RunSettings
from sft_app.ui import views
from sft_app.ui.context import PageContext
from sft_app.ui.events import PRIVATE, tells_errors
from sft_app.ui.forms import make_field

LEFT_OUT_SHOWN = 20
TOKEN_COLOURS = {"trained": "#10b981", "context": "#94a3b8", "cut": "#f43f5e"}


@dataclass(frozen=True)
class DataTab:
    """What the other tabs and the page's wiring need of this one. `data` holds the path of the chosen file."""

    data: gr.State
    format: gr.Dropdown
    number: gr.Number
    to_train: gr.Button
    overview: list[Any]
    token_view: list[Any]


def build_data_tab(context: PageContext) -> DataTab:
    """Counts on the left, one conversation on the right; tokens need the model too, so `wire_tokens` follows."""
    data = gr.State(EXAMPLE_DATA)
    loaded = context.data(EXAMPLE_DATA, RunSettings().format)
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=300):
            gr.Markdown("### Your examples\nConversations in which the assistant answers as you want it to.")
            with gr.Row():
                example = gr.Button("Bundled example", size="md", elem_id="use-example")
                upload = gr.UploadButton("Upload a file", file_types=list(SUFFIXES), size="md", elem_id="upload")
            source = gr.Markdown(_source_line(EXAMPLE_DATA), elem_id="data-source")
            facts = gr.HTML(_facts(loaded), elem_id="data-facts")
            format = make_field("format", RunSettings().format, label="Layout of the rows")
            with gr.Accordion("Left out", open=True, visible=False) as left_out_box:
                left_out = gr.Markdown()
            to_train = gr.Button("Next: train on these examples", variant="primary", size="md", elem_id="to-train")
        with gr.Column(scale=3, min_width=300):
            with gr.Row(equal_height=True):
                gr.Markdown("### What will be trained")
                number = gr.Number(
                    1,
                    label="Conversation",
                    precision=0,
                    minimum=1,
                    maximum=len(loaded.conversations),
                    elem_id="conversation-number",
                )
            chat, *token_view = _build_reader(context, loaded)
    tab = DataTab(data, format, number, to_train, [source, facts, left_out_box, left_out, number, chat], token_view)
    _wire(context, tab, example, upload)
    return tab


def overview_values(context: PageContext, path: str, layout: str) -> list[Any]:
    """What the overview shows of a file; a file that cannot be read is told in its place."""
    try:
        loaded = context.data(path, layout)
    except DataError as error:
        return [_source_line(path), views.problem_card(str(error)), gr.Accordion(visible=False), "", 1, []]
    rejected = _left_out_list(loaded)
    return [
        _source_line(path),
        _facts(loaded),
        gr.Accordion(visible=bool(rejected)),
        rejected,
        gr.Number(value=1, maximum=len(loaded.conversations)),
        _chat_of(loaded, 1),
    ]


def _wire(context: PageContext, tab: DataTab, example: gr.Button, upload: gr.UploadButton) -> None:
    def show(path: str, layout: str) -> list[Any]:
        return overview_values(context, path, layout)

    @tells_errors
    def take_upload(file: str) -> str:
        return str(_keep_upload(Path(file), context.home / "uploads"))

    @tells_errors
    def turn_to(path: str, layout: str, wanted: float | None) -> list[Any]:
        return _chat_of(context.data(path, layout), wanted)

    upload.upload(take_upload, upload, tab.data, api_visibility="private")
    example.click(lambda: EXAMPLE_DATA, None, tab.data, **PRIVATE)
    gr.on([tab.data.change, tab.format.input], show, [tab.data, tab.format], tab.overview, **PRIVATE)
    tab.number.change(turn_to, [tab.data, tab.format, tab.number], tab.overview[-1], **PRIVATE)


def _build_reader(context: PageContext, loaded: LoadedData) -> list[Any]:
    """One conversation as a chat and as tokens."""
    return [
        gr.Chatbot(
            _chat_of(loaded, 1),
            label="As a chat",
            height=320,
            show_label=False,
            autoscroll=False,
            buttons=[],
            elem_id="conversation-chat",
        ),
        gr.Markdown(_token_wait(context.home), elem_id="token-note"),
        gr.HighlightedText(
            label="As the model reads it",
            color_map=TOKEN_COLOURS,
            show_legend=True,
            show_inline_category=False,
            elem_id="token-view",
        ),
    ]


def wire_tokens(tab: DataTab, context: PageContext, demo: gr.Blocks, model: gr.Dropdown, max_length: gr.Number) -> None:
    """The token view follows the data, the conversation's number, the model and `max_length`."""

    @tells_errors
    def show_tokens(path: str, layout: str, wanted: float | None, name: str, length: float | None) -> list[Any]:
        try:
            loaded = context.data(path, layout)
            tokenizer = context.tokenizer(name)
            conversation = loaded.conversations[_clamp(wanted, loaded) - 1]
            rendered = render_conversation(tokenizer, conversation, int(length or RunSettings().max_length))
        except AppError as error:
            return [f"No tokens to show: {error}", []]
        pieces = [tokenizer.decode([id]) for id in rendered.input_ids]
        trained = [label != IGNORED for label in rendered.labels]
        note = views.token_note(rendered.trained, len(pieces), rendered.trained_lost, rendered.kept)
        return [note, views.token_spans(pieces, trained, rendered.kept)]

    inputs = [tab.data, tab.format, tab.number, model, max_length]
    events = [demo.load, tab.data.change, tab.format.input, tab.number.change, model.change, max_length.change]
    gr.on(events, show_tokens, inputs, tab.token_view, api_visibility="private", trigger_mode="always_last")


def _token_wait(home: Path) -> str:
    if starter_is_ready(home):
        return "Reading the tokens …"
    return "Fetching the starter model for its tokenizer. This happens once and takes about a minute …"


def _source_line(path: str) -> str:
    words = "the bundled customer-service example" if path == EXAMPLE_DATA else "your file"
    return f"`{Path(path).name}`: {words}"


def _facts(loaded: LoadedData) -> str:
    several = sum(conversation.assistant_turns() > 1 for conversation in loaded.conversations)
    return views.data_facts(loaded.rows, len(loaded.conversations), several, loaded.format, len(loaded.rejected))


def _left_out_list(loaded: LoadedData) -> str:
    lines = [f"- row {row.row}: {row.reason}" for row in loaded.rejected[:LEFT_OUT_SHOWN]]
    if len(loaded.rejected) > LEFT_OUT_SHOWN:
        lines.append(f"- and {len(loaded.rejected) - LEFT_OUT_SHOWN} more")
    return "\n".join(lines)


def _chat_of(loaded: LoadedData, wanted: float | None) -> list[Any]:
    return loaded.conversations[_clamp(wanted, loaded) - 1].as_dicts()


def _clamp(wanted: float | None, loaded: LoadedData) -> int:
    return min(max(int(wanted or 1), 1), len(loaded.conversations))


def _keep_upload(file: Path, folder: Path) -> Path:
    """A copy under the home, named by its contents: the page's own copy is cleared away after a day."""
    kept = folder / f"{file_sha256(file)[:8]}-{file.name}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, kept)
    except OSError as error:
        raise DataError(f"{file.name} could not be stored: {error.strerror or error}.") from error
    return kept
