"""What the page shows, as plain functions of plain values."""

from __future__ import annotations

import pytest

from sft_app.compare.generate import Answer
from sft_app.compare.pair import Evidence
from sft_app.runs import RunStatus
from sft_app.ui import views

SUMMARY = {
    "run": "20261122-153012-k3f9",
    "name": "",
    "state": "training",
    "model": "starter",
    "data": "examples/customer_service.jsonl",
    "steps": 10,
    "total_steps": 40,
    "heldout_loss_base": 4.0,
    "heldout_loss_tuned": 3.0,
    "seconds": 65.0,
}
EVIDENCE = Evidence("run-1", "one batch of one model", True, 210, 33, identical=False)


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", '<img src="http://x/y">', "a & b"])
def test_text_of_people_and_models_is_shown_and_never_run(text: str) -> None:
    snapshot = {"step": 0, "answers": [{"prompt": text, "answer": text, "finished": True}]}
    shown = [
        views.answer_card("base", Answer(text, 3, True), False),
        views.snapshot_cards([snapshot]),
        views.status_card({**SUMMARY, "name": text}, RunStatus(state="failed", message=text), []),
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
    metrics = [{"step": step, "loss": 1.0, "elapsed_seconds": 4.0 * step} for step in range(1, 11)]
    assert views.time_left(status, metrics) == "about 2:00"
    assert views.time_left(status, metrics[:1]) == "–"


def test_loss_frame_has_a_row_for_each_measurement_and_part() -> None:
    metrics = [{"step": 0, "heldout_loss": 4.0}, {"step": 1, "loss": 3.5}, {"step": 1, "loss": 3.4}]
    assert views.loss_frame(metrics).to_dict("list") == {
        "step": [0, 1],
        "loss": [4.0, 3.4],
        "part": ["held-out", "training"],
    }


def test_an_answer_that_did_not_change_is_shown_once_and_the_newest_stands_first() -> None:
    snapshots = [{"step": s, "answers": [{"prompt": "Q", "answer": a}]} for s, a in [(0, "x"), (5, "x"), (9, "y")]]
    html = views.snapshot_cards(snapshots)
    assert html.count(">x<") == 1
    assert html.index("Step 9") < html.index("Before training")


@pytest.mark.parametrize(
    ("identical", "words"), [(True, "the two answers are the same"), (False, "the two answers differ")]
)
def test_evidence_line_says_whether_the_answers_are_the_same(identical: bool, words: str) -> None:
    line = views.evidence_line(Evidence("run-1", "one batch of one model", True, 210, 33, identical))
    assert words in line and "210 modules" in line and "run-1" in line


def test_evidence_line_says_when_the_adapter_changes_nothing() -> None:
    line = views.evidence_line(Evidence("run-1", "one batch of one model", False, 0, 33, None))
    assert "the adapter changes nothing" in line


def test_an_answer_says_how_it_ended() -> None:
    assert "12 tokens, ended by itself" in views.answer_card("base", Answer("Hi", 12, True), False)
    assert "12 tokens, cut at the limit" in views.answer_card("tuned", Answer("Hi", 12, False), False)
