"""The Data tab: the examples, how they are read, the check-up, and which tokens the model is trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.blocks import Block

from sft_app.errors import DataError, NothingUsable, SettingsError, UnclearAssistantError
from sft_app.runtime.home import uploads_dir
from sft_app.settings import DataSettings, RunSettings
from sft_app.ui.context import PageContext
from sft_app.ui.data import checkup, token_view
from sft_app.ui.data.checkup import Checkup
from sft_app.ui.data.editing import Editor, build_editor, warn_before_leaving, wire_editor
from sft_app.ui.data.reading_form import (
    ReadingChoice,
    build_reading,
    reading_updates,
    refused_updates,
    unreadable_updates,
    wire_mapping,
    wire_reading,
)
from sft_app.ui.data.row_view import wire_row_view
from sft_app.ui.data.source_form import (
    HUB_FIELDS,
    CleanedBox,
    SourceChoice,
    build_cleaned_box,
    build_source,
    source_line,
    wire_source,
)
from sft_app.ui.data.token_view import TokenView
from sft_app.ui.data.writing import WritingPanel, build_writing
from sft_app.ui.events import FOLLOWING, NO_UPDATES, QUIETLY_FOLLOWING, Updates, error_message, filled_in, settled
from sft_app.ui.forms import form_updates, settings_from_form
from sft_app.ui.permissions import allowed, clear_error_after
from sft_app.ui.services.checkup import Superseded

# The settings outside this tab that it depends on: what cuts a conversation into tokens, and for the check-up what is
# held out and how often the rest is seen.
TOKEN_FIELDS = ("model", "chat_template", "enable_thinking", "max_length")
CHECKUP_FIELDS = (
    "preset",
    "early_stopping_patience",
    "heldout_fraction",
    "heldout_min",
    "heldout_max",
    "seed",
    "num_train_epochs",
    "max_steps",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "num_processes",
    "trainer",
    "packing",
    "packing_strategy",
    "block_size",
)


@dataclass(frozen=True)
class DataTab:
    """The components that other tabs and the page's wiring need. `fields` are those of `DataSettings`.

    `seen` is the key of the data that the overview shows.
    """

    fields: dict[str, Any]
    to_train: gr.Button
    source: SourceChoice
    reading: ReadingChoice
    cleaned: CleanedBox
    view: TokenView
    checkup: Checkup
    seen: gr.State
    written: WritingPanel
    editor: Editor

    def overview(self) -> list[Block]:
        shown = [self.source.line, *self.reading.outputs(), *self.cleaned.outputs(), self.view.row.card]
        return [*shown, self.seen]

    def changes(self) -> list[Any]:
        """Return the events after which the data must be read again."""
        as_text = ("text_language", "assistant")
        typed = [self.fields[name] for name in (*as_text, "max_rows")]
        chosen = [self.fields[name] for name in self.fields if name not in (*as_text, *HUB_FIELDS)]
        chosen.append(self.reading.answered)
        return [*(field.change for field in chosen), *(field.submit for field in typed), *(f.blur for f in typed)]


def build_data_tab(context: PageContext) -> DataTab:
    """Build the source, layout and check-up on the left, and one conversation and the lengths of all on the right."""
    defaults = RunSettings()
    loaded = context.data.load(defaults.reading())
    fields: dict[str, Any] = {"data": gr.Textbox(defaults.data, visible=False, elem_id="data")}
    written = build_writing()
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=300):
            source = build_source(fields, lists_recent=not context.hosting.is_hosted)
            reading = build_reading(fields, loaded)
            cleaned = build_cleaned_box()
            lengths = gr.HTML(elem_id="lengths", render=False)
            check = checkup.build_checkup(lengths)
            to_train = gr.Button("Next: train on these examples", variant="primary", size="md", elem_id="to-train")
        with gr.Column(scale=3, min_width=300):
            view = token_view.build_token_view(context, loaded)
            lengths.render()  # type: ignore[no-untyped-call]
    editor = build_editor()
    tab = DataTab(fields, to_train, source, reading, cleaned, view, check, gr.State(None), written, editor)
    wire_reading(context, reading, fields)
    return tab


def wire_with_model(tab: DataTab, context: PageContext, demo: gr.Blocks, fields: dict[str, Any]) -> None:
    """Refresh the tab when the data changes, or any of the run's settings (`fields`) that it depends on.

    Each part follows only what it depends on: an event costs the browser time for each of its inputs and outputs.
    """
    read_again = [demo.load, *tab.changes()]
    number = tab.view.number.change
    cut = [fields[name].change for name in TOKEN_FIELDS]
    others = [fields[name].change for name in CHECKUP_FIELDS]
    with_model = {name: fields[name] for name in (*tab.fields, *TOKEN_FIELDS)}
    with_run = {name: fields[name] for name in (*with_model, *CHECKUP_FIELDS)}
    _wire_overview(context, tab, with_run, settled(read_again))
    _wire_conversation(context, tab, settled([*read_again, number]))
    wire_row_view(context, tab.view.row, tab.view.number, tab.fields)
    _wire_tokens(context, tab, with_model, settled([*read_again, number, *cut]))
    _wire_checkup(context, tab, with_run, settled([*read_again, *cut, *others], tab.checkup.findings))


def _wire_overview(context: PageContext, tab: DataTab, fields: dict[str, Any], changed: Any) -> None:
    names = list(fields)

    @allowed("look", context)
    def show(request: gr.Request, seen: Any, shown: list[Any]) -> Updates:
        """Skip the update if the page already shows this data."""
        context.checkup.end(request.session_hash or "", _settings_or_none(names, shown))
        try:
            settings = _reading_of(tab, names, shown)
            key = context.checkup.key(settings)
            if key == seen:
                return NO_UPDATES
            return {**overview_updates(context, tab, settings), tab.seen: key}
        except Exception as error:  # any error: the next change must still update the tab
            return {**refused_updates(tab.reading, error_message(error)), **tab.cleaned.show(""), tab.seen: None}

    filled, form = filled_in(changed.success, fields.values())
    shown = filled.success(show, [tab.seen, form], tab.overview(), **QUIETLY_FOLLOWING)
    wire_mapping(tab.reading, tab.fields, shown)


def _wire_conversation(context: PageContext, tab: DataTab, changed: Any) -> None:
    names, view = list(tab.fields), tab.view

    @allowed("look", context)
    def show_conversation(number: float | None, shown: list[Any]) -> list[Any]:
        try:
            return token_view.chat_at(context.data.load(settings_from_form(names, shown).reading()), number)
        except Exception:  # the overview shows the error
            return []

    filled, form = filled_in(changed.success, tab.fields.values())
    filled.success(show_conversation, [view.number, form], view.chat, **QUIETLY_FOLLOWING)


def _wire_tokens(context: PageContext, tab: DataTab, fields: dict[str, Any], changed: Any) -> None:
    names, view = list(fields), tab.view

    @allowed("look", context)
    def show_tokens(number: float | None, shown: list[Any]) -> Updates:
        try:
            return token_view.token_updates(context, view, settings_from_form(names, shown), number)
        except Exception as error:  # any error: the next change must still update the tab
            return token_view.no_tokens(view, error_message(error))

    filled, form = filled_in(changed.success, fields.values())
    filled.success(show_tokens, [view.number, form], view.outputs(), show_progress_on=view.note, **FOLLOWING)


def _wire_checkup(context: PageContext, tab: DataTab, fields: dict[str, Any], changed: Any) -> None:
    names, check = list(fields), tab.checkup

    @allowed("look", context)
    def examine(request: gr.Request, seen: Any, shown: list[Any], progress: Any = gr.Progress()) -> Updates:  # noqa: B008
        """Skip the update if the page already shows this data."""
        try:
            settings = settings_from_form(names, shown)
            key = context.checkup.key(settings)
            if key == seen:
                return NO_UPDATES
            session = request.session_hash or ""
            inspection = context.checkup.inspect(
                session, settings, lambda share: progress(share, desc="Checking the data")
            )
        except Superseded:
            return NO_UPDATES
        except NothingUsable as error:
            return checkup.repair_offer(check, error, settings)
        except Exception as error:  # any error: the next change must still update the tab
            return checkup.checkup_problem(check, error_message(error))
        return checkup.checkup_updates(check, inspection, settings, key)

    @allowed("clean", context)
    def clean(fixes: list[str], shown: list[Any], progress: Any = gr.Progress()) -> Updates:  # noqa: B008
        file = context.data.open(settings_from_form(names, shown).reading())
        folder = context.uploads.cleaned_folder()
        copy = checkup.make_cleaned_copy(file, fixes, folder, lambda share: progress(share, desc="Copying"))
        download = gr.DownloadButton(value=checkup.for_download(copy), visible=True)
        form = form_updates(tab.fields, {"data": str(copy), "format": "auto", "columns": (), "max_rows": None})
        return {**form, tab.cleaned.download: download}

    filled, form = filled_in(changed.success, fields.values())
    examined = filled.success(
        examine, [check.seen, form], check.outputs(), show_progress_on=check.findings, **FOLLOWING
    )
    checkup.wire_fixes(check, examined)
    copied = [*(tab.fields[name] for name in ("data", "format", "columns", "max_rows")), tab.cleaned.download]
    filled, form = filled_in(check.clean.click, fields.values())
    shown: dict[str, Any] = {"show_progress_on": check.findings, "api_visibility": "private", "preprocess": False}
    cleaning = filled.success(clean, [check.fixes, form], copied, **shown)
    clear_error_after(cleaning, check.findings)
    saving = wire_editor(context, tab.editor, tab.fields, copied, tab.seen.change)
    warn_before_leaving(tab.to_train.click)
    wire_source(context, tab.source, tab.cleaned, tab.written, tab.fields, [cleaning, saving])


def overview_updates(context: PageContext, tab: DataTab, settings: DataSettings) -> Updates:
    """Show the data of a source, or why it cannot be read."""
    line: Updates = {tab.source.line: source_line(settings), tab.view.row.card: ""}
    try:
        loaded = context.data.load(settings)
    except DataError as error:
        file = Path(settings.data)
        is_gone = file.is_relative_to(uploads_dir(context.home)) and not file.is_file()
        problem = f"{file.name} no longer exists. Upload it again." if is_gone else checkup.problem_of(error)
        speakers = error.speakers if isinstance(error, UnclearAssistantError) else None
        reading = unreadable_updates(context, tab.reading, settings, problem, speakers)
        return {**line, **reading, **tab.cleaned.show("")}
    copied = tab.cleaned.show(*checkup.cleaned_note(loaded.file.path))
    return {**line, **reading_updates(tab.reading, loaded, settings), **copied}


def _reading_of(tab: DataTab, names: list[str], shown: Sequence[Any]) -> DataSettings:
    """Return the form's data settings, ignoring its other fields. Raises: SettingsError."""
    values = dict(zip(names, shown, strict=True))
    return settings_from_form(list(tab.fields), tuple(values[name] for name in tab.fields)).reading()


def _settings_or_none(names: list[str], shown: Sequence[Any]) -> RunSettings | None:
    try:
        return settings_from_form(names, shown)
    except SettingsError:
        return None
