"""A run's numbers, worked out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sft_app.runs import ModelRecord, Run, RunRecord, SourceRecord, create_run
from sft_app.settings import RunSettings
from sft_app.summary import heldout_losses, summarise_run


@pytest.fixture
def run(home: Path) -> Run:
    record = RunRecord(
        settings=RunSettings(name="Shop", data="shop.jsonl", model="starter", method="lora"),
        source=SourceRecord(path="shop.jsonl", sha256="00", format="messages", rows=3, conversations=3, rejected=0),
        model=ModelRecord(name="starter", location="here", revision=None, source="test"),
        versions={},
        created_utc="2026-01-01T00:00:00+00:00",
    )
    return create_run(home, record, [], [])


def test_queued_run_has_no_numbers_yet(run: Run):
    assert summarise_run(run) == {
        "run": run.id,
        "name": "Shop",
        "model": "starter",
        "method": "lora",
        "data": "shop.jsonl",
        "state": "queued",
        "message": "",
        "steps": 0,
        "total_steps": 0,
        "train_loss": None,
        "heldout_loss_base": None,
        "heldout_loss_tuned": None,
        "tokens_per_second": None,
        "seconds": 0.0,
        "adapter": None,
    }


def test_finished_run_is_summed_up(run: Run):
    run.log_metric(step=0, heldout_loss=3.5)
    for step, loss, speed in [(1, 3.0, 50.0), (2, 2.0, 210.0), (3, 1.0, 200.0)]:
        run.log_metric(step=step, loss=loss, tokens_per_second=speed)
    run.log_metric(step=2, heldout_loss=2.5)
    run.log_metric(step=3, heldout_loss=2.25)
    run.adapter_dir.mkdir()
    run.update_status(state="finished", step=3, total_steps=3, started_utc="2026-01-01T00:00:00+00:00", message="Done.")
    summary = summarise_run(run)
    assert (summary["train_loss"], summary["tokens_per_second"]) == (2.0, 200.0)
    assert (summary["heldout_loss_base"], summary["heldout_loss_tuned"]) == (3.5, 2.25)
    assert (summary["state"], summary["steps"], summary["total_steps"]) == ("finished", 3, 3)
    assert summary["adapter"] == str(run.path / "adapter")
    assert summary["message"] == "Done."
    assert summary["seconds"] > 0


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([], (None, None)),
        ([{"step": 1, "loss": 2.0}], (None, None)),
        ([{"step": 0, "heldout_loss": 3.0}], (3.0, None)),
        ([{"step": 4, "heldout_loss": 2.0}], (None, 2.0)),
        ([{"step": 0, "heldout_loss": 3.0}, {"step": 4, "heldout_loss": 2.0}], (3.0, 2.0)),
        ([{"step": 0, "heldout_loss": 3.0}, {"step": 4, "heldout_loss": 2}, {"step": 8, "heldout_loss": 4}], (3, 4)),
    ],
)
def test_heldout_losses_are_of_step_zero_and_of_the_last_evaluation(
    run: Run, rows: list[dict[str, Any]], expected: tuple[float | None, float | None]
):
    for row in rows:
        run.log_metric(**row)
    assert heldout_losses(run) == expected


@pytest.mark.parametrize("content", [None, "{", '{"settings": {}}'])
def test_run_whose_settings_cannot_be_read_is_still_listed(run: Run, content: str | None):
    (run.path / "settings.json").unlink()
    if content is not None:
        (run.path / "settings.json").write_text(content)
    summary = summarise_run(run)
    assert (summary["name"], summary["model"], summary["method"], summary["data"]) == ("", None, None, None)
    assert summary["state"] == "queued"


def test_run_whose_process_is_gone_is_summed_up_as_interrupted(run: Run):
    run.update_status(state="training", step=2, pid=None)
    assert summarise_run(run)["state"] == "interrupted"
