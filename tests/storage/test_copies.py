"""A copy is whole at every moment, has what the run needs, and costs what has changed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sft_app.errors import RunError, StorageError
from sft_app.runs.folder import Run
from sft_app.storage.copies import (
    copy_run,
    delete_copy,
    delete_pending_copies,
    delete_run_and_copy,
    pending_deletions,
    read_manifests,
    read_record,
)
from sft_app.storage.stores import FolderStore
from tests.storage.conftest import contents, write_checkpoint

Make = Callable[..., Run]


@dataclass
class NotedStore:
    """A store that tells what was asked of it, and breaks down before the put of that number."""

    store: FolderStore
    breaks_at: int = 10**9
    puts: list[list[str]] = field(default_factory=list)

    @property
    def location(self) -> str:
        return self.store.location

    def names(self, folder: str) -> list[str]:
        return self.store.names(folder)

    def put(self, files: Mapping[str, Path | bytes]) -> None:
        if len(self.puts) + 1 >= self.breaks_at:
            half = dict(list(files.items())[: len(files) // 2])
            self.store.put(half)
            raise StorageError("The line is dead.")
        self.puts.append([name.split("/", 2)[2] for name in files])
        self.store.put(files)

    def fetch(self, files: Mapping[str, Path]) -> None:
        self.store.fetch(files)

    def delete(self, names: Sequence[str]) -> None:
        self.store.delete(names)


@pytest.fixture
def noted(store: FolderStore) -> NotedStore:
    return NotedStore(store)


def manifest_of(store: FolderStore, run: Run) -> list[str]:
    manifest = read_manifests(store, store.names(run.id))[run.id]
    assert set(store.names(run.id)) == manifest.objects(run.id), "nothing else is there"
    return sorted(manifest.files)


def test_copy_has_what_a_run_needs_and_no_more(make_run: Make, store: FolderStore) -> None:
    run = make_run()
    write_checkpoint(run, 20)
    (run.path / ".adapter-new").mkdir()
    assert copy_run(store, run)
    assert [name for name in manifest_of(store, run) if not name.startswith("checkpoints/")] == [
        "adapter/adapter_model.safetensors",
        "data/heldout.jsonl",
        "data/train.jsonl",
        "metrics.jsonl",
        "settings.json",
        "status.json",
        "train.log",
    ]


def test_manifest_is_put_last(make_run: Make, noted: NotedStore) -> None:
    run = make_run()
    copy_run(noted, run)
    assert noted.puts[-1] == ["manifest.json"]
    assert not any("manifest.json" in names for names in noted.puts[:-1])


def test_only_what_has_changed_is_put_again(make_run: Make, noted: NotedStore) -> None:
    run = make_run()
    copy_run(noted, run)
    noted.puts.clear()
    copy_run(noted, run)
    assert noted.puts == []
    run.log_metric(step=2, loss=1.0)
    copy_run(noted, run)
    assert noted.puts == [["metrics.jsonl"], ["manifest.json"]]


def test_checkpoint_is_copied_only_when_it_is_whole(make_run: Make, store: FolderStore) -> None:
    run = make_run()
    write_checkpoint(run, 20)
    mark = write_checkpoint(run, 40) / "checkpoint-is-incomplete.txt"
    mark.touch()
    copy_run(store, run)
    assert {name.split("/")[1] for name in manifest_of(store, run) if "checkpoint" in name} == {"checkpoint-20"}
    mark.unlink()
    copy_run(store, run)
    assert "checkpoints/checkpoint-40/trainer_state.json" in manifest_of(store, run)


def test_deleted_checkpoint_goes_from_the_copy(make_run: Make, store: FolderStore) -> None:
    from sft_app.runs.checkpoints import delete_checkpoint

    run = make_run()
    old = write_checkpoint(run, 20)
    copy_run(store, run)
    delete_checkpoint(old)
    write_checkpoint(run, 40)
    copy_run(store, run)
    assert {name.split("/")[1] for name in manifest_of(store, run) if "checkpoint" in name} == {"checkpoint-40"}


def test_half_written_line_is_left_out(make_run: Make, store: FolderStore, mounted: Path) -> None:
    run = make_run()
    with run.metrics_file.open("a") as file:
        file.write('{"step": 2, "lo')
    copy_run(store, run)
    assert contents(mounted)[f"runs/{run.id}/1/metrics.jsonl"] == b'{"step": 1, "loss": 2.0}\n'


@pytest.mark.parametrize("breaks_at", [1, 2])
def test_copy_that_is_cut_off_leaves_the_one_before(
    make_run: Make, noted: NotedStore, store: FolderStore, breaks_at: int
) -> None:
    run = make_run()
    copy_run(noted, run)
    before = read_manifests(store, store.names(run.id))
    (run.adapter_dir / "adapter_model.safetensors").write_bytes(b"other weights")
    run.log_metric(step=2, loss=1.0)
    noted.puts.clear()
    noted.breaks_at = breaks_at
    with pytest.raises(StorageError, match="The line is dead"):
        copy_run(noted, run)
    assert read_manifests(store, store.names(run.id)) == before
    noted.breaks_at = 10**9
    assert copy_run(noted, run)
    assert contents(store.root)[f"runs/{run.id}/3/adapter/adapter_model.safetensors"] == b"other weights"
    manifest_of(store, run)


def test_manifest_that_is_half_written_does_not_count(make_run: Make, store: FolderStore, mounted: Path) -> None:
    run = make_run()
    copy_run(store, run)
    (mounted / "runs" / run.id / "2").mkdir()
    (mounted / "runs" / run.id / "2" / "manifest.json").write_text('{"number": 2, "fil')
    assert read_manifests(store, store.names(""))[run.id].number == 1
    run.log_metric(step=2, loss=1.0)
    copy_run(store, run)
    assert read_manifests(store, store.names(""))[run.id].number == 3


def test_file_that_somebody_took_from_the_store_is_copied_anew(
    make_run: Make, store: FolderStore, mounted: Path
) -> None:
    run = make_run()
    copy_run(store, run)
    (mounted / "runs" / run.id / "1" / "settings.json").unlink()
    run.log_metric(step=2, loss=1.0)
    copy_run(store, run)
    assert f"runs/{run.id}/2/settings.json" in contents(mounted)


def test_file_that_changes_while_it_is_copied_makes_no_copy(make_run: Make, store: FolderStore) -> None:
    run = make_run()

    class Slow(NotedStore):
        def put(self, files: Mapping[str, Path | bytes]) -> None:
            super().put(files)
            time.sleep(0.01)
            (run.adapter_dir / "adapter_model.safetensors").write_bytes(b"new weights")

    assert not copy_run(Slow(store), run)
    assert read_manifests(store, store.names("")) == {}
    assert copy_run(store, run)


def test_manifest_that_leads_out_of_the_run_is_none(store: FolderStore, mounted: Path) -> None:
    folder = mounted / "runs" / "20261122-153012-k3f9" / "1"
    folder.mkdir(parents=True)
    file = '{"number": 1, "size": 1, "changed_ns": 1, "local_size": 1}'
    (folder / "manifest.json").write_text('{"number": 1, "files": {"../../../x": ' + file + "}}")
    assert read_manifests(store, store.names("")) == {}


def test_deleting_a_run_deletes_its_copy(make_run: Make, home: Path, store: FolderStore, mounted: Path) -> None:
    run, other = make_run(), make_run("20261122-153012-k3fa")
    copy_run(store, run)
    copy_run(store, other)
    delete_run_and_copy(home, run)
    assert pending_deletions(home) == [run.id]
    delete_pending_copies(home, store)
    assert pending_deletions(home) == []
    assert {name.split("/")[0] for name in store.names("")} == {other.id}
    assert not (mounted / "runs" / run.id).exists()


def test_run_that_works_is_not_deleted(make_run: Make, home: Path, living_process: dict[str, object]) -> None:
    run = make_run(state="training", **living_process)
    with pytest.raises(RunError, match="stop it before deleting it"):
        delete_run_and_copy(home, run)
    assert pending_deletions(home) == []


def test_only_runs_are_deleted(store: FolderStore, mounted: Path) -> None:
    (mounted / "runs" / "own").mkdir(parents=True)
    (mounted / "runs" / "own" / "photo.png").touch()
    with pytest.raises(StorageError, match="'own' is not a run"):
        delete_copy(store, "own")
    with pytest.raises(StorageError, match="'' is not a run"):
        delete_copy(store, "")
    assert list(contents(mounted)) == ["runs/own/photo.png"]


def test_record_tells_what_has_been_copied(make_run: Make, store: FolderStore) -> None:
    run = make_run()
    write_checkpoint(run, 20)
    copy_run(store, run)
    record = read_record(run)
    assert record.location == store.location and record.manifest is not None
    assert (record.manifest.state, record.manifest.checkpoint) == ("finished", 20)


def test_what_is_asked_of_a_run_here_and_its_lock_are_not_copied(noted: NotedStore, make_run: Make) -> None:
    run = make_run()
    run.request_cancel()
    with run.locked() as is_ours:
        assert is_ours and copy_run(noted, run)
    copied = {name.rpartition("/")[2] for names in noted.puts for name in names}
    assert "settings.json" in copied and copied.isdisjoint({"stop", "cancel", "worker.lock"})
