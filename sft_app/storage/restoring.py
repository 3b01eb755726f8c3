"""Copies that come back to a machine which does not have the runs: one that began anew with an empty disk."""

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
from sft_app.runtime.environment import runs_dir
from sft_app.runtime.files import write_json_atomically
from sft_app.storage.copies import (
    CopyRecord,
    Manifest,
    deleted_runs,
    read_manifests,
    read_record,
    write_record,
)
from sft_app.storage.stores import Store

CHECKPOINTS = "checkpoints/"
_DRAFT = ".restoring-"


class DamagedCopyError(StorageError):
    """A file in the storage is not what was put there; asking again does not help."""


def restore_runs(home: Path, store: Store) -> Iterator[tuple[str, str]]:
    """Brings back runs that are missing here, the newest first; gives (id, "") of each as soon as it is there, and
    (id, reason) where one could not be brought back.

    A run that can go on is there with its checkpoints at once. Those of the others follow when all runs are there.

    Raises: StorageError when the store cannot be asked.
    """
    runs_dir(home).mkdir(parents=True, exist_ok=True)
    for draft in runs_dir(home).glob(f"{_DRAFT}*"):  # of a process that was killed
        shutil.rmtree(draft, ignore_errors=True)
    manifests = read_manifests(store, store.names(""))
    for run_id in sorted(manifests, reverse=True):
        run = Run(runs_dir(home) / run_id)
        if not run.path.exists() and run_id not in deleted_runs(home):
            yield run_id, _reason_against(_restore, store, run, manifests[run_id])
    for run in list_runs(home):
        record = read_record(run)
        if record.awaits_checkpoints and record.place == store.place and record.manifest is not None:
            reason = _reason_against(_restore_checkpoints, store, run, record.manifest)
            if reason:
                yield run.id, reason


def _reason_against(act: Callable[[Store, Run, Manifest], None], store: Store, run: Run, manifest: Manifest) -> str:
    try:
        act(store, run, manifest)
    except StorageError as error:
        return str(error)
    except (OSError, ValueError) as error:  # this machine's disk, or a file that is not what it was
        return f"The copy of run {run.id} in {store.place} could not be restored: {error}."
    return ""


def _restore(store: Store, run: Run, manifest: Manifest) -> None:
    """The run appears whole, or not at all."""
    draft = Run(run.path.with_name(_DRAFT + run.id))
    can_go_on = _came_back(RunStatus(state=manifest.state), None).state in RESUMABLE  # type: ignore[arg-type]
    wanted = [name for name in manifest.files if can_go_on or not name.startswith(CHECKPOINTS)]
    try:
        _fetch(store, run.id, manifest, wanted, draft.path)
        if can_go_on:
            _lead_to_best(draft, run)
        status = RunStatus.model_validate_json(draft.status_file.read_bytes())
        write_json_atomically(draft.status_file, _came_back(status, manifest.checkpoint).model_dump())
        awaits = len(wanted) < len(manifest.files)
        write_record(draft, CopyRecord(place=store.place, manifest=manifest, awaits_checkpoints=awaits))
        draft.path.rename(run.path)
    finally:
        shutil.rmtree(draft.path, ignore_errors=True)


def _restore_checkpoints(store: Store, run: Run, manifest: Manifest) -> None:
    draft = Run(run.path.with_name(_DRAFT + run.id))
    try:
        wanted = [name for name in manifest.files if name.startswith(CHECKPOINTS)]
        try:
            _fetch(store, run.id, manifest, wanted, draft.path)
        except DamagedCopyError:  # what is here is all there will be, and is copied anew
            write_record(run, read_record(run).model_copy(update={"awaits_checkpoints": False}))
            raise
        _lead_to_best(draft, run)
        if not run.path.is_dir():  # deleted meanwhile
            return
        shutil.rmtree(run.checkpoints_dir, ignore_errors=True)
        draft.checkpoints_dir.rename(run.checkpoints_dir)
        write_record(run, read_record(run).model_copy(update={"awaits_checkpoints": False}))
    finally:
        shutil.rmtree(draft.path, ignore_errors=True)


def _fetch(store: Store, run_id: str, manifest: Manifest, names: list[str], folder: Path) -> None:
    """Raises: StorageError when one is missing, DamagedCopyError when one has another length than it had."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
    store.fetch({f"{run_id}/{manifest.files[name].number}/{name}": folder / name for name in names})
    for name in names:
        expected, found = manifest.files[name], (folder / name).stat().st_size
        if found != expected.size:
            raise DamagedCopyError(
                f"The copy of run {run_id} in {store.place} is damaged: {name} has {found} bytes, not {expected.size}."
            )
        os.utime(folder / name, ns=(expected.changed_ns, expected.changed_ns))  # so that it counts as copied


def _came_back(status: RunStatus, checkpoint: int | None) -> RunStatus:
    """What is true of it here: no process of that machine lives, whichever has its number now."""
    nobody = {"pid": None, "pid_started": None, "supervisor_pid": None, "supervisor_started": None}
    if status.has_ended():
        return status.model_copy(update=nobody)
    goes_on = "Resume starts over because no checkpoint had been saved." if checkpoint is None else ""
    ended = {
        "state": "interrupted",
        "step": checkpoint or 0,
        "message": f"The machine it was {status.state} on is gone; this is the run's copy.",
        "hint": goes_on or f"Resume continues from step {checkpoint}.",
        "ended_utc": utc_now(),
    }
    return status.model_copy(update={**nobody, **ended})


def _lead_to_best(draft: Run, run: Run) -> None:
    """A checkpoint names the best one by its folder, which may be another on this machine."""
    for file in draft.checkpoints_dir.glob("checkpoint-*/trainer_state.json"):
        state = json.loads(file.read_bytes())
        best = state.get("best_model_checkpoint")
        here = best and str(run.checkpoints_dir / f"checkpoint-{checkpoint_step(Path(best))}")
        if here != best:
            write_json_atomically(file, {**state, "best_model_checkpoint": here})
