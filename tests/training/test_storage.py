"""The machine goes, with its disk: a run that was copied goes on elsewhere and ends as if nothing had happened."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from sft_app.runs.checkpoints import checkpoint_step, last_complete_checkpoint
from sft_app.runs.folder import Run
from sft_app.storage.backup import back_up_in_background
from sft_app.storage.copies import copy_trouble, read_manifests
from sft_app.storage.stores import FolderStore
from sft_app.training.launch import resume_run
from sft_app.training.supervisor import ensure_supervisor
from tests.training.test_recovery import RECOVERABLE, assert_equal_runs
from tests.waiting import supervisors, wait_until

Make = Callable[..., Run]
Work = Callable[..., int]
SECRET = "hf_ofTheStorage"
LONG = {**RECOVERABLE, "max_steps": 60, "eval_steps": 20}
pytestmark = pytest.mark.usefixtures("processes")


@pytest.fixture
def mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that outlives the home, named as the storage."""
    folder = tmp_path / "mounted"
    folder.mkdir()
    monkeypatch.setenv("SFT_APP_STORAGE", str(folder))
    monkeypatch.setenv("SFT_APP_STORAGE_TOKEN", SECRET)
    return folder


def manifest_of(mounted: Path, run: Run) -> Any:
    store = FolderStore(mounted)
    return read_manifests(store, store.names("")).get(run.id)


def environment_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


@pytest.mark.usefixtures("plain_processes")  # a forked process shows the environment of the one it was forked from
def test_run_goes_on_after_the_machine_and_its_disk_are_gone(
    make_run: Make, work: Work, home: Path, mounted: Path
) -> None:
    whole = make_run(**LONG)
    assert work(whole) == 0
    shutil.move(whole.path, mounted.parent / "whole")
    whole = Run(mounted.parent / "whole")

    run = make_run(**{**LONG, "save_minutes": 0.02})
    ensure_supervisor(home)
    wait_until(lambda: (saved := last_complete_checkpoint(run.checkpoints_dir)) and checkpoint_step(saved) >= 20, 120)
    working = run.status()
    os.kill(working.pid or 0, signal.SIGSTOP)  # the copy comes while the worker is in the middle of its work
    assert working.state == "training"
    wait_until(lambda: (found := manifest_of(mounted, run)) is not None and (found.checkpoint or 0) >= 20, seconds=60)
    supervisor = supervisors()[0]
    assert SECRET.encode() in environment_of(supervisor.pid)
    assert SECRET.encode() not in environment_of(working.pid or 0)
    for pid in (supervisor.pid, working.pid):
        psutil.Process(pid).kill()
    wait_until(lambda: not psutil.pid_exists(working.pid or 0) and not supervisors())
    copied = manifest_of(mounted, run)
    shutil.rmtree(home)
    home.mkdir()

    with back_up_in_background(home, 0.1, restores=True):
        wait_until(lambda: run.path.exists())
    status = run.status()
    assert (status.state, status.step, status.hint) == (
        "interrupted",
        copied.checkpoint,
        f"Resume continues from step {copied.checkpoint}.",
    )
    last = last_complete_checkpoint(run.checkpoints_dir)
    assert last and checkpoint_step(last) == copied.checkpoint
    resume_run(run, home)
    wait_until(lambda: run.status().has_ended() and not supervisors(), seconds=120)
    assert run.status().state == "finished", run.log_tail()
    assert_equal_runs(whole, run)
    assert (manifest_of(mounted, run).state, manifest_of(mounted, run).checkpoint) == ("finished", 60)
    files = [file for folder in (home, mounted) for file in folder.rglob("*") if file.is_file()]
    assert [str(file) for file in files if SECRET.encode() in file.read_bytes()] == []


def test_storage_that_breaks_down_ends_no_run(make_run: Make, home: Path, mounted: Path) -> None:
    run = make_run()
    os.rmdir(mounted)
    ensure_supervisor(home)
    wait_until(lambda: run.status().has_ended() and not supervisors(), seconds=120)
    assert run.status().state == "finished", run.log_tail()
    assert "Check that the storage is mounted." in copy_trouble(run)
