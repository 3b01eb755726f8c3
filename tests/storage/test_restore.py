"""Runs come back to a machine that has none of them, as what is true of them there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sft_app.runs.checkpoints import last_complete_checkpoint
from sft_app.runs.folder import Run
from sft_app.storage.copies import copy_run, read_record
from sft_app.storage.restore import restore_runs
from sft_app.storage.stores import FolderStore
from tests.storage.conftest import contents, write_checkpoint

Make = Callable[..., Run]
NOT_COPIED = {"copy.json", "stop", "tokens/train.arrow"}


def test_finished_run_comes_back_as_it_was(make_run: Make, store: FolderStore, new_home: Path) -> None:
    run = make_run()
    write_checkpoint(run, 20, best=20)
    copy_run(store, run)
    assert list(restore_runs(new_home, store)) == [(run.id, "")]
    here, before = contents(new_home / "runs" / run.id), contents(run.path)
    same = before.keys() - NOT_COPIED - {"status.json", "checkpoints/checkpoint-20/trainer_state.json"}
    assert {name: here[name] for name in same} == {name: before[name] for name in same}
    assert here.keys() - NOT_COPIED == before.keys() - NOT_COPIED
    assert Run(new_home / "runs" / run.id).status().state == "finished"


@pytest.mark.parametrize("state", ["preparing", "training", "scoring", "queued"])
def test_unfinished_run_comes_back_interrupted(
    state: str, make_run: Make, store: FolderStore, new_home: Path, living_process: dict[str, Any]
) -> None:
    """Although its process's number and start are those of one that lives here."""
    supervisor = {"supervisor_pid": living_process["pid"], "supervisor_started": living_process["pid_started"]}
    run = make_run(state=state, step=33, **living_process, **supervisor)
    write_checkpoint(run, 20)
    copy_run(store, run)
    list(restore_runs(new_home, store))
    status = Run(new_home / "runs" / run.id).status()
    assert (status.state, status.step, status.pid, status.supervisor_pid) == ("interrupted", 20, None, None)
    assert f"the machine on which the run was {state} is gone" in status.message
    assert status.hint == "Resume continues from step 20."
    assert last_complete_checkpoint(new_home / "runs" / run.id / "checkpoints") is not None


def test_run_without_a_checkpoint_says_that_it_begins_anew(make_run: Make, store: FolderStore, new_home: Path) -> None:
    run = make_run(state="queued")
    copy_run(store, run)
    list(restore_runs(new_home, store))
    assert "starts over" in Run(new_home / "runs" / run.id).status().hint


def test_run_that_is_here_is_left_alone(make_run: Make, home: Path, store: FolderStore) -> None:
    run = make_run()
    copy_run(store, run)
    run.log_metric(step=2, loss=1.0)
    before = contents(run.path)
    assert list(restore_runs(home, store)) == []
    assert contents(run.path) == before


def test_run_that_came_back_is_not_copied_again(make_run: Make, store: FolderStore, new_home: Path) -> None:
    run = make_run(state="training")
    write_checkpoint(run, 20)
    copy_run(store, run)
    list(restore_runs(new_home, store))
    here = Run(new_home / "runs" / run.id)
    assert copy_run(store, here)
    names = [name for name in store.names("") if name.split("/")[1] == "2"]
    assert sorted(name.split("/", 2)[2] for name in names) == ["manifest.json", "status.json"]


def test_best_checkpoint_is_the_one_of_this_machine(make_run: Make, store: FolderStore, new_home: Path) -> None:
    run = make_run(state="training")
    write_checkpoint(run, 20)
    write_checkpoint(run, 40, best=20)
    copy_run(store, run)
    list(restore_runs(new_home, store))
    here = Run(new_home / "runs" / run.id)
    state = json.loads((here.checkpoints_dir / "checkpoint-40" / "trainer_state.json").read_bytes())
    assert state["best_model_checkpoint"] == str(here.checkpoints_dir / "checkpoint-20")


def test_checkpoints_of_a_finished_run_come_after_all_runs(make_run: Make, store: FolderStore, new_home: Path) -> None:
    run, older = make_run("20261122-153012-k3fa"), make_run("20261122-153011-k3f9")
    for each in (run, older):
        write_checkpoint(each, 20)
        copy_run(store, each)
    coming = restore_runs(new_home, store)
    assert [next(coming), next(coming)] == [(run.id, ""), (older.id, "")]
    here = [Run(new_home / "runs" / each.id) for each in (run, older)]
    assert all(each.has_adapter() and not each.checkpoints_dir.exists() for each in here)
    for each in here:  # nobody takes the missing checkpoints for deleted ones meanwhile
        each.log_metric(step=2, loss=1.0)
        copy_run(store, each)
    assert list(coming) == []
    assert all(last_complete_checkpoint(each.checkpoints_dir) for each in here)


def test_restoring_that_was_cut_off_goes_on(make_run: Make, store: FolderStore, new_home: Path) -> None:
    run = make_run()
    write_checkpoint(run, 20)
    copy_run(store, run)
    next(restore_runs(new_home, store))
    (new_home / "runs" / f".restoring-{run.id}").mkdir()
    assert list(restore_runs(new_home, store)) == []
    here = Run(new_home / "runs" / run.id)
    assert last_complete_checkpoint(here.checkpoints_dir) and not read_record(here).awaits_checkpoints
    assert [path.name for path in here.path.parent.iterdir()] == [run.id]


def test_damaged_copy_is_told_and_keeps_no_other_from_coming(
    make_run: Make, store: FolderStore, new_home: Path, mounted: Path
) -> None:
    short, gone, whole = (make_run(f"2026112{day}-153012-k3f9") for day in (4, 3, 2))
    for run in (short, gone, whole):
        copy_run(store, run)
    (mounted / "runs" / short.id / "1" / "settings.json").write_text("{")
    (mounted / "runs" / gone.id / "1" / "settings.json").unlink()
    outcome = dict(restore_runs(new_home, store))
    assert "is damaged: settings.json has 1 bytes, not 2" in outcome[short.id]
    assert "settings.json" in outcome[gone.id] or "No such file" in outcome[gone.id]
    assert outcome[whole.id] == ""
    assert [path.name for path in (new_home / "runs").iterdir()] == [whole.id]


def test_deleted_run_does_not_come_back(make_run: Make, home: Path, store: FolderStore) -> None:
    from sft_app.storage.copies import delete_run_and_copy

    run = make_run()
    copy_run(store, run)
    delete_run_and_copy(home, run)
    assert list(restore_runs(home, store)) == []


def test_a_place_that_has_nothing_gives_nothing(store: FolderStore, new_home: Path) -> None:
    assert list(restore_runs(new_home, store)) == []


def test_other_files_of_the_place_are_left_alone(make_run: Make, store: FolderStore, mounted: Path) -> None:
    (mounted / "runs" / "mine" / "1").mkdir(parents=True)
    (mounted / "runs" / "mine" / "1" / "manifest.json").write_text("{}")
    (mounted / "photo.png").touch()
    run = make_run()
    copy_run(store, run)
    shutil.rmtree(run.path)
    home = run.path.parents[1]
    assert [run_id for run_id, _ in restore_runs(home, store)] == [run.id]
    assert (mounted / "photo.png").exists() and (mounted / "runs" / "mine" / "1" / "manifest.json").exists()
