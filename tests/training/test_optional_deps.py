"""Trackers: asked for where they are not, told before the run; where they are, used."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from sft_app.errors import SettingsError
from sft_app.runs.directory import list_runs
from sft_app.runs.folder import Run
from sft_app.settings import parse_settings
from sft_app.training.optional_deps import check_optional_deps, configure_tracker


@pytest.mark.parametrize("tracker", ["trackio", "tensorboard", "wandb"])
def test_tracker_that_is_not_installed_is_told_before_a_run_is_made(
    home: Path, make_run: Any, monkeypatch: pytest.MonkeyPatch, tracker: str
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == tracker else find(name))
    with pytest.raises(SettingsError, match=f"{tracker} is not installed. Run `pip install {tracker}`"):
        make_run(report_to=tracker)
    assert list_runs(home) == []


def test_nothing_is_asked_for_by_default() -> None:
    check_optional_deps(parse_settings({}))


def test_tensorboard_events_land_in_the_run_folder(make_run: Any, work: Any) -> None:
    loader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run = make_run(method="lora", report_to="tensorboard")
    assert work(run) == 0
    assert run.status().state == "finished", run.log_tail()
    events = loader.EventAccumulator(str(run.path / "tensorboard"))
    events.Reload()
    told = [scalar.value for scalar in events.Scalars("train/loss")]
    assert told == pytest.approx([row.loss for row in run.metrics() if row.loss is not None], abs=1e-5)
    assert len(events.Scalars("eval/loss")) == 3


def test_weights_and_biases_asks_nobody_to_log_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_PROJECT", "WANDB_DIR", "TENSORBOARD_LOGGING_DIR"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    configure_tracker(Run(tmp_path))
    assert os.environ.pop("WANDB_MODE") == "offline"
    assert os.environ["WANDB_DIR"] == str(tmp_path)
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password x\n")
    configure_tracker(Run(tmp_path))
    assert "WANDB_MODE" not in os.environ


@pytest.mark.parametrize("tracker", ["wandb", "trackio"])
def test_run_with_a_tracker_that_needs_no_network_finishes(
    make_run: Any, work: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tracker: str
) -> None:
    pytest.importorskip(tracker)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    run = make_run(method="lora", report_to=tracker)
    assert work(run) == 0
    assert run.status().state == "finished", run.log_tail()
    place = run.path / "wandb" if tracker == "wandb" else tmp_path / "trackio"
    assert any(file.is_file() for file in place.rglob("*"))
