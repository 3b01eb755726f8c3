"""Compare: one prompt, two answers growing side by side from one loaded model."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from sft_app.settings import EXAMPLE_PROMPT, RunSettings
from sft_app.ui import views
from sft_app.ui.context import PageContext
from sft_app.ui.events import tells_errors
from sft_app.ui.forms import make_field, settings_from_form

SECONDS_BETWEEN_UPDATES = 1 / 18
EXAMPLE_PROMPTS = [
    EXAMPLE_PROMPT,
    "The pot I ordered came broken.",
    "Can I change the delivery address? I ordered an hour ago.",
    "You charged me twice!",
]


@dataclass(frozen=True)
class CompareTab:
    """What the page's wiring needs of this tab."""

    run: gr.Dropdown


def build_compare_tab(context: PageContext) -> CompareTab:
    """Prompt on top, the two panes below it, the evidence under them."""
    defaults = RunSettings()
    run = gr.Dropdown(context.comparable_runs(), label="Fine-tuned run", elem_id="compare-run")
    with gr.Row(equal_height=True):
        prompt = gr.Textbox(EXAMPLE_PROMPT, label="Prompt", lines=2, scale=5, min_width=280, elem_id="prompt")
        with gr.Column(scale=1, min_width=140):
            ask = gr.Button("Compare", variant="primary", size="md", elem_id="ask")
            stop = gr.Button("Stop", size="md", elem_id="stop-answer")
    gr.Examples(EXAMPLE_PROMPTS, prompt, label="Try one of these", api_visibility="private")
    with gr.Accordion("Conditions, the same for both sides", open=False), gr.Row():
        conditions = {
            name: make_field(name, getattr(defaults, name), scale=scale, min_width=140)
            for name, scale in (("system_prompt", 2), ("temperature", 1), ("seed", 1), ("max_new_tokens", 1))
        }
    with gr.Row(equal_height=True):
        with gr.Column(min_width=300):
            base = gr.HTML(views.blank_answer("base"), elem_id="base-answer")
        with gr.Column(min_width=300):
            tuned = gr.HTML(views.blank_answer("tuned"), elem_id="tuned-answer")
    evidence = gr.HTML(elem_id="evidence")

    @tells_errors
    def compare(run_id: str, text: str, *shown: Any) -> Iterator[list[str]]:
        from sft_app.compare.generate import Answer, Sampling
        from sft_app.compare.pair import prompt_messages, stream_pair

        settings = settings_from_form(list(conditions), shown)
        chosen, messages = context.get(run_id), prompt_messages(text, settings.system_prompt)
        waiting = [views.answer_card(side, Answer(), True) for side in ("base", "tuned")]
        yield [*waiting, views.evidence_note("Loading the model …")]
        sampling = Sampling(settings.temperature, settings.seed, settings.max_new_tokens)
        updates = stream_pair(context.pair(chosen), messages, sampling)
        for update in _paced(updates):
            yield [
                views.answer_card("base", update.base, not update.is_complete),
                views.answer_card("tuned", update.tuned, not update.is_complete),
                views.evidence_line(update.evidence),
            ]

    asked = gr.on(
        [ask.click, prompt.submit],
        compare,
        [run, prompt, *conditions.values()],
        [base, tuned, evidence],
        concurrency_id="model",
        concurrency_limit=1,
        show_progress="hidden",
        api_visibility="private",
    )
    stop.click(None, None, None, cancels=[asked], api_visibility="private")
    return CompareTab(run)


def _paced(updates: Iterator[Any]) -> Iterator[Any]:
    """As many as the eye can follow, and the last one always."""
    shown = 0.0
    for update in updates:
        if update.is_complete or time.monotonic() - shown >= SECONDS_BETWEEN_UPDATES:
            shown = time.monotonic()
            yield update
