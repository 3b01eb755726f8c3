"""Choose the sides that answer prompts or tests next to the two of the comparison, also recorded answers."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from sft_app.data.checkup.finding import count_of
from sft_app.errors import AppError
from sft_app.evaluation.sides.more_sides import PROMPTED, PROMPTED_LABEL
from sft_app.evaluation.sides.recorded import ENDINGS, is_recorded_file, read_recorded
from sft_app.inference.sides import BASE_CHOICE
from sft_app.ui import views
from sft_app.ui.context import PageContext
from sft_app.ui.events import PRIVATE, Updates, error_message
from sft_app.ui.file_fields import build_upload
from sft_app.ui.permissions import allowed

MOST_MORE_SIDES = 6
PROMPTED_CHOICE = (PROMPTED_LABEL, PROMPTED)


def build_more_sides(context: PageContext, panel: str, offers_prompted: bool = True) -> gr.Dropdown:
    """Build the list of sides, and a button that adds a file of recorded answers to it. `panel` begins their ids.

    Without `offers_prompted`, neither the base nor the base with a prompt is offered, as on a scorecard that has both.
    """
    offered = [PROMPTED_CHOICE, BASE_CHOICE] if offers_prompted else []
    kinds = ", or the base with the nearest training examples in front of each prompt" if offers_prompted else ""
    is_offered = not context.hosting.adapter
    with gr.Column(visible=is_offered, elem_classes="ft-file", elem_id=f"{panel}-more-sides-file"):
        more = gr.Dropdown(
            offered,
            value=[],
            label="More sides",
            info=f"Runs or adapters of the same base model{kinds}. For answers recorded elsewhere, upload a file with "
            "the columns prompt and answer.",
            multiselect=True,
            allow_custom_value=True,
            max_choices=MOST_MORE_SIDES,
            elem_id=f"{panel}-more-sides",
        )
        upload = build_upload("recorded answers", ENDINGS, f"{panel}-recorded-upload")
        note = gr.HTML(elem_id=f"{panel}-recorded-note")
    _wire(context, offered, more, upload, note)
    return more


def _wire(
    context: PageContext, offered: list[tuple[str, str]], more: gr.Dropdown, upload: gr.UploadButton, note: gr.HTML
) -> None:
    @allowed("look", context)
    def list_choices(chosen: list[str] | None) -> gr.Dropdown:
        return gr.Dropdown(_choices(context, offered, chosen or []))

    @allowed("upload", context)
    def add_recorded(file: str, chosen: list[str] | None) -> Updates:
        """Add the file to the chosen sides, in place of one of the same name."""
        try:
            kept = context.uploads.take(Path(file))
            recorded = read_recorded(kept)
        except AppError as error:
            return {note: views.problem_card(error_message(error))}
        names = [name for name in chosen or [] if not (is_recorded_file(name) and Path(name).name == kept.name)]
        if len(names) == MOST_MORE_SIDES:
            return {note: views.problem_card(f"At most {MOST_MORE_SIDES} sides can join. Remove one, then try again.")}
        names.append(str(kept))
        said = " ".join([f"{kept.name}: answers to {count_of(len(recorded.answers), 'prompt')}.", *recorded.notes()])
        return {more: gr.Dropdown(_choices(context, offered, names), value=names), note: views.remark(said)}

    more.focus(list_choices, more, more, **{**PRIVATE, "preprocess": False})
    upload.upload(add_recorded, [upload, more], [more, note], **PRIVATE)


def _choices(context: PageContext, offered: list[tuple[str, str]], chosen: list[str]) -> list[tuple[str, str]]:
    """Return (label, name) of the sides that are always offered, of runs, and of files, by their name only."""
    files = [(f"Recorded: {Path(name).name}", name) for name in chosen if is_recorded_file(name)]
    runs = [choice for choice in context.sides.choices() if choice != BASE_CHOICE]
    return [*offered, *runs, *files]
