"""Back up runs in a background thread: a working run after each checkpoint, any other after each change."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from sft_app.errors import SettingsError, StorageError
from sft_app.runs.checkpoints import INCOMPLETE_MARK
from sft_app.runs.directory import list_runs
from sft_app.runs.folder import Run
from sft_app.runtime.files import read_json, write_json_atomically
from sft_app.runtime.home import copying_lock_file, restoring_lock_file, storage_state_file
from sft_app.storage.copies import copy_run, delete_pending_copies, delete_run_and_copy, read_record, write_record
from sft_app.storage.restore import restore_runs
from sft_app.storage.stores import Store, open_store

SUPERVISOR_SECONDS, PAGE_SECONDS = 2.0, 10.0
FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 15.0, 600.0
MAX_LOCK_WAIT_SECONDS = 60.0  # for another process that copies
NICENESS = 10
_WATCHED_FILES = (
    "",
    "status.json",
    "scorecard.json",
    "answer_pairs.jsonl",
    "votes.jsonl",
    "judgements.jsonl",
    "tests.yaml",
    "metrics.jsonl",
    "train.log",
)
logger = logging.getLogger("sft_app")


@contextmanager
def back_up_in_background(home: Path, every_seconds: float, restores: bool = False) -> Iterator[None]:
    """Back up runs while the block runs, and again at its end. No storage error reaches the block.

    With `restores`, missing runs are restored first, in the background. The page uses this and does not wait at the
    end.
    """
    try:
        store = open_store()
    except SettingsError as error:
        _write_state(home, "", str(error))
        yield
        return
    if store is None:
        yield
        return
    worker = BackupWorker(home, store)
    ending = threading.Event()
    thread = threading.Thread(target=worker.work, args=(ending, every_seconds, restores), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join(5.0 if restores else None)


class BackupWorker:
    """Copies and restores runs. There is one per process; only one per machine works at a time."""

    def __init__(self, home: Path, store: Store) -> None:
        self.home, self.store = home, store
        self._lock, self._restore_lock = FileLock(copying_lock_file(home)), FileLock(restoring_lock_file(home))
        self._seen: dict[str, Any] = {}
        self._restore_problem = ""  # why runs could not be restored
        self._backup_pause, self._restore_pause = _Pause(), _Pause()

    def work(self, ending: threading.Event, every_seconds: float, restores: bool) -> None:
        """Work until `ending`, and then one last time."""
        with suppress(OSError, AttributeError):  # training has priority; Linux sets it per thread
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        is_last = False
        while not is_last:
            is_last = ending.is_set()
            if restores and not is_last and self._restore_pause.is_over():
                with suppress(Timeout), self._restore_lock.acquire(timeout=0):  # other processes may copy meanwhile
                    restores = not self.restore()
            with suppress(Timeout), self._lock.acquire(timeout=MAX_LOCK_WAIT_SECONDS if is_last else 0):
                if is_last or self._backup_pause.is_over():
                    self.back_up_changes()
            ending.wait(every_seconds)

    def restore(self) -> bool:
        """Restore missing runs, and return whether all of them are back."""
        try:
            reasons = [reason for _, reason in restore_runs(self.home, self.store) if reason]
        except Exception as error:  # third-party client and storage may fail in any way; the page works without
            reasons = [_error_message(error)]
        self._restore_problem = next(iter(reasons), "")
        self._restore_pause.begin(longer=bool(reasons))
        self._write_state("")
        return not reasons

    def back_up_changes(self) -> None:
        """Copy what has changed since the last time. After a failure, pause before trying again."""
        trouble = ""
        try:
            delete_pending_copies(self.home, self.store)
            for run in list_runs(self.home):
                trouble = self._back_up_run(run) or trouble
        except Exception as error:  # nothing in the storage may end this thread
            trouble = _error_message(error)
        self._backup_pause.begin(longer=bool(trouble))
        self._write_state(trouble)

    def _back_up_run(self, run: Run) -> str:
        """Copy a run if it has changed, and return what went wrong.

        Raises: StorageError if trying other runs is useless.
        """
        stamp = _change_stamp(run)
        if self._seen.get(run.id) == stamp:
            return ""
        try:
            if copy_run(self.store, run):
                self._seen[run.id] = stamp
        except StorageError as error:
            _record_problem(run, str(error))
            raise
        except Exception as error:  # an error in one run must not stop the others
            _record_problem(run, _error_message(error))
            return _error_message(error)
        return ""

    def _write_state(self, trouble: str) -> None:
        _write_state(self.home, self.store.location, " ".join(filter(None, (self._restore_problem, trouble))))


class _Pause:
    """Waits before the next try: not at all after a success, twice as long after each failure in a row."""

    def __init__(self) -> None:
        self._seconds, self._until = FIRST_PAUSE_SECONDS, 0.0

    def begin(self, longer: bool) -> None:
        """Start a pause: longer after a failure, none after a success."""
        self._until = time.monotonic() + self._seconds if longer else 0.0
        self._seconds = min(2 * self._seconds, MAX_PAUSE_SECONDS) if longer else FIRST_PAUSE_SECONDS

    def is_over(self) -> bool:
        """Return whether the pause is over."""
        return time.monotonic() >= self._until


def storage_state(home: Path) -> dict[str, str]:
    """Return `place`, where runs are copied to, and `trouble`, the last error; both may be empty."""
    state = read_json(storage_state_file(home), dict) or {}
    return {key: str(state.get(key, "")) for key in ("place", "trouble")}


def delete_everywhere(home: Path, run: Run) -> str:
    """Delete a run and its copy. Returns why the copy could not be deleted; an open page tries again.

    Raises: RunError while the run is working.
    """
    delete_run_and_copy(home, run)
    try:
        store = open_store()
        if store is not None:
            delete_pending_copies(home, store)
    except (SettingsError, StorageError) as error:
        return f"Its copy has not been deleted yet: {error}"
    return ""


def _change_stamp(run: Run) -> Any:
    """Return a value that stays equal while nothing changes.

    It covers the checkpoints of a working run, and every changeable file of any other.
    """
    folders = run.checkpoints_dir.glob("checkpoint-*")
    checkpoints = _modification_times(*(folder for folder in folders if not (folder / INCOMPLETE_MARK).exists()))
    status = run.status()
    if not status.is_settled():
        return checkpoints
    return (
        status.state,
        checkpoints,
        _modification_times(*(run.path / name for name in _WATCHED_FILES), run.adapter_dir),
    )


def _modification_times(*paths: Path) -> list[tuple[str, int]]:
    times = []
    for path in sorted(paths):
        with suppress(OSError):
            times.append((path.name, path.stat().st_mtime_ns))
    return times


def _record_problem(run: Run, trouble: str) -> None:
    with suppress(OSError):  # a full disk, or the run has been deleted
        write_record(run, read_record(run).model_copy(update={"trouble": trouble}))


def _error_message(error: Exception) -> str:
    if isinstance(error, StorageError):
        return str(error)
    logger.error("unexpected error while copying runs", exc_info=error)
    return f"Copying the runs failed unexpectedly ({type(error).__name__})."


def _write_state(home: Path, location: str, trouble: str) -> None:
    if storage_state(home) != {"place": location, "trouble": trouble}:
        with suppress(OSError):
            write_json_atomically(storage_state_file(home), {"place": location, "trouble": trouble})
