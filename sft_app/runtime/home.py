"""The home folder and its layout: where each thing that the app keeps is."""

from __future__ import annotations

import os
from pathlib import Path

from sft_app.runtime.environment import HOME_VARIABLE


def app_home() -> Path:
    """`$SFT_APP_HOME`, or `workspace` in the current folder."""
    return Path(os.environ.get(HOME_VARIABLE) or "workspace").resolve()


def runs_dir(home: Path) -> Path:
    """One folder per run, named by its id."""
    return home / "runs"


def dry_runs_dir(home: Path) -> Path:
    """Run folders of dry runs at work; no list of runs shows them."""
    return home / "dry_runs"


def deleted_runs_dir(home: Path) -> Path:
    """One empty file per deleted run whose copy has yet to be deleted, named by the run's id."""
    return home / "deleted"


def models_dir(home: Path) -> Path:
    """The converted starter, and notes on restricted models that were fetched."""
    return home / "models"


def starter_dir(home: Path) -> Path:
    """The converted starter model, an ordinary local model folder."""
    return models_dir(home) / "starter"


def datasets_dir(home: Path) -> Path:
    """Data sets fetched from the Hub."""
    return home / "datasets"


def uploads_dir(home: Path) -> Path:
    """Data files that people uploaded."""
    return home / "uploads"


def cleaned_dir(home: Path) -> Path:
    """Copies of data files that were cleaned on the page."""
    return home / "cleaned"


def exports_dir(home: Path) -> Path:
    """Merged models."""
    return home / "exports"


def queue_file(home: Path) -> Path:
    """The order that people gave to queued runs: a list of ids.

    A file of its own, so that moving a run does not change a `status.json` that its worker may be writing.
    """
    return home / "queue.json"


def speedups_file(home: Path) -> Path:
    """How much faster bfloat16 is than float32 on each processor that this home has been on."""
    return home / "machine.json"


def storage_state_file(home: Path) -> Path:
    """Where runs are copied to, and what went wrong at the last attempt."""
    return home / "storage.json"


def machine_lock_file(home: Path) -> Path:
    """Locked by the process that trains or measures; the others wait for the machine."""
    return home / "machine.lock"


def copying_lock_file(home: Path) -> Path:
    """Locked by the process that copies runs to the storage."""
    return home / "copying.lock"


def restoring_lock_file(home: Path) -> Path:
    """Locked by the process that brings runs back from the storage."""
    return home / "restoring.lock"


def app_log_file(home: Path) -> Path:
    """What went wrong while the page was served."""
    return home / "app.log"


def supervisor_log_file(home: Path) -> Path:
    """What supervisors printed."""
    return home / "supervisor.log"
