"""The scorecard of the run on the right: written when the run ends, and again whenever you measure."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from sft_app.errors import AppError
from sft_app.evaluation.strength_copy import LEAST, MOST
from sft_app.runs.folder import Run
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


@dataclass(frozen=True)
class Controls:
    """What is measured: how many questions, with which further sides, and at which strength of the adapter."""

    prompts: gr.Number
    more: gr.Dropdown
    measure: gr.Button
    strength: gr.Slider
    copy: gr.Button


def build_scorecard(context: PageContext, right: gr.Dropdown, opened: gr.Tab) -> None:
    """Build the scorecard, which is refreshed when its tab is `opened` or the right side changes."""
    panel = ScorecardPanel(
        card=gr.HTML(views.empty_card(NOT_MEASURED), elem_id="scorecard"), rows=gr.HTML(elem_id="changed-rows")
    )
    _wire(context, panel, _build_controls(context), right, opened)


def _build_controls(context: PageContext) -> Controls:
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
    with gr.Accordion("Try another strength of the adapter", open=False), gr.Row():
        strength = gr.Slider(
            LEAST,
            MOST,
            value=0.5,
            step=0.05,
            label="Share of the trained strength",
            info="A weaker adapter forgets less, and has learned less. This makes a copy of the run with this "
            "strength and measures it; the run itself stays as it is.",
            min_width=280,
            elem_id="copied-strength",
        )
        with gr.Column(min_width=140):
            copy = gr.Button("Copy and measure", size="md", elem_id="copy-strength")
    return Controls(prompts, more, measure, strength, copy)


def _wire(context: PageContext, panel: ScorecardPanel, controls: Controls, right: gr.Dropdown, opened: gr.Tab) -> None:
    outputs = [panel.card, panel.rows]

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
        measured(side, prompts, more, None, progress)
        return scorecard_updates(context, panel, side)

    @allowed("measure", context)
    def copy_and_measure(
        side: str | None,
        prompts: float,
        more: list[str] | None,
        strength: float,
        progress: Any = gr.Progress(),  # noqa: B008
    ) -> Updates:
        copy = measured(side, prompts, more, strength, progress)
        chosen = gr.Dropdown(context.sides.choices(), value=copy.id)
        return {**scorecard_updates(context, panel, copy.id), right: chosen}

    def measured(
        side: str | None, prompts: float, more: list[str] | None, strength: float | None, progress: Any
    ) -> Run:
        refuse_where_lent("Measuring a run")
        report = partial(progress, desc="Measuring all sides")
        return context.sides.score(side, int(prompts or 0), report, more or [], strength)

    gr.on([opened.select, right.change], show, right, outputs, **PRIVATE)
    options: dict[str, Any] = {**MODEL_EVENT, "show_progress": "full", "show_progress_on": panel.card}
    inputs = [right, controls.prompts, controls.more]
    clear_error_after(controls.measure.click(measure_again, inputs, outputs, **options), panel.card)
    copied = controls.copy.click(copy_and_measure, [*inputs, controls.strength], [*outputs, right], **options)
    clear_error_after(copied, panel.card)


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
