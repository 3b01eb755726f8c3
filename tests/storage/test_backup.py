"""Copies are made by themselves, and what goes wrong with them ends nothing."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sft_app.runs.folder import Run
from sft_app.storage.backup import BackupWorker, back_up_in_background, delete_everywhere, storage_state
from sft_app.storage.copies import copy_trouble, delete_run_and_copy, read_manifests
from sft_app.storage.stores import FolderStore
from tests.storage.conftest import contents, write_checkpoint
from tests.waiting import wait_until

Make = Callable[..., Run]


@pytest.fixture
def named(mounted: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SFT_APP_STORAGE", str(mounted))
    return mounted


def copied(store: FolderStore) -> dict[str, Any]:
    return {run_id: manifest.state for run_id, manifest in read_manifests(store, store.names("")).items()}


def test_run_is_copied_while_the_block_runs_and_at_its_end(
    make_run: Make, home: Path, named: Path, store: FolderStore
) -> None:
    run = make_run(state="stopped")
    with back_up_in_background(home, 0.01):
        wait_until(lambda: copied(store) == {run.id: "stopped"})
        run.update_status(state="finished")
    assert copied(store) == {run.id: "finished"}
    assert storage_state(home) == {"place": str(named), "trouble": ""}


def test_working_run_is_copied_at_each_checkpoint_only(
    make_run: Make, home: Path, store: FolderStore, living_process: dict[str, Any]
) -> None:
    run, worker = make_run(state="training", **living_process), BackupWorker(home, store)
    worker.back_up_changes()
    run.log_metric(step=2, loss=1.0)
    worker.back_up_changes()
    (first,) = read_manifests(store, store.names("")).values()
    assert (first.number, first.checkpoint) == (1, None)
    write_checkpoint(run, 20)
    worker.back_up_changes()
    (second,) = read_manifests(store, store.names("")).values()
    assert (second.number, second.checkpoint) == (2, 20)


def test_votes_on_a_run_that_has_ended_are_copied(make_run: Make, home: Path, store: FolderStore) -> None:
    run, worker = make_run(), BackupWorker(home, store)
    worker.back_up_changes()
    run.votes_file.write_text('{"vote": "left"}\n')
    worker.back_up_changes()
    assert f"runs/{run.id}/2/votes.jsonl" in contents(store.root)


def test_storage_that_is_gone_is_told_and_ends_nothing(make_run: Make, home: Path, named: Path) -> None:
    run = make_run()
    shutil.rmtree(named)
    with back_up_in_background(home, 0.01):
        wait_until(lambda: storage_state(home)["trouble"])
    assert "Check that the storage is mounted." in storage_state(home)["trouble"]
    assert "Check that the storage is mounted." in copy_trouble(run)
    assert run.status().state == "finished"


def test_trouble_is_forgotten_when_the_storage_is_back(make_run: Make, home: Path, mounted: Path) -> None:
    run, worker = make_run(), BackupWorker(home, FolderStore(mounted))
    mounted.rename(mounted.with_name("away"))
    worker.back_up_changes()
    assert copy_trouble(run)
    mounted.with_name("away").rename(mounted)
    worker.back_up_changes()
    assert (copy_trouble(run), storage_state(home)["trouble"]) == ("", "")
    assert copied(FolderStore(mounted)) == {run.id: "finished"}


def test_place_that_is_none_is_told(make_run: Make, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFT_APP_STORAGE", "data")
    with back_up_in_background(home, 0.01):
        pass
    assert "SFT_APP_STORAGE='data': expected the path of a mounted folder" in storage_state(home)["trouble"]


def test_run_that_cannot_be_read_keeps_no_other_from_being_copied(
    make_run: Make, home: Path, store: FolderStore
) -> None:
    other, broken = make_run(), make_run("20261122-153013-k3f9")
    broken.checkpoints_dir.write_text("")
    (broken.path / "settings.json").unlink()
    os.mkfifo(broken.path / "own.jsonl")  # no file: passed over
    shutil.rmtree(broken.path / "copy.json", ignore_errors=True)
    (broken.path / "copy.json").mkdir()  # what is known of the copy cannot be written down
    BackupWorker(home, store).back_up_changes()
    assert other.id in copied(store)
    assert "Copying the runs failed unexpectedly (IsADirectoryError)" in storage_state(home)["trouble"]


def test_missing_runs_come_back_in_the_background(make_run: Make, home: Path, named: Path, store: FolderStore) -> None:
    run = make_run(state="training")
    BackupWorker(home, store).back_up_changes()
    shutil.rmtree(home / "runs")
    with back_up_in_background(home, 0.01, restores=True):
        wait_until(lambda: run.path.exists())
        assert run.status().state == "interrupted"


def test_nothing_is_begun_where_no_storage_is_named(home: Path) -> None:
    before = threading.active_count()
    with back_up_in_background(home, 0.01):
        assert threading.active_count() == before
    assert list(home.iterdir()) == []


def test_deleted_run_goes_from_the_storage_at_the_next_look(make_run: Make, home: Path, store: FolderStore) -> None:
    run, worker = make_run(), BackupWorker(home, store)
    worker.back_up_changes()
    delete_run_and_copy(home, run)
    worker.back_up_changes()
    assert store.names("") == []


def test_deleting_everywhere_says_what_is_left_to_do(
    make_run: Make, home: Path, store: FolderStore, named: Path
) -> None:
    run, other = make_run(), make_run("20261122-153013-k3f9")
    BackupWorker(home, store).back_up_changes()
    assert delete_everywhere(home, run) == ""
    assert set(copied(store)) == {other.id}
    named.rename(named.with_name("away"))
    assert "Its copy has not been deleted yet: There is no folder" in delete_everywhere(home, other)
    assert not other.path.exists()
