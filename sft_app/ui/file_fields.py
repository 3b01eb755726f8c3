"""A setting that names a file: a box for its path or name, a button that uploads one, and a line about its contents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from sft_app.settings import RunSettings
from sft_app.ui import views
from sft_app.ui.context import PageContext
from sft_app.ui.events import QUIETLY_FOLLOWING, TYPED_MILLISECONDS, Updates, error_message, filled_in, settled
from sft_app.ui.forms import label_of, make_field, settings_from_form
from sft_app.ui.permissions import allowed, clear_error_after
from sft_app.ui.services.named_files import FILE_SETTINGS, describe_named_file

OWN_LAYOUT = ("data", "format", "columns", "max_rows", "sheet")
"""The settings of the training data that do not apply to other files."""
_OF_DATA = "path, or the id of a dataset on the Hub"
PLACEHOLDERS = {
    "heldout_data": _OF_DATA,
    "validation_data": _OF_DATA,
    "tests": "path, or none",
    "general_questions": "path",
}


@dataclass(frozen=True)
class FileField:
    """The components of one setting; `path` holds its value."""

    path: gr.Textbox
    upload: gr.UploadButton
    note: gr.HTML


def build_file_field(name: str, value: str) -> FileField:
    with gr.Column(min_width=220, elem_classes="ft-file", elem_id=f"{name}-file"):
        path = make_field(name, value, placeholder=PLACEHOLDERS[name], elem_id=name)
        upload = build_upload(label_of(name), FILE_SETTINGS[name], f"{name}-upload")
        return FileField(path, upload, gr.HTML(elem_id=f"{name}-note"))


def build_upload(what: str, endings: Sequence[str], elem_id: str, **kwargs: Any) -> gr.UploadButton:
    """Build a button that uploads a file with one of these endings. `kwargs` go to the component."""
    return gr.UploadButton(f"Upload {what}", file_types=list(endings), size="sm", elem_id=elem_id, **kwargs)


def wire_file_fields(context: PageContext, files: Mapping[str, FileField], data_fields: Mapping[str, Any]) -> None:
    """Let each upload fill its box, and show what is in the files when one is named or `data_fields` change."""
    reading = {name: field for name, field in data_fields.items() if name not in OWN_LAYOUT}
    names = [*reading, *files]
    state = gr.State({})

    @allowed("look", context)
    def describe(described: dict[str, Any], shown: list[Any]) -> Updates:
        """Describe the files that are not the `described` ones."""
        values, seen = dict(zip(names, shown, strict=True)), {}
        updates: Updates = {}
        for name, field in files.items():
            seen[name] = [values[other] for other in (*reading, name)]
            if seen[name] != described.get(name):
                updates[field.note] = _contents(context, name, [*reading, name], seen[name])
        return {**updates, state: seen}

    inputs = [*reading.values(), *(field.path for field in files.values())]
    changed = settled([field.change for field in inputs], quiet_milliseconds=TYPED_MILLISECONDS)
    filled, form = filled_in(changed.success, inputs)
    notes = [field.note for field in files.values()]
    filled.success(describe, [state, form], [*notes, state], **QUIETLY_FOLLOWING)
    for field in files.values():
        _wire_upload(context, field)


def _wire_upload(context: PageContext, field: FileField) -> None:
    @allowed("upload", context)
    def upload_file(file: str) -> str:
        return str(context.uploads.take(Path(file)))

    uploading: dict[str, Any] = {"api_visibility": "private", "show_progress_on": field.path}
    clear_error_after(field.upload.upload(upload_file, field.upload, field.path, **uploading), field.path)


def _contents(context: PageContext, name: str, names: list[str], shown: Sequence[Any]) -> str:
    """Show what is in the file that this setting names, or what is wrong with it."""
    try:
        settings: RunSettings = settings_from_form(names, shown)
        said = describe_named_file(name, settings, context.access, context.home)
    except Exception as error:  # any error: the next change must still be described
        return views.problem_card(error_message(error))
    return views.remark(said) if said else ""
