"""The card next to Start: what the run will take, and one click to make it fit."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from sft_app.errors import AppError, NoChatTemplate
from sft_app.models.gpu_support import has_usable_gpu
from sft_app.settings import CHATML, RunSettings
from sft_app.ui import views
from sft_app.ui.context import PageContext
from sft_app.ui.events import NO_UPDATES, PRIVATE, QUIETLY_FOLLOWING, Updates, error_message, filled_in, settled
from sft_app.ui.forms import form_updates, settings_from_form
from sft_app.ui.permissions import allowed, clear_error_after, open_to_all

USE_LABEL = "Use these settings"
PREFLIGHT_PENDING = "The memory, time and disk space that the run needs appear here once the data has been read."


@dataclass(frozen=True)
class PreflightPanel:
    """The card and its buttons. `changes` are the settings that make the run fit."""

    card: gr.HTML
    measure: gr.Button
    use: gr.Button
    changes: gr.State

    def outputs(self) -> list[Any]:
        return [self.card, self.use, self.changes]


def build_preflight_panel() -> PreflightPanel:
    """Build the card, and below it the buttons."""
    card = gr.HTML(views.empty_card(PREFLIGHT_PENDING), elem_id="preflight")
    with gr.Row():
        use = gr.Button(USE_LABEL, variant="primary", size="sm", visible=False, elem_id="use-suggestion")
        measure = gr.Button("Measure", size="sm", elem_id="measure")
    return PreflightPanel(card, measure, use, gr.State({}))


def preflight_updates(context: PageContext, panel: PreflightPanel, settings: RunSettings) -> Updates:
    """Show what the run will take, or an error, in the card."""
    from sft_app.ui.train.preflight_views import preflight_card  # imports numpy and the training package

    try:
        found, suggestion = context.preflight.estimate(settings)
        is_guess = context.data.load(settings.reading()).file.certainty == "guess"
    except NoChatTemplate as error:
        return {**_problem_updates(panel, str(error)), **_offer(panel, "Use ChatML", {"chat_template": CHATML})}
    except AppError as error:
        return _problem_updates(panel, str(error))
    card = preflight_card(found, suggestion, is_guess)
    return {panel.card: card, **_offer(panel, USE_LABEL, suggestion.changes if suggestion else {})}


def _problem_updates(panel: PreflightPanel, problem: str) -> Updates:
    return {panel.card: views.problem_card(problem), **_offer(panel, USE_LABEL, {})}


def _offer(panel: PreflightPanel, label: str, changes: dict[str, Any]) -> Updates:
    """Show the button that makes these changes to the form, or hide it if there are none."""
    return {panel.use: gr.Button(label, visible=bool(changes)), panel.changes: changes}


def wire_preflight(
    context: PageContext, panel: PreflightPanel, fields: dict[str, Any], also: Iterable[Any], opened: Any
) -> None:
    """Update the card when the form changes, and on a GPU measure the run when the tab is `opened`.

    `also` are other events that change the data.
    """
    names, inputs = list(fields), list(fields.values())

    @allowed("look", context)
    def show(shown: list[Any]) -> Updates:
        try:
            return preflight_updates(context, panel, settings_from_form(names, shown))
        except Exception as error:  # any error: the next change must still update the card
            return _problem_updates(panel, error_message(error))

    @allowed("train", context)
    def measure(shown: list[Any], progress: Any = gr.Progress()) -> Updates:  # noqa: B008
        settings = settings_from_form(names, shown)
        context.models.release()
        context.preflight.measure(
            settings, lambda share: progress(share, desc="Training two steps on the longest conversations")
        )
        return preflight_updates(context, panel, settings)

    @allowed("look", context)
    def measure_on_gpu(shown: list[Any], progress: Any = gr.Progress()) -> Updates:  # noqa: B008
        if (
            not has_usable_gpu()
            or context.runs.is_any_active()
            or context.preflight.is_measured(settings_from_form(names, shown))
        ):
            return NO_UPDATES
        updates: Updates = measure(shown, progress)
        return updates

    @open_to_all
    def apply_changes(changes: dict[str, Any]) -> Updates:
        return form_updates(fields, changes) or NO_UPDATES

    measuring: dict[str, Any] = {
        "outputs": panel.outputs(),
        "show_progress_on": panel.card,
        "trigger_mode": "once",
        "api_visibility": "private",
    }
    changed = settled([*(field.change for field in inputs), *also])
    filled, form = filled_in(changed.success, inputs)
    filled.success(show, form, panel.outputs(), **QUIETLY_FOLLOWING)
    for listen, handler in ((panel.measure.click, measure), (opened, measure_on_gpu)):
        filled, form = filled_in(listen, inputs)
        clear_error_after(filled.success(handler, form, **measuring), panel.card)
    panel.use.click(apply_changes, panel.changes, inputs, **PRIVATE)
