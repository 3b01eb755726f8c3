"""The panel and the lists, from real run folders: what is shown, and what is left as it is."""

from __future__ import annotations

import os
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
from sft_app.ui.runs.run_panel import CALM_SECONDS, QUICK_SECONDS, panel_values
from sft_app.ui.runs.several_runs import comparison_values
from sft_app.ui.runs.tab import listing_values

CARD, CURVES, PLACE, ANSWERS, STOP, RESUME, COMPARE, SEEN, TIMER, CANCEL = range(10)
SKIPPED = gr.skip()


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
def finished(home: Path) -> Run:
    run = make_run(home)
    answered(run, 0, "old")
    answered(run, 4, "new")
    run.update_status(state="finished", step=4, total_steps=4)
    return run


def test_a_panel_without_a_run_says_how_to_begin(context: PageContext) -> None:
    assert "Press Start" in panel_values(context, None)[CARD]


def test_an_ended_run_that_is_shown_already_is_left_alone(context: PageContext, finished: Run) -> None:
    first = panel_values(context, finished.id)
    assert "old" in first[ANSWERS] and "new" in first[ANSWERS] and "<svg" in first[CURVES]
    assert panel_values(context, finished.id, 1, first[SEEN]) == [SKIPPED] * len(first)


def test_only_a_run_at_work_can_be_stopped_or_cancelled(context: PageContext, home: Path, finished: Run) -> None:
    def offered(run_id: str | None) -> list[bool]:
        values = panel_values(context, run_id)
        return [values[button].interactive for button in (STOP, CANCEL)]

    assert offered(None) == offered(finished.id) == [False, False]
    waiting = make_run(home)
    assert offered(waiting.id) == [True, True]
    waiting.request_cancel()
    assert offered(waiting.id)[1] is False


def test_a_run_is_looked_at_often_while_it_starts_and_then_calmly(context: PageContext, home: Path) -> None:
    run = make_run(home)
    assert panel_values(context, run.id)[TIMER].value == CALM_SECONDS  # it waits in the queue
    alive = {"pid": os.getpid(), "pid_started": process_started(os.getpid())}
    run.update_status(state="training", **alive)
    first = panel_values(context, run.id)
    assert first[TIMER].value == QUICK_SECONDS
    assert panel_values(context, run.id, 0, first[SEEN])[TIMER] == SKIPPED
    run.update_status(started_utc="2026-01-01T00:00:00+00:00")
    assert panel_values(context, run.id, 0, first[SEEN])[TIMER].value == CALM_SECONDS


def test_the_slider_follows_the_newest_answers_while_it_stands_at_its_end(context: PageContext, finished: Run) -> None:
    seen = panel_values(context, finished.id)[SEEN]
    answered(finished, 8, "newest")
    values = panel_values(context, finished.id, 1, seen)
    assert (values[PLACE].maximum, values[PLACE].value) == (2, 2)
    assert ">newest<" in values[ANSWERS]


def test_the_slider_stays_where_a_person_put_it(context: PageContext, finished: Run) -> None:
    answered(finished, 8, "newer")
    seen = panel_values(context, finished.id)[SEEN]
    answered(finished, 12, "newest")
    values = panel_values(context, finished.id, 1, seen)
    assert values[PLACE].maximum == 3 and "value" not in values[PLACE].constructor_args
    assert ">new<" in values[ANSWERS] and ">newest<" not in values[ANSWERS]


def test_another_run_begins_with_its_newest_answers(context: PageContext, finished: Run, home: Path) -> None:
    seen = panel_values(context, finished.id)[SEEN]
    other = make_run(home, "Other")
    for step, text in ((0, "a"), (1, "b"), (2, "c")):
        answered(other, step, text)
    assert ">c<" in panel_values(context, other.id, 0, seen)[ANSWERS]


def test_a_step_without_answers_redraws_the_curves_and_not_the_answers(context: PageContext, finished: Run) -> None:
    seen = panel_values(context, finished.id)[SEEN]
    finished.log_metric(step=5, loss=2.0)
    values = panel_values(context, finished.id, 1, seen)
    assert "training <b>2.000</b>" in values[CURVES]
    assert values[ANSWERS] == values[PLACE] == SKIPPED


def test_curves_forgotten_by_a_resumed_run_are_redrawn(context: PageContext, finished: Run) -> None:
    finished.log_metric(step=9, loss=2.0)
    seen = panel_values(context, finished.id)[SEEN]
    finished.forget_after(4)
    finished.log_metric(step=5, loss=1.5)
    assert "training <b>1.500</b>" in panel_values(context, finished.id, 1, seen)[CURVES]


def test_a_waiting_run_tells_its_place_in_the_queue(context: PageContext, home: Path) -> None:
    runs = [make_run(home, name) for name in ("one", "two")]
    assert "Place 2 of 2" in panel_values(context, runs[1].id)[CARD]
    move_in_queue(home, runs[1], -1)
    assert "Place 1 of 2" in panel_values(context, runs[1].id)[CARD]


def test_the_lists_are_skipped_while_nothing_is_new(context: PageContext, home: Path, finished: Run) -> None:
    waiting = [make_run(home, name) for name in ("first", "second")]
    first = listing_values(context, None, None, None, None)
    assert first[4].choices == [("1. first", waiting[0].id), ("2. second", waiting[1].id)]
    assert first[5].choices == [("Shop", finished.id)]  # the others have nothing to compare yet
    assert listing_values(context, waiting[1].id, waiting[1].id, [], first[-1])[:-1] == [SKIPPED] * 7
    move_in_queue(home, waiting[1], -1)
    moved = listing_values(context, None, waiting[1].id, [], first[-1])
    assert (moved[1], moved[4].value) == (SKIPPED, waiting[1].id)
    assert [id for _, id in moved[4].choices] == [waiting[1].id, waiting[0].id]


def test_two_runs_come_into_one_chart_with_the_settings_in_which_they_differ(
    context: PageContext, home: Path, finished: Run
) -> None:
    other = make_run(home, "Higher rank", lora_r=64)
    answered(other, 0, "old")
    other.update_status(state="finished", step=4, total_steps=4)
    asked = [other.id, finished.id]
    chart, table, seen = comparison_values(context, asked, None)
    assert "Higher rank" in chart and "Shop" in chart
    assert "<th>lora r</th><td>64</td><td>16</td>" in table
    assert comparison_values(context, asked, seen) == [SKIPPED] * 3
    answered(other, 4, "new")
    assert "4.00 → 3.60" in comparison_values(context, asked, seen)[1]
    assert "Choose two or more" in comparison_values(context, [other.id], seen)[0]


def test_a_run_whose_settings_are_lost_is_left_out_of_the_comparison(context: PageContext, finished: Run) -> None:
    (finished.path / "settings.json").unlink()
    chart, table, _ = comparison_values(context, [finished.id, finished.id], None)
    assert "A comparison needs two runs" in chart and table == ""
