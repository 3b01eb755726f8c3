"""A run's numbers, worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sft_app.runs.directory import create_run
from sft_app.runs.folder import Run
from sft_app.runs.records import ModelRecord, RunRecord, SourceRecord
from sft_app.runs.summary import (
    RunSummary,
    differing_settings,
    heldout_losses,
    loss_change,
    summarise_run,
    unjudged_note,
)
from sft_app.settings import EXAMPLE_PROMPT, RunSettings


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
    assert summarise_run(run).as_record() == {
        "run": run.id,
        "name": "Shop",
        "model": "starter",
        "method": "lora",
        "data": "shop.jsonl",
        "data_notes": [],
        "chat_template": "the model's own",
        "state": "queued",
        "message": "",
        "precision": None,
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
    assert (summary.train_loss, summary.tokens_per_second) == (2.0, 200.0)
    assert (summary.heldout_loss_base, summary.heldout_loss_tuned) == (3.5, 2.25)
    assert (summary.state, summary.steps, summary.total_steps) == ("finished", 3, 3)
    assert summary.adapter == str(run.path / "adapter")
    assert summary.message == "Done."
    assert summary.seconds > 0


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
    assert heldout_losses(run.metrics()) == expected


@pytest.mark.parametrize(("kept", "expected"), [(4, 2.0), (8, 4.0), (None, 4.0), (6, 4.0), (0, 4.0)])
def test_heldout_loss_is_that_of_the_weights_that_were_kept(run: Run, kept: int | None, expected: float):
    for step, loss in [(0, 3.0), (4, 2.0), (8, 4.0)]:
        run.log_metric(step=step, heldout_loss=loss)
    run.update_status(state="finished", step=8, kept_step=kept)
    assert summarise_run(run).heldout_loss_tuned == expected
    run.update_status(state="queued")  # resumed: nothing is kept yet of what it does now
    assert summarise_run(run).heldout_loss_tuned == 4.0


@pytest.mark.parametrize("content", [None, "{", '{"settings": {}}'])
def test_run_whose_settings_cannot_be_read_is_still_listed(run: Run, content: str | None):
    (run.path / "settings.json").unlink()
    if content is not None:
        (run.path / "settings.json").write_text(content)
    summary = summarise_run(run)
    assert (summary.name, summary.model, summary.method, summary.data) == ("", None, None, None)
    assert summary.data_notes == []
    assert summary.state == "queued"


def test_notes_on_the_data_are_in_the_summary_and_missing_in_older_runs(run: Run):
    record = json.loads((run.path / "settings.json").read_text())
    record["source"]["notes"] = ["Not used: `agent`."]
    (run.path / "settings.json").write_text(json.dumps(record))
    assert summarise_run(run).data_notes == ["Not used: `agent`."]
    del record["source"]["notes"]
    (run.path / "settings.json").write_text(json.dumps(record))
    assert summarise_run(run).data_notes == []


def test_run_whose_process_is_gone_is_summed_up_as_interrupted(run: Run):
    run.update_status(state="training", step=2, pid=None)
    assert summarise_run(run).state == "interrupted"


@pytest.mark.parametrize("word", ["NaN", "null", "Infinity"])
def test_a_loss_that_is_not_a_number_is_said_to_be(run: Run, word: str):
    """As older versions wrote it, and as this one does."""
    rows = [
        '{"step": 0, "heldout_loss": 3.5}',
        f'{{"step": 1, "loss": {word}}}',
        f'{{"step": 1, "heldout_loss": {word}}}',
    ]
    run.metrics_file.write_text("\n".join(rows) + "\n")
    run.update_status(state="finished", step=1, total_steps=1, kept_step=1)
    summary = summarise_run(run)
    assert "3.50 → " in loss_change(summary) and "%" not in loss_change(summary)
    assert "nan" not in loss_change(summary) and "inf" not in loss_change(summary)
    assert unjudged_note(summary) == (
        "The loss of this run is not a number, so what it learned cannot be judged. "
        "Train again with a lower learning rate."
    )


def test_change_from_zero_has_no_share():
    assert (
        loss_change(RunSummary(run="r", state="finished", heldout_loss_base=0.0, heldout_loss_tuned=1.0))
        == "0.00 → 1.00"
    )


def test_a_base_that_has_no_loss_is_told_apart(run: Run):
    run.log_metric(step=0, heldout_loss=float("nan"))
    assert unjudged_note(summarise_run(run)).startswith("The base model's own loss is not a number")


def record_of(sha256: str = "00", revision: str | None = None, torch: str = "2.13.0", **settings: Any) -> RunRecord:
    read = {"format": "messages", "rows": 3, "conversations": 3, "rejected": 0}
    return RunRecord(
        settings=RunSettings(data="shop.jsonl", **settings),
        source=SourceRecord(path="/d/shop.jsonl", sha256=sha256, **read),
        model=ModelRecord(name="starter", location="here", revision=revision, source="test"),
        versions={"torch": torch},
        created_utc="2026-01-01T00:00:00+00:00",
    )


def test_runs_with_the_same_settings_differ_in_nothing_but_perhaps_their_names():
    assert differing_settings([record_of(name="A"), record_of(name="B")]) == []


def test_differing_settings_have_a_value_for_each_run_in_the_settings_own_order():
    records = [record_of(), record_of(lora_r=64, packing=False), record_of(watch_prompts=("One?", "Two?"))]
    assert differing_settings(records) == [
        ("lora_r", ["16", "64", "16"]),
        ("packing", ["on", "off", "on"]),
        ("watch_prompts", [EXAMPLE_PROMPT, EXAMPLE_PROMPT, "One?\nTwo?"]),
    ]


def test_a_learning_rate_is_compared_as_the_trainer_gets_it():
    assert differing_settings([record_of(num_train_epochs=2.0), record_of()]) == []
    quick, full = record_of(preset="quick"), record_of(preset="quick", learning_rate=1e-5)
    assert differing_settings([quick, full]) == [("learning_rate", ["0.001", "1e-05"])]


def test_data_that_changed_under_its_name_and_other_packages_are_differences():
    records = [record_of(), record_of(sha256="ff", revision="main@1", torch="2.11.0")]
    assert differing_settings(records) == [
        ("contents of shop.jsonl (sha256)", ["00", "ff"]),
        ("model revision", ["test", "main@1"]),
        ("version of torch", ["2.13.0", "2.11.0"]),
    ]
