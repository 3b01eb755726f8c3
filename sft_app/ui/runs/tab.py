"""Runs: every run with what came of it; open, download or delete one, order those that wait, compare several."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from sft_app.export.adapter import zip_adapter
from sft_app.runs.directory import move_in_queue
from sft_app.storage.copies import delete_run_and_copy
from sft_app.training.launch import stop_run
from sft_app.ui import views
from sft_app.ui.context import PageContext
from sft_app.ui.events import PRIVATE, UNCHECKED, Updates
from sft_app.ui.permissions import allowed, open_to_all
from sft_app.ui.runs.run_views import can_be_compared, queue_choices, run_names
from sft_app.ui.runs.several_runs import SeveralRuns, build_several_runs

REFRESH_SECONDS = 3.0


@dataclass(frozen=True)
class Deletion:
    """The question before a run is deleted."""

    group: gr.Group
    question: gr.Markdown
    really: gr.Button
    keep: gr.Button


@dataclass(frozen=True)
class Queue:
    """The waiting runs in their order, and what can be done with the chosen one. `group` is there while one waits."""

    group: gr.Column
    waiting: gr.Radio
    earlier: gr.Button
    later: gr.Button
    take_out: gr.Button


@dataclass(frozen=True)
class RunsTab:
    """What the page's wiring needs of this tab: `refresh` is the event that brings its lists up to date.

    `timer` does so again and again while the tab is open. `seen` is what the lists show already.
    `nothing` is there while there is no run, `rest` while there is one.
    """

    nothing: gr.HTML
    table: gr.Dataframe
    rest: gr.Column
    chosen: gr.Dropdown
    open_train: gr.Button
    open_compare: gr.Button
    queue: Queue
    several: SeveralRuns
    seen: gr.State
    timer: gr.Timer
    refresh: dict[str, Any]


def build_runs_tab(context: PageContext) -> RunsTab:
    """The table, what can be done with one run, the queue, and several runs side by side."""
    nothing = gr.HTML(_no_runs(), visible=False, elem_id="no-runs")
    table = gr.Dataframe(
        views.runs_frame([]), interactive=False, datatype="str", wrap=True, show_label=False, elem_id="runs-table"
    )
    with gr.Column(visible=False) as rest:
        queue = _build_queue()
        chosen = gr.Dropdown([], label="Selected run", info="Select a run here or click a row.", elem_id="chosen-run")
        with gr.Row():
            open_train = gr.Button("Open in Train", size="md", min_width=140)
            open_compare = gr.Button("Open in Compare", size="md", min_width=140)
            download = gr.Button("Download adapter", size="md", min_width=140, elem_id="download-adapter")
            delete = gr.Button("Delete …", variant="stop", size="md", min_width=140, elem_id="delete-run")
        file = gr.DownloadButton("Save the adapter", visible=False, variant="primary", elem_id="save-adapter")
        deletion = _build_deletion()
        several = build_several_runs(context)

    @allowed("look", context)
    def list_all(*shown: Any) -> Updates:
        return listing_updates(context, tab, *shown)

    seen = gr.State(None)
    listing = [nothing, table, chosen, queue.group, queue.waiting, several.chosen, rest, seen]
    asked = [chosen, queue.waiting, several.chosen, seen]
    refresh: dict[str, Any] = {"fn": list_all, "inputs": asked, "outputs": listing, **UNCHECKED}
    timer = gr.Timer(REFRESH_SECONDS, active=False)
    tab = RunsTab(nothing, table, rest, chosen, open_train, open_compare, queue, several, seen, timer, refresh)
    timer.tick(**refresh)
    timer.tick(**several.refresh)
    _wire_choice(context, tab)
    _wire_download(context, tab, download, file)
    _wire_deletion(context, tab, delete, deletion)
    _wire_queue(context, tab)
    return tab


def listing_updates(
    context: PageContext, tab: RunsTab, run_id: str | None, waiting: str | None, several: list[str] | None, seen: Any
) -> Updates:
    """Update the lists of runs; one that shows what it showed in `seen` is left out, so that no choice is disturbed."""
    summaries = context.runs.summaries()
    queue = queue_choices([context.runs.files.summary(run) for run in context.runs.queued()])
    frame = views.runs_frame(summaries)
    choices = [(views.run_label(summary), summary.run) for summary in summaries]
    begun = [summary for summary in summaries if can_be_compared(summary)]
    measured = [(name, summary.run) for name, summary in zip(run_names(begun), begun, strict=True)]
    now = {"table": frame.values.tolist(), "choices": choices, "queue": queue, "measured": measured}
    changed = {name for name, value in now.items() if seen is None or seen[name] != value}
    updates: Updates = {tab.seen: now}
    if "choices" in changed:
        updates[tab.nothing], updates[tab.rest] = gr.HTML(visible=not summaries), gr.Column(visible=bool(summaries))
        updates[tab.chosen] = gr.Dropdown(choices, value=_still(run_id, choices))
    if "table" in changed:
        updates[tab.table] = gr.Dataframe(frame, visible=True if summaries else "hidden")
    if "queue" in changed:
        updates[tab.queue.group] = gr.Column(visible=bool(queue))
        updates[tab.queue.waiting] = gr.Radio(queue, value=_still(waiting, queue))
    if "measured" in changed:
        still_several = [id for id in several or [] if id in {id for _, id in measured}]
        updates[tab.several.chosen] = gr.Dropdown(measured, value=still_several, multiselect=True)
    return updates


def _still(chosen: str | None, choices: list[tuple[str, str]]) -> str | None:
    """What is chosen, or the first when that is gone."""
    ids = [id for _, id in choices]
    return chosen if chosen in ids else next(iter(ids), None)


def _wire_choice(context: PageContext, tab: RunsTab) -> None:
    @allowed("look", context)
    def choose_row(event: gr.SelectData) -> str | None:
        runs = context.runs.visible()
        row = event.index[0]
        return runs[row].id if row < len(runs) else None

    tab.table.select(choose_row, None, tab.chosen, **PRIVATE)


def _wire_download(context: PageContext, tab: RunsTab, download: gr.Button, file: gr.DownloadButton) -> None:
    @allowed("look", context)
    def pack(run_id: str | None) -> Iterator[Any]:
        with tempfile.TemporaryDirectory(prefix="adapter-") as folder:  # gradio makes a copy of what is given it
            yield gr.DownloadButton(value=str(zip_adapter(context.runs.get(run_id), Path(folder))), visible=True)

    download.click(pack, tab.chosen, file, api_visibility="private")
    tab.chosen.change(open_to_all(lambda: gr.DownloadButton(visible=False)), None, file, **PRIVATE)


def _wire_deletion(context: PageContext, tab: RunsTab, delete: gr.Button, deletion: Deletion) -> None:
    group, hide_group = deletion.group, open_to_all(lambda: gr.Group(visible=False))

    @allowed("look", context)
    def ask(run_id: str | None) -> Updates:
        run = context.runs.get(run_id)
        question = f"Delete **{run.id}** with its adapter, metrics and log? This cannot be undone."
        return {group: gr.Group(visible=True), deletion.question: question}

    @allowed("delete", context)
    def delete_chosen(run_id: str | None) -> gr.Group:
        delete_run_and_copy(context.home, context.runs.get(run_id))
        gr.Info(f"Run {run_id} was deleted.")
        return gr.Group(visible=False)

    delete.click(ask, tab.chosen, [group, deletion.question], **PRIVATE)
    gr.on([deletion.keep.click, tab.chosen.change], hide_group, None, group, **PRIVATE)
    deletion.really.click(delete_chosen, tab.chosen, group, **PRIVATE).success(**tab.refresh)


def _wire_queue(context: PageContext, tab: RunsTab) -> None:
    waiting = tab.queue.waiting

    @allowed("move", context)
    def earlier(run_id: str | None) -> None:
        move_in_queue(context.home, context.runs.get(run_id), -1)

    @allowed("move", context)
    def later(run_id: str | None) -> None:
        move_in_queue(context.home, context.runs.get(run_id), 1)

    @allowed("stop", context)
    def take_out(run_id: str | None) -> None:
        stop_run(context.runs.get(run_id))
        gr.Info(f"Run {run_id} was removed from the queue. To run it after all, open it in Train and press Resume.")

    for button, act in ((tab.queue.earlier, earlier), (tab.queue.later, later), (tab.queue.take_out, take_out)):
        button.click(act, waiting, None, **PRIVATE).then(**tab.refresh)


def _build_queue() -> Queue:
    with gr.Column(visible=False, elem_id="queue") as group:
        waiting = gr.Radio([], label="Queued", info="Runs train one at a time, in this order.", elem_id="waiting-runs")
        with gr.Row():
            earlier = gr.Button("Move up", size="md", min_width=90, elem_id="earlier")
            later = gr.Button("Move down", size="md", min_width=90, elem_id="later")
            take_out = gr.Button("Stop", size="md", min_width=90, elem_id="take-out")
    return Queue(group, waiting, earlier, later, take_out)


def _build_deletion() -> Deletion:
    with gr.Group(visible=False) as group:
        question = gr.Markdown(container=True)
        with gr.Row():
            really = gr.Button("Delete permanently", variant="stop", elem_id="really-delete")
            keep = gr.Button("Keep run")
    return Deletion(group, question, really, keep)


def _no_runs() -> str:
    return views.empty_card("No runs yet. Press Start on the Train tab; the run and its results then appear here.")
