"""The panel and the lists, from real run folders: what is shown, and what is left as it is."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from sft_app.runs.directory import create_run, move_in_queue
from sft_app.runs.folder import Run
from sft_app.runs.records import ModelRecord, RunRecord, SourceRecord
from sft_app.runtime.processes import process_started
from sft_app.settings import RunSettings
from sft_app.ui.context import PageContext
from sft_app.ui.events import Updates
from sft_app.ui.runs.run_panel import QUICK_SECONDS, SLOW_SECONDS, RunPanel, build_run_panel, panel_updates
from sft_app.ui.runs.several_runs import comparison_updates
from sft_app.ui.runs.tab import RunsTab, build_runs_tab, listing_updates

Show = Callable[..., dict[str, Any]]


def make_run(home: Path, name: str = "Shop", **settings: Any) -> Run:
    record = RunRecord(
        settings=RunSettings(name=name, data="shop.jsonl", **settings),
        source=SourceRecord(path="shop.jsonl", sha256="00", format="messages", rows=3, conversations=3, rejected=0),
        model=ModelRecord(name="starter", location="here", revision=None, source="test"),
        versions={},
        created_utc="2026-01-01T00:00:00+00:00",
    )
    return create_run(home, record, [], [])


def answered(run: Run, step: int, text: str) -> None:
    run.log_metric(step=step, heldout_loss=4.0 - step / 10)
    run.log_snapshot(step=step, answers=[{"prompt": "Q", "answer": text, "finished": True}])


@pytest.fixture
def context(home: Path) -> PageContext:
    return PageContext(home)


@pytest.fixture
def panel(context: PageContext) -> RunPanel:
    with gr.Blocks():
        return build_run_panel(context, gr.Button("Stop"), gr.Button("Cancel"), gr.Button("Resume"))


@pytest.fixture
def tab(context: PageContext) -> RunsTab:
    with gr.Blocks():
        return build_runs_tab(context)


def named(panel: Any, updates: Updates) -> dict[str, Any]:
    """The updates by the names that the panel has for its components; what is left out stays as it is."""
    return {name: updates[part] for name, part in vars(panel).items() if not isinstance(part, dict) and part in updates}


@pytest.fixture
def show(context: PageContext, panel: RunPanel) -> Show:
    return lambda *asked: named(panel, panel_updates(context, panel, *asked))


@pytest.fixture
def finished(home: Path) -> Run:
    run = make_run(home)
    answered(run, 0, "old")
    answered(run, 4, "new")
    run.update_status(state="finished", step=4, total_steps=4)
    return run


def test_a_panel_without_a_run_says_how_to_begin(show: Show) -> None:
    assert "Press Start" in show(None)["card"]


def test_an_ended_run_that_is_shown_already_is_left_alone(show: Show, finished: Run) -> None:
    first = show(finished.id)
    assert "old" in first["answers"] and "new" in first["answers"] and "<svg" in first["curves"]
    assert show(finished.id, 1, first["seen"]) == {}


def test_only_a_run_at_work_can_be_stopped_or_cancelled(show: Show, home: Path, finished: Run) -> None:
    def offered(run_id: str | None) -> list[bool]:
        values = show(run_id)
        return [values[button].interactive for button in ("stop", "cancel")]

    assert offered(None) == offered(finished.id) == [False, False]
    waiting = make_run(home)
    assert offered(waiting.id) == [True, True]
    waiting.request_cancel()
    assert offered(waiting.id)[1] is False


def test_a_run_is_looked_at_often_while_it_starts_and_then_calmly(show: Show, home: Path) -> None:
    run = make_run(home)
    assert show(run.id)["timer"].value == SLOW_SECONDS  # it waits in the queue
    alive = {"pid": os.getpid(), "pid_started": process_started(os.getpid())}
    run.update_status(state="training", **alive)
    first = show(run.id)
    assert first["timer"].value == QUICK_SECONDS
    assert "timer" not in show(run.id, 0, first["seen"])
    run.update_status(started_utc="2026-01-01T00:00:00+00:00")
    assert show(run.id, 0, first["seen"])["timer"].value == SLOW_SECONDS


def test_the_slider_follows_the_newest_answers_while_it_stands_at_its_end(show: Show, finished: Run) -> None:
    seen = show(finished.id)["seen"]
    answered(finished, 8, "newest")
    values = show(finished.id, 1, seen)
    assert (values["position"].maximum, values["position"].value) == (2, 2)
    assert ">newest<" in values["answers"]


def test_the_slider_stays_where_a_person_put_it(show: Show, finished: Run) -> None:
    answered(finished, 8, "newer")
    seen = show(finished.id)["seen"]
    answered(finished, 12, "newest")
    values = show(finished.id, 1, seen)
    assert values["position"].maximum == 3 and "value" not in values["position"].constructor_args
    assert ">new<" in values["answers"] and ">newest<" not in values["answers"]


def test_another_run_begins_with_its_newest_answers(show: Show, finished: Run, home: Path) -> None:
    seen = show(finished.id)["seen"]
    other = make_run(home, "Other")
    for step, text in ((0, "a"), (1, "b"), (2, "c")):
        answered(other, step, text)
    assert ">c<" in show(other.id, 0, seen)["answers"]


def test_a_step_without_answers_redraws_the_curves_and_not_the_answers(show: Show, finished: Run) -> None:
    seen = show(finished.id)["seen"]
    finished.log_metric(step=5, loss=2.0)
    values = show(finished.id, 1, seen)
    assert "training <b>2.000</b>" in values["curves"]
    assert not {"answers", "position"} & values.keys()


def test_curves_forgotten_by_a_resumed_run_are_redrawn(show: Show, finished: Run) -> None:
    finished.log_metric(step=9, loss=2.0)
    seen = show(finished.id)["seen"]
    finished.forget_after(4)
    finished.log_metric(step=5, loss=1.5)
    assert "training <b>1.500</b>" in show(finished.id, 1, seen)["curves"]


def test_a_waiting_run_tells_its_place_in_the_queue(show: Show, home: Path) -> None:
    runs = [make_run(home, name) for name in ("one", "two")]
    assert "Position 2 of 2" in show(runs[1].id)["card"]
    move_in_queue(home, runs[1], -1)
    assert "Position 1 of 2" in show(runs[1].id)["card"]


def test_the_lists_are_skipped_while_nothing_is_new(
    context: PageContext, tab: RunsTab, home: Path, finished: Run
) -> None:
    waiting = [make_run(home, name) for name in ("first", "second")]
    first = listing_updates(context, tab, None, None, None, None)
    seen = first[tab.seen]
    assert first[tab.queue.queued].choices == [("1. first", waiting[0].id), ("2. second", waiting[1].id)]
    assert first[tab.several.chosen].choices == [("Shop", finished.id)]  # the others have nothing to compare yet
    assert listing_updates(context, tab, waiting[1].id, waiting[1].id, [], seen) == {tab.seen: seen}
    move_in_queue(home, waiting[1], -1)
    moved = listing_updates(context, tab, None, waiting[1].id, [], seen)
    assert tab.table not in moved and moved[tab.queue.queued].value == waiting[1].id
    assert [id for _, id in moved[tab.queue.queued].choices] == [waiting[1].id, waiting[0].id]


def test_two_runs_come_into_one_chart_with_the_settings_in_which_they_differ(
    context: PageContext, tab: RunsTab, home: Path, finished: Run
) -> None:
    several = tab.several
    other = make_run(home, "Higher rank", lora_r=64)
    answered(other, 0, "old")
    other.update_status(state="finished", step=4, total_steps=4)
    asked = [other.id, finished.id]
    shown = comparison_updates(context, several, asked, None)
    chart, seen = shown[several.chart], shown[several.seen]
    assert "Higher rank" in chart and "Shop" in chart
    assert "<th>lora r</th><td>64</td><td>16</td>" in shown[several.table]
    assert comparison_updates(context, several, asked, seen) == {}
    answered(other, 4, "new")
    assert "4.00 → 3.60" in comparison_updates(context, several, asked, seen)[several.table]
    assert "Choose two or more" in comparison_updates(context, several, [other.id], seen)[several.chart]


def test_a_run_whose_settings_are_lost_is_left_out_of_the_comparison(
    context: PageContext, tab: RunsTab, finished: Run
) -> None:
    (finished.path / "settings.json").unlink()
    shown = comparison_updates(context, tab.several, [finished.id, finished.id], None)
    assert "A comparison needs two runs" in shown[tab.several.chart] and shown[tab.several.table] == ""
