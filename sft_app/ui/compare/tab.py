"""The Compare tab: the two sides, and a tab for each way to compare them."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from sft_app.inference.sides import BASE_CHOICE, EXAMPLE_CHOICE
from sft_app.settings import EXAMPLE_ADAPTER
from sft_app.ui.compare.blind_test import build_blind_test
from sft_app.ui.compare.many_prompts import build_many_prompts
from sft_app.ui.compare.one_prompt import build_one_prompt
from sft_app.ui.compare.report_panel import build_report
from sft_app.ui.compare.scorecard_panel import build_scorecard
from sft_app.ui.compare.tests_panel import build_tests
from sft_app.ui.context import PageContext
from sft_app.ui.events import Updates

SIDE_IDS = ("compare-left", "compare-right")
"""The element ids of the two dropdowns."""


@dataclass(frozen=True)
class CompareTab:
    """The components that the page's wiring needs."""

    left: gr.Dropdown
    right: gr.Dropdown


def build_compare_tab(context: PageContext) -> CompareTab:
    """Build the two dropdowns, and below them a tab for each way to compare the sides."""
    with gr.Row():
        left, right = _make_side(context, "Left", SIDE_IDS[0]), _make_side(context, "Right", SIDE_IDS[1])
    with gr.Tabs(elem_id="compare-ways"):
        with gr.Tab("One prompt"):
            build_one_prompt(context, left, right)
        with gr.Tab("Scorecard") as scorecard:
            build_scorecard(context, right, scorecard)
        with gr.Tab("Many prompts"):
            build_many_prompts(context, left, right)
        with gr.Tab("Tests") as tests:
            build_tests(context, left, right, tests)
        with gr.Tab("Blind test") as blind_test:
            build_blind_test(context, right, blind_test)
        with gr.Tab("Report") as report:
            build_report(context, right, report)
    return CompareTab(left, right)


def side_updates(
    context: PageContext, tab: CompareTab, left: str | None, right: str | None, run_id: str | None = None
) -> Updates:
    """Update both dropdowns. Keep what is selected if it still exists, else select the base model and the newest run.

    `run_id` is the run to select on the right. The bundled example is selected while there is no run.
    """
    if only := context.hosting.adapter:
        choices = [BASE_CHOICE, (only, only)]
        left_side = gr.Dropdown(choices, value=left or BASE_CHOICE[1])
        return {tab.left: left_side, tab.right: gr.Dropdown(choices, value=right or only)}
    choices = context.sides.choices()
    names = [name for _, name in choices]
    first = left or BASE_CHOICE[1]
    is_chosen = right != EXAMPLE_ADAPTER and (right in names or "/" in (right or ""))
    second = run_id or (right if is_chosen else context.sides.default_right())
    return {tab.left: gr.Dropdown(choices, value=first), tab.right: gr.Dropdown(choices, value=second)}


def _make_side(context: PageContext, label: str, name: str) -> gr.Dropdown:
    info = "The base model, a run or a checkpoint. Or type an adapter's folder or its name on the Hub."
    if context.hosting.is_hosted:
        info = "The base model, one of your runs, or an adapter's name on the Hub."
    only = context.hosting.adapter
    other = (only, only) if only else EXAMPLE_CHOICE
    return gr.Dropdown(
        [BASE_CHOICE, other],
        # The page chooses the right side as it opens; until then, the newest run is meant.
        value=BASE_CHOICE[1] if label == "Left" else only,
        label=label,
        info=None if only else info,
        allow_custom_value=not only,
        min_width=280,
        elem_id=name,
    )
