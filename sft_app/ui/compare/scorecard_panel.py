"""The scorecard of the run on the right: written when the run ends, and again whenever you measure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from sft_app.errors import AppError
from sft_app.settings import RunSettings
from sft_app.ui import views
from sft_app.ui.compare.further_sides import build_more_sides
from sft_app.ui.compare.scorecard_views import changed_rows_view, scorecard_view
from sft_app.ui.context import PageContext
from sft_app.ui.events import MODEL_EVENT, PRIVATE, Updates
from sft_app.ui.permissions import allowed, clear_error_after
from sft_app.ui.serving.zero_gpu import refuse_where_lent

NOT_MEASURED = (
    "This run has no scorecard yet. Scorecards are written at the end of a run; press “Measure” to create one now."
)


@dataclass(frozen=True)
class ScorecardPanel:
    """The scorecard, and the rows behind it."""

    card: gr.HTML
    rows: gr.HTML


def build_scorecard(context: PageContext, right: gr.Dropdown, opened: gr.Tab) -> None:
    """Build the scorecard, which is refreshed when its tab is `opened` or the right side changes."""
    panel = ScorecardPanel(
        card=gr.HTML(views.empty_card(NOT_MEASURED), elem_id="scorecard"), rows=gr.HTML(elem_id="changed-rows")
    )
    outputs = [panel.card, panel.rows]
    with gr.Row():
        prompts = gr.Number(
            RunSettings().scorecard_prompts,
            label="Held-out questions to answer",
            info="Both models answer this many questions. More questions take longer but give a clearer result.",
            precision=0,
            minimum=0,
            maximum=1000,
            min_width=280,
            elem_id="score-prompts",
        )
        more = build_more_sides(context, "score", offers_prompted=False)
        with gr.Column(min_width=140):
            measure = gr.Button("Measure", size="md", elem_id="measure-scorecard")

    @allowed("look", context)
    def show(side: str | None) -> Updates:
        return scorecard_updates(context, panel, side)

    @allowed("measure", context)
    def measure_again(
        side: str | None,
        prompts: float,
        more: list[str] | None,
        progress: Any = gr.Progress(),  # noqa: B008
    ) -> Updates:
        refuse_where_lent("Measuring a run")
        context.sides.score(
            side, int(prompts or 0), lambda share: progress(share, desc="Measuring all sides"), more or []
        )
        return scorecard_updates(context, panel, side)

    gr.on([opened.select, right.change], show, right, outputs, **PRIVATE)
    options: dict[str, Any] = {**MODEL_EVENT, "show_progress": "full", "show_progress_on": panel.card}
    clear_error_after(measure.click(measure_again, [right, prompts, more], outputs, **options), panel.card)


def scorecard_updates(context: PageContext, panel: ScorecardPanel, side: str | None) -> Updates:
    """Show the scorecard and the rows behind it, or why there is none."""
    try:
        run = context.sides.get_run(side)
        found = run.scorecard()
    except AppError as error:
        return {panel.card: views.empty_card(str(error)), panel.rows: ""}
    if not found:
        return {panel.card: views.empty_card(NOT_MEASURED), panel.rows: ""}
    return {panel.card: scorecard_view(found, run.strength()), panel.rows: changed_rows_view(found)}
