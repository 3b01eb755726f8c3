"""The right half of the Train tab: one run's state, curves, and answers over time."""

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

# Each refresh costs the browser 0.2 s of CPU time, which training on the same cores could use.
QUICK_SECONDS, SLOW_SECONDS = 1.5, 5.0
QUICK_UNTIL_SECONDS = 60.0


@dataclass(frozen=True)
class RunPanel:
    """The components that show one run.

    `position` is a slider over the steps at which the watch prompts were answered. `seen` is what the page already
    shows, and `timer` triggers the next refresh.
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
    """What the page shows of a run: the state of its files, and how often the watch prompts have been answered."""

    stamp: list[Any]
    times: int
    pace: float

    def has(self, stamp: list[Any], file: int) -> bool:
        """Return whether this file of this run (its index in the stamp) is unchanged."""
        return (self.stamp[0], self.stamp[file]) == (stamp[0], stamp[file])


def build_run_panel(context: PageContext, stop: gr.Button, cancel: gr.Button, resume: gr.Button) -> RunPanel:
    """Build the panel. Its three buttons are built elsewhere."""
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
            info="Move the slider from before training to the latest step. To use other prompts, change the watch "
            "prompts under All settings.",
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
    """Wire the slider to the answers, and return the event that refreshes the panel."""

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
    """Show a run. Parts that have not changed since `seen` are left out, so that nothing flickers.

    `position` is the slider's value. At its end the slider follows the newest answers; elsewhere it does not move.
    """
    run = context.runs.find(run_id)
    if run is None:
        return _without_run(context, panel)
    stamp, status = files_stamp(run), run.status()
    if seen and seen.stamp == stamp and status.has_ended():
        return {}
    metrics, times = context.runs.files.metrics(run), views.timeline(context.runs.files.snapshots(run))
    follows_newest = seen is None or seen.stamp[0] != run.id or position >= seen.times - 1
    same_curves, same_answers = (seen is not None and seen.has(stamp, file) for file in (1, 2))
    is_working, is_stopping, pace = not status.has_ended(), run.stop_is_requested(), _refresh_seconds(status)
    updates: Updates = {
        panel.card: views.status_card(
            context.runs.files.summary(run), _with_explanation(context, run, status), metrics
        ),
        panel.stop: gr.Button(interactive=is_working and not is_stopping),
        panel.cancel: gr.Button(interactive=is_working and not run.cancel_is_requested()),
        panel.resume: gr.Button(visible=status.state in RESUMABLE),
        panel.open_compare: gr.Button(visible=run.has_adapter() and not is_working),
        panel.seen: Seen(stamp, len(times), pace),
    }
    if not same_curves:
        updates[panel.curves] = curves.run_curves(metrics)
    if not same_answers:
        updates[panel.position] = _slider(len(times) - 1, follows_newest)
        updates[panel.answers] = views.watch_cards(times, len(times) - 1 if follows_newest else position)
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


def _refresh_seconds(status: RunStatus) -> float:
    """Return the seconds until the next refresh, which is sooner while a run starts."""
    is_starting = not status.has_ended() and status.state != "queued" and status.elapsed_seconds() < QUICK_UNTIL_SECONDS
    return QUICK_SECONDS if is_starting else SLOW_SECONDS


def _with_explanation(context: PageContext, run: Run, status: RunStatus) -> RunStatus:
    """Return the status with a message about the queue, a pending stop, or a copy to storage that fails."""
    trouble = copy_trouble(run)
    if trouble:
        warning = f"This run is not being copied to storage at the moment. {trouble} The app will keep trying."
        status = status.model_copy(update={"hint": f"{status.hint} {warning}".strip()})
    if status.has_ended():
        return status
    if run.cancel_is_requested():
        return status.model_copy(update={"message": "Cancelling. Nothing will be kept."})
    if run.stop_is_requested():
        saved = "The adapter trained so far will be saved"
        outcome = saved if status.step else "No step has finished, so nothing will be saved"
        return status.model_copy(update={"message": f"Stopping. {outcome}."})
    queue = [queued.id for queued in queued_runs(context.home)] if status.state == "queued" else []
    if run.id not in queue:
        return status
    message = (
        f"Position {queue.index(run.id) + 1} of {len(queue)} in the queue. You can change the order on the Runs tab."
    )
    return status.model_copy(update={"message": message})


def _slider(last: int, follows_newest: bool) -> gr.Slider:
    moved: dict[str, Any] = {"value": max(last, 0)} if follows_newest else {}
    return gr.Slider(maximum=max(last, 1), visible=last > 0, **moved)


def _no_run(context: PageContext) -> str:
    if not context.hosting.allows_training:
        return views.empty_card("There are no runs here.")
    return views.empty_card(
        "No run yet. Press Start: with the starter model and the Quick preset, a run takes a few minutes."
    )
