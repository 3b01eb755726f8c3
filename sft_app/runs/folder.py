"""A run is a folder. This module reads and writes it; nothing here knows how training works.

The folder is the contract between the processes: the page and the command line create it and drop requests into it,
the supervisor and the worker write what happens, everyone reads.
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

# A worker that has told how it ended is gone within this.
ENDING_SECONDS = 10.0
CANCELLED = "Cancelled: nothing was kept."
# What saving an adapter leaves behind when it is cut off.
ADAPTER_DRAFTS = (".adapter-new", ".adapter-old")


class Run(RunLogs):
    """One run folder."""

    def record(self) -> RunRecord:
        """Raises: RunError when `settings.json` is missing or not what this version writes."""
        try:
            return RunRecord.model_validate_json(self.settings_file.read_bytes())
        except FileNotFoundError as error:
            raise RunError(f"The settings.json of run {self.id} is missing, so the run can only be deleted.") from error
        except (OSError, ValidationError) as error:
            raise RunError(
                f"The settings.json of run {self.id} cannot be read, so the run can only be deleted."
            ) from error

    def status(self) -> RunStatus:
        """What `status.json` says, except that work without a living process is `interrupted`.

        A worker that was started is alive before anyone could note its number, since it has the lock.
        """
        status = self._read_status()
        if status is None:
            return RunStatus(state="interrupted", message="Its status.json is missing or cannot be read.")
        if status.is_settled() or process_is_alive(status.pid, status.pid_started):
            return status
        if process_is_alive(status.supervisor_pid, status.supervisor_started) or self.has_worker():
            return status
        latest = self._read_status()  # the process may have written how it ended and gone since the first look
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
        except OSError:  # a full disk, say; what is true is told all the same
            return status.model_copy(update=ended)

    def has_worker(self) -> bool:
        """Whether a process works in this folder now, whatever its status says."""
        return is_locked(self.lock_file)

    @contextmanager
    def locked(self, seconds: float = 2.0) -> Iterator[bool]:
        """The folder to this process alone while the block runs; False when another has it.

        A worker has it from its supervisor. Raises: FileNotFoundError when the run has been deleted.
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
        """Change the named fields; the first and the last change of a working state set the times."""
        status = RunStatus.model_validate({**(self._read_status() or RunStatus()).model_dump(), **changes})
        if "started_utc" in changes and "started_moment" not in changes:
            status.started_moment = None  # what was measured belongs to another beginning
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
        """And a cancellation."""
        self.stop_file.unlink(missing_ok=True)
        self.cancel_file.unlink(missing_ok=True)

    def request_cancel(self) -> None:
        self.cancel_file.touch()
        self.request_stop()

    def cancel_is_requested(self) -> bool:
        return self.cancel_file.exists()

    def finish_cancel(self) -> RunStatus:
        """Take away all that was learnt, and what was measured of it; no process may work on the run any more."""
        for name in (self.adapter_dir.name, self.checkpoints_dir.name, self.tokens_dir.name, *ADAPTER_DRAFTS):
            shutil.rmtree(self.path / name, ignore_errors=True)
        for file in (self.scorecard_file, self.base_scores_file, self.pairs_file, self.votes_file):
            file.unlink(missing_ok=True)
        return self.update_status(state="stopped", message=CANCELLED, hint="", kept_step=None)
