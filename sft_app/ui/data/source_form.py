"""The source of the examples: the bundled file, an upload, a dataset on the Hub, or a cleaned copy of any of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.blocks import Block

from sft_app.data.sources.data_files import SUFFIXES, data_suffix
from sft_app.data.sources.hub import refuse_if_unsafe
from sft_app.settings import EXAMPLE_DATA, DataSettings, RunSettings, parse_settings
from sft_app.settings.data import clean_source
from sft_app.ui.context import PageContext
from sft_app.ui.data import checkup
from sft_app.ui.data.quick_sources import QuickSources, build_quick_sources, wire_quick_sources
from sft_app.ui.data.writing import WritingPanel, wire_writing
from sft_app.ui.events import PRIVATE, Updates
from sft_app.ui.forms import form_updates, make_field, values_from_form
from sft_app.ui.permissions import allowed, clear_error_after, open_to_all

DETECTED_FIELDS = ("format", "columns", "sheet", "assistant")
"""What is found out about each source from scratch."""
HUB_FIELDS = ("dataset_config", "dataset_split", "dataset_revision", "max_rows")


@dataclass(frozen=True)
class SourceChoice:
    """The components to choose a source."""

    example: gr.Button
    upload: gr.UploadButton
    write: gr.Button
    hub_id: gr.Textbox
    fetch: gr.Button
    quick: QuickSources
    line: gr.Markdown


@dataclass(frozen=True)
class CleanedBox:
    """The components that are visible while the data is a cleaned copy."""

    box: gr.Group
    note: gr.HTML
    download: gr.DownloadButton
    back: gr.Button
    previous: gr.Button

    def outputs(self) -> list[Block]:
        return [self.box, self.note, self.previous]

    def show(self, note: str, copies: int = 0) -> Updates:
        """Show the box with this note, or hide it if the note is empty. `copies` lead from the original to this one."""
        return {
            self.box: gr.Group(visible=bool(note)),
            self.note: note,
            self.previous: gr.Button(visible=copies > 1),
        }


def build_source(fields: dict[str, Any], lists_recent: bool) -> SourceChoice:
    """Build the components, and add the settings that they hold to `fields`."""
    gr.Markdown(
        "### Your examples\nConversations in which the assistant answers the way you want. Upload a file, or drop it "
        "anywhere on this tab."
    )
    with gr.Row():
        example = gr.Button("Bundled example", size="md", min_width=120, elem_id="use-example")
        upload = gr.UploadButton("Upload a file", file_types=list(SUFFIXES), size="md", min_width=120, elem_id="upload")
        write = gr.Button("Write your own", size="md", min_width=120, elem_id="write")
    quick = build_quick_sources(lists_recent)
    with gr.Accordion("From the Hugging Face Hub", open=False, elem_id="hub"):
        hub_id = gr.Textbox(
            label="Dataset",
            info="The id shown on its page, such as owner/name.",
            placeholder="owner/name",
            max_lines=1,
            elem_id="hub-id",
        )
        labels = {
            "dataset_config": "Config",
            "dataset_split": "Split",
            "dataset_revision": "Revision",
            "max_rows": "Rows",
        }
        with gr.Row():
            for name in HUB_FIELDS:
                default = RunSettings.model_fields[name].default
                fields[name] = make_field(name, default, label=labels[name], min_width=140, elem_id=name)
        fetch = gr.Button("Fetch", size="md", elem_id="fetch")
    line = gr.Markdown(source_line(RunSettings()), elem_id="data-source")
    return SourceChoice(example, upload, write, hub_id, fetch, quick, line)


def build_cleaned_box() -> CleanedBox:
    with gr.Group(visible=False) as box:
        note = gr.HTML(elem_id="cleaned")
        with gr.Row():
            download = gr.DownloadButton("Download as JSONL", size="md", visible=False, elem_id="save-copy")
            previous = gr.Button("Use previous copy", size="md", visible=False, elem_id="previous-copy")
            back = gr.Button("Use original", size="md", elem_id="back")
    return CleanedBox(box, note, download, back, previous)


def wire_source(
    context: PageContext,
    source: SourceChoice,
    cleaned: CleanedBox,
    written: WritingPanel,
    fields: dict[str, Any],
    copying: list[Any],
) -> None:
    """Wire the buttons. A new source is detected from scratch: choices for the previous one do not carry over.

    It also cancels a source that is still loading, such as a copy that is being made (`copying`).
    """
    data = fields["data"]
    detect: Updates = {fields[name]: "auto" if name == "format" else "" for name in DETECTED_FIELDS}
    outputs = [data, *detect]

    @allowed("upload", context)
    def use_upload(file: str) -> Updates:
        return {data: str(context.uploads.take(Path(file))), **detect}

    @allowed("fetch", context)
    def fetch(progress: Any = gr.Progress(), *shown: Any) -> Updates:  # noqa: B008
        id = clean_source(shown[0] or "")
        refuse_if_unsafe(id)  # anything else would be looked up among the files of this machine
        settings = parse_settings({**values_from_form(list(HUB_FIELDS), shown[1:]), "data": id}).reading()
        context.data.fetch(settings, lambda share: progress(share, desc="Fetching"))
        return {data: settings.data, **detect}

    @allowed("look", context)
    def use_original(copy: str) -> Updates:
        context.access.check_data(parse_settings({"data": copy}))
        return form_updates(fields, checkup.source_settings(Path(copy)))

    @allowed("look", context)
    def use_previous(copy: str) -> Updates:
        context.access.check_data(parse_settings({"data": copy}))
        settings = checkup.source_settings(Path(copy), steps=1)
        context.access.check_data(parse_settings({"data": settings["data"]}))
        file = checkup.for_download(Path(settings["data"]))
        return {**form_updates(fields, settings), cleaned.download: gr.DownloadButton(value=file)}

    inputs = [source.hub_id, *(fields[name] for name in HUB_FIELDS)]
    slow: dict[str, Any] = {"api_visibility": "private", "cancels": copying}
    fetching = source.fetch.click(fetch, inputs, outputs, show_progress_on=source.line, **slow)
    clear_error_after(fetching, source.line)
    slow["cancels"] = [*copying, fetching]
    uploading = source.upload.upload(use_upload, source.upload, outputs, show_progress_on=source.line, **slow)
    clear_error_after(uploading, source.line)
    loading = [*copying, fetching, uploading]
    loading += wire_quick_sources(context, source.quick, data, detect, source.line, loading)
    quick: dict[str, Any] = {**PRIVATE, "cancels": loading}
    source.example.click(open_to_all(lambda: {data: EXAMPLE_DATA, **detect}), None, outputs, **quick)
    cleaned.back.click(use_original, fields["data"], list(fields.values()), **quick)
    cleaned.previous.click(use_previous, fields["data"], [*fields.values(), cleaned.download], **quick)
    wire_writing(context, written, source.write, data, detect, loading)


def source_line(settings: DataSettings) -> str:
    """Name the source in one line."""
    if settings.data == EXAMPLE_DATA:
        return f"`{Path(settings.data).name}`: the bundled customer service example"
    if data_suffix(Path(settings.data)) in SUFFIXES:
        return f"`{Path(settings.data).name}`: your file"
    return f"`{settings.data}`: from the Hugging Face Hub"
