"""A thread that keeps copies up to date: after each checkpoint of a working run, after each change of any other."""

from __future__ import annotations

import json
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
from sft_app.runtime.files import write_json_atomically
from sft_app.runtime.home import copying_lock_file, restoring_lock_file, storage_state_file
from sft_app.storage.copies import copy_run, delete_run_and_copy, follow_deletions, read_record, write_record
from sft_app.storage.restoring import restore_runs
from sft_app.storage.stores import Store, open_store

SUPERVISOR_SECONDS, PAGE_SECONDS = 2.0, 10.0
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 15.0, 600.0
LONGEST_WAIT_SECONDS = 60.0  # for another process that copies
NICENESS = 10
_LOOKED_AT = ("", "status.json", "scorecard.json", "answer_pairs.jsonl", "votes.jsonl", "metrics.jsonl", "train.log")
logger = logging.getLogger("sft_app")


@contextmanager
def keeping_copies(home: Path, every_seconds: float, restores: bool = False) -> Iterator[None]:
    """Copies runs while the block runs, and once more at its end; errors of the storage never reach the block.

    With `restores`, runs that are missing here are restored first, in the background. The page does this, and its end
    does not wait long for a last copy either.
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
    keeper = Keeper(home, store)
    ending = threading.Event()
    thread = threading.Thread(target=keeper.work, args=(ending, every_seconds, restores), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join(5.0 if restores else None)


class Keeper:
    """Copies and restores the runs of a home. Each process has its own, but only one on a machine works at a time."""

    def __init__(self, home: Path, store: Store) -> None:
        self.home, self.store = home, store
        self._lock, self._restore_lock = FileLock(copying_lock_file(home)), FileLock(restoring_lock_file(home))
        self._seen: dict[str, Any] = {}
        self._lost = ""  # why runs could not be restored
        self._looking, self._restoring = _Pause(), _Pause()

    def work(self, ending: threading.Event, every_seconds: float, restores: bool) -> None:
        """Copies until `ending` is set, and then once more."""
        with suppress(OSError, AttributeError):  # copying gives way to training; Linux can do this for one thread
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        is_last = False
        while not is_last:
            is_last = ending.is_set()
            if restores and not is_last and self._restoring.is_over():
                with suppress(Timeout), self._restore_lock.acquire(timeout=0):  # others copy meanwhile
                    restores = not self.restore()
            with suppress(Timeout), self._lock.acquire(timeout=LONGEST_WAIT_SECONDS if is_last else 0):
                if is_last or self._looking.is_over():
                    self.look()
            ending.wait(every_seconds)

    def restore(self) -> bool:
        """Restores missing runs; returns whether all of them are back."""
        try:
            reasons = [reason for _, reason in restore_runs(self.home, self.store) if reason]
        except Exception as error:  # the Hub's client may raise anything; the page works without its storage
            reasons = [_sentence(error)]
        self._lost = next(iter(reasons), "")
        self._restoring.begin(longer=bool(reasons))
        self._write_state("")
        return not reasons

    def look(self) -> None:
        """Copies what has changed since the last look; after a failure, the next look comes later."""
        trouble = ""
        try:
            follow_deletions(self.home, self.store)
            for run in list_runs(self.home):
                trouble = self._look_at(run) or trouble
        except Exception as error:  # whatever fails in the storage, this thread has to go on
            trouble = _sentence(error)
        self._looking.begin(longer=bool(trouble))
        self._write_state(trouble)

    def _look_at(self, run: Run) -> str:
        """Copies one run and returns what went wrong. Raises: StorageError if trying the other runs is no use."""
        stamp = _stamp(run)
        if self._seen.get(run.id) == stamp:
            return ""
        try:
            if copy_run(self.store, run):
                self._seen[run.id] = stamp
        except StorageError as error:
            _record_trouble(run, str(error))
            raise
        except Exception as error:  # a fault of this run must not keep others from being copied
            _record_trouble(run, _sentence(error))
            return _sentence(error)
        return ""

    def _write_state(self, trouble: str) -> None:
        _write_state(self.home, self.store.place, " ".join(filter(None, (self._lost, trouble))))


class _Pause:
    """The pause before the next try: none after a success, twice as long after each failure in a row."""

    def __init__(self) -> None:
        self._seconds, self._until = FIRST_PAUSE_SECONDS, 0.0

    def begin(self, longer: bool) -> None:
        self._until = time.monotonic() + self._seconds if longer else 0.0
        self._seconds = min(2 * self._seconds, LONGEST_PAUSE_SECONDS) if longer else FIRST_PAUSE_SECONDS

    def is_over(self) -> bool:
        return time.monotonic() >= self._until


def storage_state(home: Path) -> dict[str, str]:
    """The storage's `place`, and the `trouble` with it at the last look; both may be empty."""
    try:
        state = json.loads(storage_state_file(home).read_bytes())
    except (OSError, ValueError):
        state = {}
    return {key: str(state.get(key, "")) for key in ("place", "trouble")}


def delete_everywhere(home: Path, run: Run) -> str:
    """Deletes a run and its copy; returns why the copy could not be deleted, which an open page tries again.

    Raises: RunError while the run is working.
    """
    delete_run_and_copy(home, run)
    try:
        store = open_store()
        if store is not None:
            follow_deletions(home, store)
    except (SettingsError, StorageError) as error:
        return f"Its copy has not been deleted yet: {error}"
    return ""


def _stamp(run: Run) -> Any:
    """A value that is equal until the run has to be copied again: after a checkpoint, or any change once it ended."""
    folders = run.checkpoints_dir.glob("checkpoint-*")
    checkpoints = _changed_at(*(folder for folder in folders if not (folder / INCOMPLETE_MARK).exists()))
    status = run.status()
    if not status.is_settled():
        return checkpoints
    return status.state, checkpoints, _changed_at(*(run.path / name for name in _LOOKED_AT), run.adapter_dir)


def _changed_at(*paths: Path) -> list[tuple[str, int]]:
    found = []
    for path in sorted(paths):
        with suppress(OSError):
            found.append((path.name, path.stat().st_mtime_ns))
    return found


def _record_trouble(run: Run, trouble: str) -> None:
    with suppress(OSError):  # a full disk, or the run has been deleted
        write_record(run, read_record(run).model_copy(update={"trouble": trouble}))


def _sentence(error: Exception) -> str:
    if isinstance(error, StorageError):
        return str(error)
    logger.error("unexpected error while copying runs", exc_info=error)
    return f"Copying the runs failed unexpectedly ({type(error).__name__})."


def _write_state(home: Path, place: str, trouble: str) -> None:
    if storage_state(home) != {"place": place, "trouble": trouble}:
        with suppress(OSError):
            write_json_atomically(storage_state_file(home), {"place": place, "trouble": trouble})
