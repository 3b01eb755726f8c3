"""Restore runs from their copies on a machine that does not have them, such as one with a new disk."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from sft_app.errors import StorageError
from sft_app.runs.checkpoints import checkpoint_step
from sft_app.runs.directory import list_runs
from sft_app.runs.folder import Run
from sft_app.runs.records import RESUMABLE, RunStatus, utc_now
from sft_app.runtime.files import write_json_atomically
from sft_app.runtime.home import runs_dir
from sft_app.storage.copies import (
    CopyRecord,
    Manifest,
    pending_deletions,
    read_manifests,
    read_record,
    write_record,
)
from sft_app.storage.stores import Store

CHECKPOINTS_PREFIX = "checkpoints/"
_DRAFT = ".restoring-"


class DamagedCopyError(StorageError):
    """Reports that a file in the storage is not what was copied there; trying again does not help."""


def restore_runs(home: Path, store: Store) -> Iterator[tuple[str, str]]:
    """Restore missing runs, the newest first. Yields (id, "") for each one, or (id, reason) if it failed.

    A run that can be resumed comes with its checkpoints at once. The checkpoints of the others follow when all runs are
    there.

    Raises: StorageError if the store cannot be listed.
    """
    runs_dir(home).mkdir(parents=True, exist_ok=True)
    for draft in runs_dir(home).glob(f"{_DRAFT}*"):  # left by a killed process
        shutil.rmtree(draft, ignore_errors=True)
    manifests = read_manifests(store, store.names(""))
    for run_id in sorted(manifests, reverse=True):
        run = Run(runs_dir(home) / run_id)
        if not run.path.exists() and run_id not in pending_deletions(home):
            yield run_id, _failure_reason(_restore, store, run, manifests[run_id])
    for run in list_runs(home):
        record = read_record(run)
        if record.awaits_checkpoints and record.location == store.location and record.manifest is not None:
            reason = _failure_reason(_restore_checkpoints, store, run, record.manifest)
            if reason:
                yield run.id, reason


def _failure_reason(act: Callable[[Store, Run, Manifest], None], store: Store, run: Run, manifest: Manifest) -> str:
    try:
        act(store, run, manifest)
    except StorageError as error:
        return str(error)
    except (OSError, ValueError) as error:  # the local disk, or an invalid file
        return f"The copy of run {run.id} in {store.location} could not be restored: {error}."
    return ""


def _restore(store: Store, run: Run, manifest: Manifest) -> None:
    """Restore a run; it appears whole or not at all."""
    draft = Run(run.path.with_name(_DRAFT + run.id))
    is_resumable = _restored_status(RunStatus(state=manifest.state), None).state in RESUMABLE  # type: ignore[arg-type]
    names = [name for name in manifest.files if is_resumable or not name.startswith(CHECKPOINTS_PREFIX)]
    try:
        _fetch_files(store, run.id, manifest, names, draft.path)
        if is_resumable:
            _fix_best_checkpoint_path(draft, run)
        status = RunStatus.model_validate_json(draft.status_file.read_bytes())
        write_json_atomically(draft.status_file, _restored_status(status, manifest.checkpoint).model_dump())
        awaits = len(names) < len(manifest.files)
        write_record(draft, CopyRecord(location=store.location, manifest=manifest, awaits_checkpoints=awaits))
        draft.path.rename(run.path)
    finally:
        shutil.rmtree(draft.path, ignore_errors=True)


def _restore_checkpoints(store: Store, run: Run, manifest: Manifest) -> None:
    draft = Run(run.path.with_name(_DRAFT + run.id))
    try:
        names = [name for name in manifest.files if name.startswith(CHECKPOINTS_PREFIX)]
        try:
            _fetch_files(store, run.id, manifest, names, draft.path)
        except DamagedCopyError:  # nothing more will come; the run is copied again as it is
            write_record(run, read_record(run).model_copy(update={"awaits_checkpoints": False}))
            raise
        _fix_best_checkpoint_path(draft, run)
        if not run.path.is_dir():  # deleted during the restore
            return
        shutil.rmtree(run.checkpoints_dir, ignore_errors=True)
        draft.checkpoints_dir.rename(run.checkpoints_dir)
        write_record(run, read_record(run).model_copy(update={"awaits_checkpoints": False}))
    finally:
        shutil.rmtree(draft.path, ignore_errors=True)


def _fetch_files(store: Store, run_id: str, manifest: Manifest, names: list[str], folder: Path) -> None:
    """Download files of a copy.

    Raises: StorageError if one is missing, DamagedCopyError if one has the wrong size.
    """
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
    store.fetch({f"{run_id}/{manifest.files[name].number}/{name}": folder / name for name in names})
    for name in names:
        expected, size = manifest.files[name], (folder / name).stat().st_size
        if size != expected.size:
            raise DamagedCopyError(
                f"The copy of run {run_id} in {store.location} is damaged: "
                f"{name} has {size} bytes, not {expected.size}."
            )
        os.utime(folder / name, ns=(expected.changed_ns, expected.changed_ns))  # counts as copied


def _restored_status(status: RunStatus, checkpoint: int | None) -> RunStatus:
    """Return the status of a run on this machine, where none of its recorded processes exist."""
    no_processes = {"pid": None, "pid_started": None, "supervisor_pid": None, "supervisor_started": None}
    if status.has_ended():
        return status.model_copy(update=no_processes)
    hint = "Resume starts over because no checkpoint had been saved." if checkpoint is None else ""
    ended = {
        "state": "interrupted",
        "step": checkpoint or 0,
        "message": f"This is a restored copy: the machine on which the run was {status.state} is gone.",
        "hint": hint or f"Resume continues from step {checkpoint}.",
        "ended_utc": utc_now(),
    }
    return status.model_copy(update={**no_processes, **ended})


def _fix_best_checkpoint_path(draft: Run, run: Run) -> None:
    """Point the path of the best checkpoint, recorded in each checkpoint, to this machine's folder."""
    for file in draft.checkpoints_dir.glob("checkpoint-*/trainer_state.json"):
        state = json.loads(file.read_bytes())
        best = state.get("best_model_checkpoint")
        local_path = best and str(run.checkpoints_dir / f"checkpoint-{checkpoint_step(Path(best))}")
        if local_path != best:
            write_json_atomically(file, {**state, "best_model_checkpoint": local_path})
