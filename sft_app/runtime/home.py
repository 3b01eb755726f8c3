"""Define the home folder and its layout: where the app keeps each kind of file."""

from __future__ import annotations

import os
from pathlib import Path

from sft_app.runtime.environment import HOME_VARIABLE


def app_home() -> Path:
    """Return `$SFT_APP_HOME`, or `workspace` in the current folder."""
    return Path(os.environ.get(HOME_VARIABLE) or "workspace").resolve()


def runs_dir(home: Path) -> Path:
    """Return the folder that has one folder per run, named by its id."""
    return home / "runs"


def dry_runs_dir(home: Path) -> Path:
    """Return the folder of active dry runs, which are not listed as runs."""
    return home / "dry_runs"


def deleted_runs_dir(home: Path) -> Path:
    """Return the folder with an empty file, named by the run's id, per deleted run whose copy must still be deleted."""
    return home / "deleted"


def models_dir(home: Path) -> Path:
    """Return the folder of the converted starter and the records of downloaded restricted models."""
    return home / "models"


def starter_dir(home: Path) -> Path:
    """Return the folder of the converted starter, an ordinary local model folder."""
    return models_dir(home) / "starter"


def datasets_dir(home: Path) -> Path:
    """Return the folder of datasets downloaded from the Hub."""
    return home / "datasets"


def uploads_dir(home: Path) -> Path:
    """Return the folder of data files that users uploaded."""
    return home / "uploads"


def cleaned_dir(home: Path) -> Path:
    """Return the folder of cleaned copies of data files made on the page."""
    return home / "cleaned"


def exports_dir(home: Path) -> Path:
    """Return the folder of merged models."""
    return home / "exports"


def queue_file(home: Path) -> Path:
    """Return the file with the order of queued runs that users moved: a list of ids.

    It is a separate file, so that moving a run does not change a `status.json` that its worker may be writing.
    """
    return home / "queue.json"


def speedups_file(home: Path) -> Path:
    """Return the file with the measured speeds of each processor and GPU that this home was used on."""
    return home / "machine.json"


def storage_state_file(home: Path) -> Path:
    """Return the file that says where runs are copied to, and the error of the last attempt."""
    return home / "storage.json"


def machine_lock_file(home: Path) -> Path:
    """Return the lock of the process that trains or measures; others wait for the machine."""
    return home / "machine.lock"


def copying_lock_file(home: Path) -> Path:
    """Return the lock of the process that copies runs to the storage."""
    return home / "copying.lock"


def restoring_lock_file(home: Path) -> Path:
    """Return the lock of the process that restores runs from the storage."""
    return home / "restoring.lock"


def app_log_file(home: Path) -> Path:
    """Return the log of errors that occur while serving the page."""
    return home / "app.log"


def supervisor_log_file(home: Path) -> Path:
    """Return the log with the output of supervisors."""
    return home / "supervisor.log"
