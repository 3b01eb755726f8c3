"""The scorecard of the run on the right side: made at its end by itself, and anew whenever somebody asks."""

from __future__ import annotations

from typing import Any

import gradio as gr

from sft_app.errors import AppError
from sft_app.settings import RunSettings
from sft_app.ui import views
from sft_app.ui.compare.scorecard_views import changed_rows_view, scorecard_view
from sft_app.ui.context import PageContext
from sft_app.ui.events import MODEL_EVENT, PRIVATE
from sft_app.ui.permissions import allowed
from sft_app.ui.serving.zero_gpu import refuse_where_lent

NOT_MEASURED = (
    "This run has no scorecard yet. Scorecards are written at the end of a run; press “Measure” to create one now."
)


def build_scorecard(context: PageContext, right: gr.Dropdown, opened: gr.Tab) -> None:
    """What the run's scorecard says; read anew when its tab is `opened` or the side changes."""
    card = gr.HTML(views.empty_card(NOT_MEASURED), elem_id="scorecard")
    rows = gr.HTML(elem_id="changed-rows")
    with gr.Row():
        prompts = gr.Number(
            RunSettings().scorecard_prompts,
            label="Held-out questions to answer",
            info="Both models answer this many questions. More take longer but give a clearer result.",
            precision=0,
            minimum=0,
            maximum=1000,
            min_width=280,
            elem_id="score-prompts",
        )
        with gr.Column(min_width=140):
            measure = gr.Button("Measure", size="md", elem_id="measure-scorecard")

    @allowed("look", context)
    def show(side: str | None) -> list[str]:
        return scorecard_values(context, side)

    @allowed("measure", context)
    def measure_again(side: str | None, prompts: float, progress: Any = gr.Progress()) -> list[str]:  # noqa: B008
        refuse_where_lent("Measuring a run")
        context.sides.score(side, int(prompts or 0), lambda share: progress(share, desc="Measuring both sides"))
        return show(side)

    gr.on([opened.select, right.change], show, right, [card, rows], **PRIVATE)
    asking: dict[str, Any] = {**MODEL_EVENT, "show_progress": "full", "show_progress_on": card}
    measure.click(measure_again, [right, prompts], [card, rows], **asking)


def scorecard_values(context: PageContext, side: str | None) -> list[str]:
    """The scorecard and the rows behind it; what is missing is told in their place."""
    try:
        found = context.sides.get_run(side).scorecard()
    except AppError as error:
        return [views.empty_card(str(error)), ""]
    return [scorecard_view(found), changed_rows_view(found)] if found else [views.empty_card(NOT_MEASURED), ""]
