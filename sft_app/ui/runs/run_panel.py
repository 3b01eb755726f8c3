"""What one run's folder tells, as the right half of the Train tab: state, curves, and the answers over time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from sft_app import curves
from sft_app.runs.directory import queued_runs
from sft_app.runs.folder import Run
from sft_app.runs.records import RESUMABLE, RunStatus
from sft_app.storage.copies import copy_trouble
from sft_app.ui import views
from sft_app.ui.context import PageContext
from sft_app.ui.events import NO_UPDATES, UNCHECKED, Updates
from sft_app.ui.permissions import allowed
from sft_app.ui.run_files import files_stamp

# A look at the run costs the browser a fifth of a second, which training on the same two cores would have.
QUICK_SECONDS, CALM_SECONDS = 1.5, 5.0
QUICK_UNTIL_SECONDS = 60.0


@dataclass(frozen=True)
class RunPanel:
    """What shows one run.

    `position` is a slider over the times at which the watch prompts were answered; `seen` is what is shown already, and
    `timer` says when to look again.
    """

    card: gr.HTML
    curves: gr.HTML
    position: gr.Slider
    answers: gr.HTML
    stop: gr.Button
    resume: gr.Button
    open_compare: gr.Button
    seen: gr.State
    timer: gr.Timer
    cancel: gr.Button

    def outputs(self) -> list[Any]:
        return [
            self.card,
            self.curves,
            self.position,
            self.answers,
            self.stop,
            self.resume,
            self.open_compare,
            self.seen,
            self.timer,
            self.cancel,
        ]


@dataclass(frozen=True)
class Seen:
    """What a page shows of a run: the state of its files, and how often the watch prompts had been answered."""

    stamp: list[Any]
    times: int
    pace: float

    def has(self, stamp: list[Any], file: int) -> bool:
        """Whether this file of this run (its index in the stamp) is as it was."""
        return (self.stamp[0], self.stamp[file]) == (stamp[0], stamp[file])


def build_run_panel(context: PageContext, stop: gr.Button, cancel: gr.Button, resume: gr.Button) -> RunPanel:
    """The parts in the order in which they are read; the three buttons stand elsewhere."""
    return RunPanel(
        card=gr.HTML(_no_run(context), elem_id="run-status"),
        curves=gr.HTML(elem_id="curves"),
        open_compare=gr.Button(
            "Compare base and fine-tuned", variant="primary", size="md", visible=False, elem_id="open-compare"
        ),
        position=gr.Slider(
            0,
            1,
            value=0,
            step=1,
            label="Answers to the watch prompts",
            info="Slide from before training to the latest step. To use other prompts: All settings, "
            "Answers, watch prompts.",
            buttons=[],
            visible=False,
            elem_id="watch-position",
        ),
        answers=gr.HTML(elem_id="watch-answers"),
        stop=stop,
        resume=resume,
        seen=gr.State(None),
        timer=gr.Timer(QUICK_SECONDS),
        cancel=cancel,
    )


def wire_run_panel(context: PageContext, panel: RunPanel, watched: gr.Textbox) -> dict[str, Any]:
    """Makes the slider move the answers; returns the event that brings the panel up to date."""

    @allowed("look", context)
    def watch(run_id: str | None, position: int, seen: Seen | None) -> Updates:
        return panel_updates(context, panel, run_id, position, seen) or NO_UPDATES

    @allowed("look", context)
    def show_answers(run_id: str | None, position: int) -> Any:
        run = context.runs.find(run_id)
        return views.watch_cards(views.timeline(context.runs.files.snapshots(run)), position) if run else gr.skip()

    panel.position.input(
        show_answers, [watched, panel.position], panel.answers, **UNCHECKED, trigger_mode="always_last"
    )
    return {"fn": watch, "inputs": [watched, panel.position, panel.seen], "outputs": panel.outputs(), **UNCHECKED}


def panel_updates(
    context: PageContext, panel: RunPanel, run_id: str | None, position: int = 0, seen: Seen | None = None
) -> Updates:
    """Show a run; parts that have not changed since `seen` are left out, so that nothing flickers.

    `position` is where the slider stands: at its end it follows the newest answers, elsewhere it stays.
    """
    run = context.runs.find(run_id)
    if run is None:
        return _without_run(context, panel)
    stamp, status = files_stamp(run), run.status()
    if seen and seen.stamp == stamp and status.has_ended():
        return {}
    metrics, times = context.runs.files.metrics(run), views.timeline(context.runs.files.snapshots(run))
    follows = seen is None or seen.stamp[0] != run.id or position >= seen.times - 1
    same_curves, same_answers = (seen is not None and seen.has(stamp, file) for file in (1, 2))
    is_working, is_stopping, pace = not status.has_ended(), run.stop_is_requested(), _pace(status)
    updates: Updates = {
        panel.card: views.status_card(context.runs.files.summary(run), _explained(context, run, status), metrics),
        panel.stop: gr.Button(interactive=is_working and not is_stopping),
        panel.cancel: gr.Button(interactive=is_working and not run.cancel_is_requested()),
        panel.resume: gr.Button(visible=status.state in RESUMABLE),
        panel.open_compare: gr.Button(visible=run.has_adapter() and not is_working),
        panel.seen: Seen(stamp, len(times), pace),
    }
    if not same_curves:
        updates[panel.curves] = curves.run_curves(metrics)
    if not same_answers:
        updates[panel.position] = _slider(len(times) - 1, follows)
        updates[panel.answers] = views.watch_cards(times, len(times) - 1 if follows else position)
    if seen is None or seen.pace != pace:
        updates[panel.timer] = gr.Timer(pace)
    return updates


def _without_run(context: PageContext, panel: RunPanel) -> Updates:
    return {
        panel.card: _no_run(context),
        panel.curves: "",
        panel.position: gr.Slider(visible=False),
        panel.answers: "",
        panel.stop: gr.Button(interactive=False),
        panel.cancel: gr.Button(interactive=False),
        panel.resume: gr.Button(visible=False),
        panel.open_compare: gr.Button(visible=False),
        panel.seen: None,
    }


def _pace(status: RunStatus) -> float:
    """Seconds until the next look: soon while a run starts, when every step is news."""
    is_starting = not status.has_ended() and status.state != "queued" and status.elapsed_seconds() < QUICK_UNTIL_SECONDS
    return QUICK_SECONDS if is_starting else CALM_SECONDS


def _explained(context: PageContext, run: Run, status: RunStatus) -> RunStatus:
    """The status with what a person wants to know while nothing seems to happen, or is not copied as it should be."""
    trouble = copy_trouble(run)
    if trouble:
        told = f"This run is not being copied to storage at the moment; the app keeps trying: {trouble}"
        status = status.model_copy(update={"hint": f"{status.hint} {told}".strip()})
    if status.has_ended():
        return status
    if run.cancel_is_requested():
        return status.model_copy(update={"message": "Cancelling; nothing will be kept."})
    if run.stop_is_requested():
        told = (
            "the adapter so far will be saved"
            if status.step
            else "there is nothing to save before the first step is done"
        )
        return status.model_copy(update={"message": f"Stopping; {told}."})
    waiting = [queued.id for queued in queued_runs(context.home)] if status.state == "queued" else []
    if run.id not in waiting:
        return status
    message = (
        f"Place {waiting.index(run.id) + 1} of {len(waiting)} in the queue. You can change the order on the Runs tab."
    )
    return status.model_copy(update={"message": message})


def _slider(last: int, follows: bool) -> gr.Slider:
    moved: dict[str, Any] = {"value": max(last, 0)} if follows else {}
    return gr.Slider(maximum=max(last, 1), visible=last > 0, **moved)


def _no_run(context: PageContext) -> str:
    if not context.hosting.allows_training:
        return views.empty_card("There is no run here.")
    return views.empty_card(
        "No run yet. Press Start: with the starter model and the Quick preset, a run takes minutes."
    )
