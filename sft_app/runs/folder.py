"""A run is a folder. This module reads and writes it; nothing here knows how training works.

The folder is the contract between the processes: the page and the command line create it and drop requests into it,
the supervisor and the worker write what happens, everyone reads.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sft_app.errors import RunError
from sft_app.runs.records import ENDED, RunRecord, RunStatus, utc_now
from sft_app.runtime.environment import RUN_LOCK_VARIABLE
from sft_app.runtime.files import append_jsonl, last_lines, read_jsonl, write_json_atomically, write_jsonl_atomically
from sft_app.runtime.home import exports_dir
from sft_app.runtime.locks import inherited_lock, is_locked, take_lock
from sft_app.runtime.processes import moment, process_is_alive, seconds_since

LOCK_FILE = "worker.lock"
# A worker that has told how it ended is gone within this.
ENDING_SECONDS = 10.0
CANCELLED = "Cancelled: nothing was kept."
# What saving an adapter leaves behind when it is cut off.
ADAPTER_DRAFTS = (".adapter-new", ".adapter-old")


@dataclass(frozen=True)
class Run:
    """One run folder."""

    path: Path

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def home(self) -> Path:
        """The app's home folder that this run is in."""
        return self.path.parents[1]

    @property
    def train_file(self) -> Path:
        return self.path / "data" / "train.jsonl"

    @property
    def heldout_file(self) -> Path:
        return self.path / "data" / "heldout.jsonl"

    @property
    def adapter_dir(self) -> Path:
        return self.path / "adapter"

    @property
    def merged_dir(self) -> Path:
        """Where the page puts base and adapter as one model: below the home, so that no copy of the run has it."""
        return exports_dir(self.home) / f"{self.id}-merged"

    @property
    def checkpoints_dir(self) -> Path:
        return self.path / "checkpoints"

    @property
    def tokens_dir(self) -> Path:
        return self.path / "tokens"

    @property
    def log_file(self) -> Path:
        return self.path / "train.log"

    @property
    def metrics_file(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def base_scores_file(self) -> Path:
        return self.path / "base_scores.jsonl"

    @property
    def pairs_file(self) -> Path:
        return self.path / "answer_pairs.jsonl"

    @property
    def votes_file(self) -> Path:
        return self.path / "votes.jsonl"

    @property
    def snapshots_file(self) -> Path:
        return self.path / "snapshots.jsonl"

    def has_adapter(self) -> bool:
        return self.adapter_dir.is_dir()

    def record(self) -> RunRecord:
        """Raises: RunError when `settings.json` is missing or not what this version writes."""
        try:
            return RunRecord.model_validate_json((self.path / "settings.json").read_bytes())
        except FileNotFoundError as error:
            raise RunError(f"The settings.json of run {self.id} is missing, so the run can only be deleted.") from error
        except ValidationError as error:
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

    @property
    def lock_file(self) -> Path:
        """There from the first worker on; no copy of the run has it."""
        return self.path / LOCK_FILE

    def has_worker(self) -> bool:
        """Whether a process works in this folder now, whatever its status says."""
        return is_locked(self.lock_file)

    @contextmanager
    def locked(self, seconds: float = 2.0) -> Iterator[bool]:
        """The folder to this process alone while the block runs; False when another has it.

        A worker has it from its supervisor. Raises: FileNotFoundError when the run has been deleted.
        """
        given = os.environ.get(RUN_LOCK_VARIABLE, "")
        lock = inherited_lock(self.lock_file, int(given)) if given else None
        lock = take_lock(self.lock_file, seconds) if lock is None else lock
        try:
            yield lock is not None
        finally:
            if lock is not None:
                os.close(lock)

    def update_status(self, **changes: Any) -> RunStatus:
        """Changes the named fields; the first and the last change of a working state set the times."""
        status = RunStatus.model_validate({**(self._read_status() or RunStatus()).model_dump(), **changes})
        if "started_utc" in changes and "started_moment" not in changes:
            status.started_moment = None  # what was measured belongs to another beginning
        if "state" in changes:
            status.ended_utc = utc_now() if status.has_ended() else None
            status.worked_seconds = seconds_since(status.started_moment) if status.has_ended() else None
            if status.state not in ("queued", *ENDED) and status.started_utc is None:
                status.started_utc, status.started_moment = utc_now(), moment()
        write_json_atomically(self.path / "status.json", status.model_dump())
        return status

    def _read_status(self) -> RunStatus | None:
        try:
            return RunStatus.model_validate_json((self.path / "status.json").read_bytes())
        except (OSError, ValidationError):
            return None

    def metrics(self) -> list[dict[str, Any]]:
        return read_jsonl(self.metrics_file)

    def snapshots(self) -> list[dict[str, Any]]:
        return read_jsonl(self.snapshots_file)

    def scorecard(self) -> dict[str, Any] | None:
        try:
            return json.loads((self.path / "scorecard.json").read_bytes())
        except (OSError, ValueError):
            return None

    def keep_scorecard(self, card: dict[str, Any]) -> None:
        write_json_atomically(self.path / "scorecard.json", card)

    def log_metric(self, **values: Any) -> None:
        append_jsonl(self.metrics_file, values)

    def log_snapshot(self, **values: Any) -> None:
        append_jsonl(self.snapshots_file, values)

    def forget_after(self, step: int) -> None:
        """Drops what was logged after `step`, so that a resumed run does not tell it twice, and answers of weights that
        will be replaced."""
        self.pairs_file.unlink(missing_ok=True)
        for file in (self.metrics_file, self.snapshots_file):
            write_jsonl_atomically(file, [row for row in read_jsonl(file) if row.get("step", 0) <= step])

    def request_stop(self) -> None:
        (self.path / "stop").touch()

    def stop_is_requested(self) -> bool:
        return (self.path / "stop").exists()

    def withdraw_stop(self) -> None:
        """And a cancellation."""
        for name in ("stop", "cancel"):
            (self.path / name).unlink(missing_ok=True)

    def request_cancel(self) -> None:
        (self.path / "cancel").touch()
        self.request_stop()

    def cancel_is_requested(self) -> bool:
        return (self.path / "cancel").exists()

    def finish_cancel(self) -> RunStatus:
        """Takes away all that was learnt, and what was measured of it; no process may work on the run any more."""
        for name in (self.adapter_dir.name, self.checkpoints_dir.name, self.tokens_dir.name, *ADAPTER_DRAFTS):
            shutil.rmtree(self.path / name, ignore_errors=True)
        for file in (self.path / "scorecard.json", self.base_scores_file, self.pairs_file, self.votes_file):
            file.unlink(missing_ok=True)
        return self.update_status(state="stopped", message=CANCELLED, hint="", kept_step=None)

    def log_tail(self, lines: int = 20) -> str:
        return "\n".join(last_lines(self.log_file, lines))
