"""Cancel the run that is shown, after a question that says what will be lost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from sft_app.runs.checkpoints import complete_checkpoints
from sft_app.runs.folder import Run
from sft_app.training.launch import cancel_run, running_status
from sft_app.ui.context import PageContext
from sft_app.ui.events import PRIVATE, Updates
from sft_app.ui.permissions import allowed, open_to_all


@dataclass(frozen=True)
class Cancellation:
    """The button that opens the question, and the question with its two answers."""

    button: gr.Button
    group: gr.Group
    question: gr.Markdown
    confirm: gr.Button
    keep: gr.Button


def build_cancellation(button: gr.Button) -> Cancellation:
    """Build the question. `button`, which opens it, is built elsewhere."""
    with gr.Group(visible=False) as group:
        question = gr.Markdown(container=True, elem_id="cancellation")
        with gr.Row():
            confirm = gr.Button("Cancel and discard", variant="stop", elem_id="really-cancel")
            keep = gr.Button("Continue training")
    return Cancellation(button, group, question, confirm, keep)


def wire_cancellation(
    context: PageContext, cancellation: Cancellation, watched: gr.Textbox, watching: dict[str, Any]
) -> None:
    """Wire the button and the question. `watching` is the event that refreshes the run panel."""
    group, hide_group = cancellation.group, open_to_all(lambda: gr.Group(visible=False))

    @allowed("look", context)
    def ask(run_id: str | None) -> Updates:
        return {group: gr.Group(visible=True), cancellation.question: cancel_question(context.runs.get(run_id))}

    @allowed("stop", context)
    def cancel_watched(run_id: str | None) -> gr.Group:
        run = context.runs.get(run_id)
        cancel_run(run)
        return gr.Group(visible=False)

    cancellation.button.click(ask, watched, [group, cancellation.question], **PRIVATE)
    gr.on([cancellation.keep.click, watched.change], hide_group, None, group, **PRIVATE)
    cancellation.confirm.click(cancel_watched, watched, group, **PRIVATE).success(**watching)


def cancel_question(run: Run) -> str:
    """Return the question, with what will be lost. Raises: RunError if the run has ended."""
    status = running_status(run)
    steps = f"what it learned in {status.step:,} {'step' if status.step == 1 else 'steps'}"
    lost = [steps] if status.step else []
    if count := len(complete_checkpoints(run.checkpoints_dir)):
        lost.append("its checkpoint" if count == 1 else f"its {count} checkpoints")
    if run.has_adapter():
        lost.append("the adapter saved earlier")
    if not lost:
        return f"Cancel **{run.id}**? Nothing has been learned yet."
    losses = " and ".join(filter(None, [", ".join(lost[:-1]), lost[-1]]))
    return f"Cancel **{run.id}**? You will lose {losses}. To save the adapter, use Stop and keep instead."
