"""Data: what the examples are, how they are read, what is wrong with them, and which tokens will be trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from sft_app.errors import AppError, DataError
from sft_app.settings import DataSettings, RunSettings
from sft_app.ui import checkup, token_view
from sft_app.ui.checkup import Checkup
from sft_app.ui.context import PageContext, Superseded
from sft_app.ui.events import PRIVATE, tells_errors
from sft_app.ui.forms import settings_from_form
from sft_app.ui.reading_form import ReadingChoice, build_reading, reading_values, unreadable_values, wire_reading
from sft_app.ui.source_form import (
    HUB_FIELDS,
    CleanedBox,
    SourceChoice,
    build_cleaned_box,
    build_source,
    source_line,
    wire_source,
)
from sft_app.ui.token_view import TokenView

CHECKED_TOO = ("heldout_fraction", "heldout_min", "heldout_max", "seed", "num_train_epochs", "max_steps")
"""Settings that the check-up depends on and the tokens do not."""


@dataclass(frozen=True)
class DataTab:
    """What the other tabs and the page's wiring need of this one. `fields` are those of `DataSettings`."""

    fields: dict[str, Any]
    to_train: gr.Button
    source: SourceChoice
    reading: ReadingChoice
    cleaned: CleanedBox
    view: TokenView
    checkup: Checkup

    def overview(self) -> list[Any]:
        cleaned = [self.cleaned.box, self.cleaned.note]
        return [self.source.line, *self.reading.outputs(), *cleaned, self.view.number, self.view.chat]

    def changes(self) -> list[Any]:
        """The events after which the data has to be read anew."""
        typed = [self.fields[name] for name in ("text_language", "max_rows")]
        chosen = [self.fields[name] for name in self.fields if name not in ("text_language", *HUB_FIELDS)]
        return [*(field.change for field in chosen), *(field.submit for field in typed), *(f.blur for f in typed)]


def build_data_tab(context: PageContext) -> DataTab:
    """Source, reading and check-up on the left, one conversation and all their lengths on the right."""
    defaults = RunSettings()
    loaded = context.data(defaults.reading())
    fields: dict[str, Any] = {"data": gr.State(defaults.data)}
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=300):
            source = build_source(fields)
            reading = build_reading(fields, loaded)
            cleaned = build_cleaned_box()
            lengths = gr.HTML(elem_id="lengths", render=False)
            check = checkup.build_checkup(lengths)
            to_train = gr.Button("Next: train on these examples", variant="primary", size="md", elem_id="to-train")
        with gr.Column(scale=3, min_width=300):
            view = token_view.build_token_view(context, loaded)
            lengths.render()
    tab = DataTab(fields, to_train, source, reading, cleaned, view, check)
    wire_source(context, source, cleaned, fields)
    wire_reading(context, reading, fields)
    _wire_overview(context, tab)
    return tab


def wire_with_model(tab: DataTab, context: PageContext, demo: gr.Blocks, fields: dict[str, Any]) -> None:
    """Tokens and check-up follow the data and those of the run's settings (`fields`) that they depend on."""
    changes = [demo.load, *tab.changes(), fields["model"].change, fields["max_length"].change]
    _wire_tokens(tab, context, fields, changes)
    _wire_checkup(tab, context, fields, changes)


def _wire_tokens(tab: DataTab, context: PageContext, fields: dict[str, Any], changes: list[Any]) -> None:
    names = list(fields)

    @tells_errors
    def show_tokens(wanted: float | None, *shown: Any) -> list[Any]:
        return token_view.token_values(context, settings_from_form(names, shown), wanted)

    gr.on(
        [*changes, tab.view.number.change],
        show_tokens,
        [tab.view.number, *fields.values()],
        tab.view.outputs(),
        trigger_mode="always_last",
        api_visibility="private",
    )


def _wire_checkup(tab: DataTab, context: PageContext, fields: dict[str, Any], changes: list[Any]) -> None:
    names, inputs, check = list(fields), list(fields.values()), tab.checkup

    @tells_errors
    def examine(request: gr.Request, progress: Any = gr.Progress(), *shown: Any) -> list[Any]:  # noqa: B008
        """What is shown already stays."""
        skipped = [gr.skip()] * len(check.outputs())
        try:
            settings = settings_from_form(names, shown[1:])
            key = context.inspection_key(settings)
            if key == shown[0]:
                return skipped
            session = request.session_hash or ""
            inspection = context.inspect(session, settings, lambda share: progress(share, desc="Checking the data"))
        except Superseded:
            return skipped
        except AppError as error:
            return checkup.checkup_problem(str(error))
        return checkup.checkup_values(inspection, settings, key)

    @tells_errors
    def clean(progress: Any = gr.Progress(), *shown: Any) -> list[Any]:  # noqa: B008
        context.access.refuse_unless_trusted("make copies of data")
        file = context.data(settings_from_form(names, shown[1:]).reading()).file
        folder = context.access.cleaned_folder()
        copy = checkup.make_cleaned_copy(file, shown[0], folder, lambda share: progress(share, desc="Copying"))
        download = gr.DownloadButton(value=checkup.for_download(copy), visible=True)
        return [str(copy), "auto", "", "", download]

    gr.on(
        [*changes, *(fields[name].change for name in CHECKED_TOO)],
        examine,
        [check.seen, *inputs],
        check.outputs(),
        show_progress_on=check.findings,
        trigger_mode="multiple",  # a new one ends the one at work
        api_visibility="private",
    )
    # Not chained to it: of several at once, only the first to end would surely be followed.
    check.found.change(checkup.offer_fixes, [check.found, check.offered, check.fixes], check.offers(), **PRIVATE)
    copied = [*(tab.fields[name] for name in ("data", "format", "columns", "max_rows")), tab.cleaned.download]
    check.clean.click(clean, [check.fixes, *inputs], copied, api_visibility="private")


def overview_values(context: PageContext, settings: DataSettings) -> list[Any]:
    """What the overview shows of a source; one that cannot be read is told in its place."""
    try:
        loaded = context.data(settings)
    except DataError as error:
        reading = unreadable_values(context, settings, str(error))
        return [source_line(settings), *reading, gr.Group(visible=False), "", 1, []]
    note = checkup.cleaned_note(loaded.file.path)
    return [
        source_line(settings),
        *reading_values(loaded),
        gr.Group(visible=bool(note)),
        note,
        gr.Number(value=1, maximum=len(loaded.examples)),
        token_view.chat_at(loaded, 1),
    ]


def _wire_overview(context: PageContext, tab: DataTab) -> None:
    names, inputs = list(tab.fields), list(tab.fields.values())

    @tells_errors
    def show(*shown: Any) -> list[Any]:
        return overview_values(context, settings_from_form(names, shown).reading())

    @tells_errors
    def turn_to(wanted: float | None, *shown: Any) -> list[Any]:
        return token_view.chat_at(context.data(settings_from_form(names, shown).reading()), wanted)

    gr.on(tab.changes(), show, inputs, tab.overview(), trigger_mode="always_last", **PRIVATE)
    tab.view.number.change(turn_to, [tab.view.number, *inputs], tab.view.chat, **PRIVATE)
