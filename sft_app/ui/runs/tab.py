"""The Runs tab: list all runs; open, download or delete one; reorder the queue; compare several."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from sft_app.export.adapter import zip_adapter
from sft_app.runs.directory import move_in_queue
from sft_app.runs.summary import read_record
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
    """The question before a run is deleted, with its two answers."""

    group: gr.Group
    question: gr.Markdown
    confirm: gr.Button
    keep: gr.Button


@dataclass(frozen=True)
class Queue:
    """The queued runs in order, and the buttons for the selected one. `group` is visible while a run is queued."""

    group: gr.Column
    queued: gr.Radio
    move_up: gr.Button
    move_down: gr.Button
    stop: gr.Button


@dataclass(frozen=True)
class RunsTab:
    """The components that the page's wiring needs. `refresh` is the event that updates the lists.

    `timer` triggers it regularly while the tab is open. `seen` is what the lists already show. `no_runs` is
    visible while there are no runs, `content` while there are some.
    """

    no_runs: gr.HTML
    table: gr.Dataframe
    content: gr.Column
    chosen: gr.Dropdown
    open_train: gr.Button
    open_compare: gr.Button
    queue: Queue
    several: SeveralRuns
    seen: gr.State
    timer: gr.Timer
    refresh: dict[str, Any]


def build_runs_tab(context: PageContext) -> RunsTab:
    """Build the table, the queue, the actions for one run, and the comparison of several runs."""
    no_runs = gr.HTML(_no_runs_card(), visible=False, elem_id="no-runs")
    table = gr.Dataframe(
        views.runs_frame([]), interactive=False, datatype="str", wrap=True, show_label=False, elem_id="runs-table"
    )
    with gr.Column(visible=False) as content:
        queue = _build_queue()
        chosen = gr.Dropdown([], label="Selected run", info="Select a run here, or click a row.", elem_id="chosen-run")
        data = gr.HTML(elem_id="run-data")
        with gr.Row():
            open_train = gr.Button("Open in Train", size="md", min_width=140)
            open_compare = gr.Button("Open in Compare", size="md", min_width=140)
            download = gr.Button("Create adapter zip", size="md", min_width=140, elem_id="download-adapter")
            delete = gr.Button("Delete …", variant="stop", size="md", min_width=140, elem_id="delete-run")
        file = gr.DownloadButton("Download adapter zip", visible=False, variant="primary", elem_id="save-adapter")
        deletion = _build_deletion()
        several = build_several_runs(context)

    @allowed("look", context)
    def list_all(*shown: Any) -> Updates:
        return listing_updates(context, tab, *shown)

    seen = gr.State(None)
    outputs = [no_runs, table, chosen, queue.group, queue.queued, several.chosen, content, seen]
    inputs = [chosen, queue.queued, several.chosen, seen]
    refresh: dict[str, Any] = {"fn": list_all, "inputs": inputs, "outputs": outputs, **UNCHECKED}
    timer = gr.Timer(REFRESH_SECONDS, active=False)
    tab = RunsTab(no_runs, table, content, chosen, open_train, open_compare, queue, several, seen, timer, refresh)
    timer.tick(**refresh)
    timer.tick(**several.refresh)
    _wire_choice(context, tab, data)
    _wire_download(context, tab, download, file)
    _wire_deletion(context, tab, delete, deletion)
    _wire_queue(context, tab)
    return tab


def listing_updates(
    context: PageContext, tab: RunsTab, run_id: str | None, queued_id: str | None, several: list[str] | None, seen: Any
) -> Updates:
    """Update the lists of runs. A list that has not changed since `seen` is left out, so that its selection stays."""
    summaries = context.runs.summaries()
    queue = queue_choices([context.runs.files.summary(run) for run in context.runs.queued()])
    frame = views.runs_frame(summaries)
    choices = [(views.run_label(summary), summary.run) for summary in summaries]
    comparable = [summary for summary in summaries if can_be_compared(summary)]
    measured = [(name, summary.run) for name, summary in zip(run_names(comparable), comparable, strict=True)]
    now = {"table": frame.values.tolist(), "choices": choices, "queue": queue, "measured": measured}
    changed = {name for name, value in now.items() if seen is None or seen[name] != value}
    updates: Updates = {tab.seen: now}
    if "choices" in changed:
        updates[tab.no_runs], updates[tab.content] = gr.HTML(visible=not summaries), gr.Column(visible=bool(summaries))
        updates[tab.chosen] = gr.Dropdown(choices, value=_kept_or_first(run_id, choices))
    if "table" in changed:
        updates[tab.table] = gr.Dataframe(frame, visible=True if summaries else "hidden")
    if "queue" in changed:
        updates[tab.queue.group] = gr.Column(visible=bool(queue))
        updates[tab.queue.queued] = gr.Radio(queue, value=_kept_or_first(queued_id, queue))
    if "measured" in changed:
        kept = [id for id in several or [] if id in {id for _, id in measured}]
        updates[tab.several.chosen] = gr.Dropdown(measured, value=kept, multiselect=True)
    return updates


def _kept_or_first(chosen: str | None, choices: list[tuple[str, str]]) -> str | None:
    """Return the selected id, or the first one if it is no longer in the list."""
    ids = [id for _, id in choices]
    return chosen if chosen in ids else next(iter(ids), None)


def _wire_choice(context: PageContext, tab: RunsTab, data: gr.HTML) -> None:
    @allowed("look", context)
    def choose_row(event: gr.SelectData) -> str | None:
        runs = context.runs.visible()
        row = event.index[0]
        return runs[row].id if row < len(runs) else None

    @allowed("look", context)
    def show_data(run_id: str | None) -> str:
        run = context.runs.find(run_id)
        if run is None:
            return ""
        record, problem = read_record(run)
        return views.data_card(record) if record else views.empty_card(problem)

    tab.table.select(choose_row, None, tab.chosen, **PRIVATE)
    tab.chosen.change(show_data, tab.chosen, data, **UNCHECKED)


def _wire_download(context: PageContext, tab: RunsTab, download: gr.Button, file: gr.DownloadButton) -> None:
    @allowed("look", context)
    def pack(run_id: str | None) -> Iterator[Any]:
        with tempfile.TemporaryDirectory(prefix="adapter-") as folder:  # Gradio copies the file
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
    deletion.confirm.click(delete_chosen, tab.chosen, group, **PRIVATE).success(**tab.refresh)


def _wire_queue(context: PageContext, tab: RunsTab) -> None:
    @allowed("move", context)
    def move_up(run_id: str | None) -> None:
        move_in_queue(context.home, context.runs.get(run_id), -1)

    @allowed("move", context)
    def move_down(run_id: str | None) -> None:
        move_in_queue(context.home, context.runs.get(run_id), 1)

    @allowed("stop", context)
    def stop_queued(run_id: str | None) -> None:
        stop_run(context.runs.get(run_id))
        gr.Info(f"Run {run_id} was removed from the queue. To run it later, open it in Train and press Resume.")

    for button, action in (
        (tab.queue.move_up, move_up),
        (tab.queue.move_down, move_down),
        (tab.queue.stop, stop_queued),
    ):
        button.click(action, tab.queue.queued, None, **PRIVATE).then(**tab.refresh)


def _build_queue() -> Queue:
    with gr.Column(visible=False, elem_id="queue") as group:
        queued = gr.Radio(
            [], label="Queued runs", info="Runs train one at a time, in this order.", elem_id="waiting-runs"
        )
        with gr.Row():
            move_up = gr.Button("Move up", size="md", min_width=90, elem_id="earlier")
            move_down = gr.Button("Move down", size="md", min_width=90, elem_id="later")
            stop = gr.Button("Stop", size="md", min_width=90, elem_id="take-out")
    return Queue(group, queued, move_up, move_down, stop)


def _build_deletion() -> Deletion:
    with gr.Group(visible=False) as group:
        question = gr.Markdown(container=True)
        with gr.Row():
            confirm = gr.Button("Delete permanently", variant="stop", elem_id="really-delete")
            keep = gr.Button("Keep run")
    return Deletion(group, question, confirm, keep)


def _no_runs_card() -> str:
    return views.empty_card("No runs yet. Press Start on the Train tab, and the run and its results appear here.")
