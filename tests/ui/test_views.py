"""What the page shows, as plain functions of plain values."""

from __future__ import annotations

import re

import pytest

from sft_app.runs.records import RunStatus, Snapshot, StepMetrics, WatchAnswer
from sft_app.runs.summary import RunSummary
from sft_app.ui import views

SUMMARY = RunSummary(
    run="20261122-153012-k3f9",
    name="",
    state="training",
    model="starter",
    data="examples/customer_service.jsonl",
    steps=10,
    total_steps=40,
    heldout_loss_base=4.0,
    heldout_loss_tuned=3.0,
    seconds=65.0,
)


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", '<img src="http://x/y">', "a & b"])
def test_text_of_people_and_models_is_shown_and_never_run(text: str) -> None:
    times = [Snapshot(step=step, answers=[WatchAnswer(prompt=text, answer=text)]) for step in (0, 1)]
    shown = [
        views.watch_cards(times, 1),
        views.status_card(SUMMARY.model_copy(update={"name": text}), RunStatus(state="failed", message=text), []),
        views.problem_card(text),
    ]
    for html in shown:
        assert text not in html
        assert text.replace("&", "&amp;").replace("<", "&lt;").split('"')[0].replace(">", "&gt;") in html


def test_status_card_tells_step_and_change_of_heldout_loss() -> None:
    card = views.status_card(SUMMARY, RunStatus(state="training", step=10, total_steps=40), [])
    assert "10 of 40" in card and "4.00 → 3.00 (-25%)" in card and "width:25.0%" in card


def test_time_left_follows_the_pace_of_the_last_steps() -> None:
    status = RunStatus(state="training", step=10, total_steps=40)
    metrics = [StepMetrics(step=step, loss=1.0, elapsed_seconds=4.0 * step) for step in range(1, 11)]
    assert views.time_left(status, metrics) == "about 2:00"
    assert views.time_left(status, metrics[:1]) == "–"


def test_time_left_is_never_negative_after_a_run_is_resumed() -> None:
    """A resumed worker counts its seconds from 0 again."""
    status = RunStatus(state="training", step=12, total_steps=42)
    before = [StepMetrics(step=step, loss=1.0, elapsed_seconds=40.0 * step) for step in range(1, 11)]
    assert views.time_left(status, [*before[-1:], StepMetrics(step=11, loss=1.0, elapsed_seconds=4.0)]) == "–"
    after = [StepMetrics(step=step, loss=1.0, elapsed_seconds=4.0 * (step - 10)) for step in (11, 12)]
    assert views.time_left(status, [*before[-1:], *after]) == "about 2:00"
    assert views.time_left(status.model_copy(update={"step": 50}), after) == "about 0:00"


def snapshot(step: int, *answers: str) -> Snapshot:
    found = [WatchAnswer(prompt=f"Q{n}", answer=answer) for n, answer in enumerate(answers)]
    return Snapshot(step=step, answers=found)


def test_a_step_that_was_answered_twice_stands_in_the_timeline_once() -> None:
    times = views.timeline([snapshot(0, "a"), snapshot(9, "b"), snapshot(9, "c")])
    assert [(one.step, one.answers[0].answer) for one in times] == [(0, "a"), (9, "c")]


def test_each_place_of_the_timeline_shows_its_answers_beside_the_first_ones() -> None:
    times = [snapshot(0, "old", "one"), snapshot(5, "new", "one"), snapshot(9, "newest", "two")]
    middle = views.watch_cards(times, 1)
    assert middle.count("Q0") == middle.count("Q1") == 1
    assert ">old<" in middle and ">new<" in middle and ">newest<" not in middle
    assert middle.count("unchanged") == 1 and middle.count(">changed<") == 1
    assert "class=ft-here>Step 5<" in middle
    assert ">newest<" in views.watch_cards(times, 2) and ">newest<" in views.watch_cards(times, 7)


def test_a_watch_answer_that_broke_off_is_not_told_as_the_same_or_changed() -> None:
    answers = [WatchAnswer(prompt="Q0", answer="", broken=True)]
    broken = [Snapshot(step=step, answers=answers) for step in (0, 5, 9)]
    for times in ([snapshot(0, ""), broken[1]], [broken[0], snapshot(5, "")], broken[1:]):
        shown = views.watch_cards(times, 1)
        assert "cannot be compared" in shown and "it produced NaN or infinite values" in shown
        assert "unchanged" not in shown and "changed" not in shown


def test_at_the_first_place_the_first_answers_stand_alone_with_what_to_do_next() -> None:
    assert "Move the slider" in views.watch_cards([snapshot(0, "old"), snapshot(5, "new")], 0)
    assert "next evaluation" in views.watch_cards([snapshot(0, "old")], 0)
    assert "watch prompts" in views.watch_cards([], 0)


def test_a_long_timeline_names_its_ends_and_the_chosen_step() -> None:
    times = [snapshot(step, "x") for step in range(0, 2100, 100)]
    marks = views.watch_cards(times, 10).split("</div>")[0]
    assert re.findall(r">([^<>]+)</span>", marks) == ["Before training", "Step 1,000", "Step 2,000"]
