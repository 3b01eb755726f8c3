"""Read and write a run's folder. Nothing here depends on how training works.

All processes communicate through the folder: the page and the command line create it and write requests into it, the
supervisor and the worker report what happens, and everyone reads it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pydantic import ValidationError

from sft_app.errors import RunError
from sft_app.runs.logs import RunLogs
from sft_app.runs.records import ENDED, RunRecord, RunStatus, utc_now
from sft_app.runtime.environment import RUN_LOCK_VARIABLE
from sft_app.runtime.files import read_json, write_json_atomically
from sft_app.runtime.locks import inherited_lock, is_locked, take_lock
from sft_app.runtime.processes import moment, process_is_alive, seconds_since

# A worker exits within this time after it has written how it ended.
ENDING_SECONDS = 10.0
CANCELLED = "Cancelled: nothing was kept."
# Folders that an interrupted save of an adapter leaves behind.
ADAPTER_DRAFTS = (".adapter-new", ".adapter-old")


class Run(RunLogs):
    """A run folder."""

    def record(self) -> RunRecord:
        """Read `settings.json`. Raises: RunError if it is missing, invalid or of a newer version."""
        try:
            record = RunRecord.model_validate_json(self.settings_file.read_bytes())
            record.settings.batches_per_step()  # raises ValueError; both are chosen when a run is created
            record.settings.passes()
            return record
        except FileNotFoundError as error:
            raise RunError(f"The settings.json of run {self.id} is missing, so the run can only be deleted.") from error
        except (OSError, ValueError) as error:  # pydantic's errors are ValueErrors
            if newer := _unknown_settings(error):
                raise RunError(
                    f"The settings.json of run {self.id} has settings that this version of the app does not know: "
                    f"{', '.join(newer)}. "
                    "A newer version of the app may have written them: restart the app, or update it, to use the run."
                ) from error
            raise RunError(
                f"The settings.json of run {self.id} cannot be read, so the run can only be deleted."
            ) from error

    def status(self) -> RunStatus:
        """Read `status.json`; an active run without a living process counts as `interrupted`.

        A worker that has just started counts as alive before its pid is recorded, because it has the run's lock.
        """
        status = self._read_status()
        if status is None:
            return RunStatus(state="interrupted", message="Its status.json is missing or cannot be read.")
        if status.is_settled() or process_is_alive(status.pid, status.pid_started):
            return status
        if process_is_alive(status.supervisor_pid, status.supervisor_started) or self.has_worker():
            return status
        latest = self._read_status()  # the process may have written its end and exited in the meantime
        if latest is None or latest != status:
            return latest or status
        if self.cancel_is_requested():
            return self.finish_cancel()
        ended: dict[str, Any] = {
            "state": "interrupted",
            "message": f"The training process exited without an error message while {status.state}.",
            "hint": "Resume continues from the last checkpoint.",
        }
        try:
            return self.update_status(**ended)
        except OSError:  # such as a full disk; the correct status is returned anyway
            return status.model_copy(update=ended)

    def has_worker(self) -> bool:
        """Return whether a process is working in this folder now, whatever its status says."""
        return is_locked(self.lock_file)

    @contextmanager
    def locked(self, seconds: float = 2.0) -> Iterator[bool]:
        """Lock the run for this process within the block; yield False if another process has it.

        A worker inherits the lock from its supervisor. Raises: FileNotFoundError if the run has been deleted.
        """
        descriptor = os.environ.get(RUN_LOCK_VARIABLE, "")
        lock = inherited_lock(self.lock_file, int(descriptor)) if descriptor else None
        lock = take_lock(self.lock_file, seconds) if lock is None else lock
        try:
            yield lock is not None
        finally:
            if lock is not None:
                os.close(lock)

    def update_status(self, **changes: Any) -> RunStatus:
        """Change these fields of the status. Entering and leaving an active state sets the times."""
        status = RunStatus.model_validate({**(self._read_status() or RunStatus()).model_dump(), **changes})
        if "started_utc" in changes and "started_moment" not in changes:
            status.started_moment = None  # it belongs to the previous start
        if "state" in changes:
            status.ended_utc = utc_now() if status.has_ended() else None
            status.worked_seconds = seconds_since(status.started_moment) if status.has_ended() else None
            if status.state not in ("queued", *ENDED) and status.started_utc is None:
                status.started_utc, status.started_moment = utc_now(), moment()
        write_json_atomically(self.status_file, status.model_dump())
        return status

    def _read_status(self) -> RunStatus | None:
        return read_json(self.status_file, RunStatus)

    def request_stop(self) -> None:
        self.stop_file.touch()

    def stop_is_requested(self) -> bool:
        return self.stop_file.exists()

    def withdraw_stop(self) -> None:
        """Withdraw a requested stop or cancellation."""
        self.stop_file.unlink(missing_ok=True)
        self.cancel_file.unlink(missing_ok=True)

    def request_cancel(self) -> None:
        self.cancel_file.touch()
        self.request_stop()

    def cancel_is_requested(self) -> bool:
        return self.cancel_file.exists()

    def finish_cancel(self) -> RunStatus:
        """Delete everything learned and measured; no process may be working on the run any more."""
        for name in (self.adapter_dir.name, self.checkpoints_dir.name, self.tokens_dir.name, *ADAPTER_DRAFTS):
            shutil.rmtree(self.path / name, ignore_errors=True)
        measured = (self.scorecard_file, self.base_scores_file, self.evaluations_file, self.strength_file)
        for file in (*measured, self.pairs_file, self.votes_file, self.judgements_file):
            file.unlink(missing_ok=True)
        return self.update_status(state="stopped", message=CANCELLED, hint="", kept_step=None)


def _unknown_settings(error: Exception) -> list[str]:
    """Return the settings that make a record unreadable if nothing else does: they are of a newer version."""
    faults = error.errors() if isinstance(error, ValidationError) else []
    unknown = [str(fault["loc"][-1]) for fault in faults if fault["type"] == "extra_forbidden"]
    return unknown if len(unknown) == len(faults) else []
