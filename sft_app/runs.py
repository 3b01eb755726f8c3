"""A run is a folder. This module reads and writes it; nothing here knows how training works.

The folder is the contract between the processes: the page and the command line create it and drop requests into it,
the supervisor and the worker write what happens, everyone reads.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sft_app.errors import RunError
from sft_app.files import append_jsonl, read_jsonl, write_json_atomically, write_jsonl_atomically
from sft_app.processes import inherited_lock, is_locked, moment, process_is_alive, seconds_since, take_lock
from sft_app.records import ENDED as ENDED  # what a run says of itself is named from here
from sft_app.records import RESUMABLE as RESUMABLE
from sft_app.records import ModelRecord as ModelRecord
from sft_app.records import RunRecord, RunStatus
from sft_app.records import SourceRecord as SourceRecord

LOCK_FILE = "worker.lock"
# The descriptor of its run's lock, for the worker that is started with it.
LOCK_VARIABLE = "SFT_APP_RUN_LOCK"
# A worker that has told how it ended is gone within this.
ENDING_SECONDS = 10.0
CANCELLED = "Cancelled: nothing was kept."
# What saving an adapter leaves behind when it is cut off.
ADAPTER_DRAFTS = (".adapter-new", ".adapter-old")
ID_TIME = "%Y%m%d-%H%M%S-"
ID_DIGITS = "23456789abcdefghijkmnopqrstuvwxyz"  # none that is mistaken for another


@dataclass(frozen=True)
class Run:
    """One run folder."""

    path: Path

    @property
    def id(self) -> str:
        return self.path.name

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
        return self.path.parents[1] / "exports" / f"{self.id}-merged"

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
        given = os.environ.get(LOCK_VARIABLE, "")
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
        try:
            return "\n".join(self.log_file.read_text(errors="replace").splitlines()[-lines:])
        except FileNotFoundError:
            return ""


def app_home() -> Path:
    """`$SFT_APP_HOME`, or `workspace` in the current folder: where runs and the converted starter live."""
    return Path(os.environ.get("SFT_APP_HOME") or "workspace").resolve()


def runs_dir(home: Path) -> Path:
    return home / "runs"


def create_run(
    home: Path, record: RunRecord, train: Iterable[dict[str, Any]], heldout: Iterable[dict[str, Any]]
) -> Run:
    """Writes a queued run. The folder appears whole: a supervisor that looks in the middle sees none of it.

    Raises:
        RunError: the disk is full or the folder cannot be written.
    """
    runs = runs_dir(home)
    run = Run(runs / new_run_id(after=max((other.id for other in list_runs(home)), default="")))
    draft = Run(runs / f".{run.id}")
    try:
        (draft.path / "data").mkdir(parents=True)
        write_jsonl_atomically(draft.train_file, train)
        write_jsonl_atomically(draft.heldout_file, heldout)
        write_json_atomically(draft.path / "settings.json", record.model_dump())
        write_json_atomically(draft.path / "status.json", RunStatus(created_utc=record.created_utc).model_dump())
        draft.path.rename(run.path)
    except OSError as error:
        raise RunError(f"The run could not be written to {runs}: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(draft.path, ignore_errors=True)  # nothing is left of it when it has been renamed
    return run


def list_runs(home: Path) -> list[Run]:
    """Every run, the newest first."""
    folder = runs_dir(home)
    if not folder.is_dir():
        return []
    return [Run(path) for path in sorted(folder.iterdir(), reverse=True) if path.is_dir() and path.name[0] != "."]


def find_run(home: Path, reference: str) -> Run:
    """The run with this id, this unique prefix of an id, or the newest for `latest`.

    Raises:
        RunError: there is none, or there are several.
    """
    runs = list_runs(home)
    if not runs:
        raise RunError(f"There are no runs in {runs_dir(home)} yet.")
    return choose_run(runs, reference)


def choose_run(runs: Sequence[Run], reference: str) -> Run:
    """As `find_run`, of these, which begin with the newest."""
    if not runs:
        raise RunError("There are no runs yet.")
    if reference == "latest":
        return runs[0]
    found = [run for run in runs if run.id == reference] or [run for run in runs if run.id.startswith(reference)]
    if not reference or not found:
        raise RunError(f"There is no run {reference!r}. `python -m sft_app runs` lists them.")
    if len(found) > 1:
        raise RunError(
            f"{reference!r} matches {len(found)} runs ({found[-1].id} … {found[0].id}). Give more of the id."
        )
    return found[0]


def queued_runs(home: Path) -> list[Run]:
    """The waiting runs in the order in which they will run: as people moved them, then as they were filed."""
    waiting = [run for run in reversed(list_runs(home)) if run.status().state == "queued"]
    places = {run_id: place for place, run_id in enumerate(_moved_runs(home))}
    return sorted(waiting, key=lambda run: places.get(run.id, len(places)))


def move_in_queue(home: Path, run: Run, places: int) -> None:
    """Moves a waiting run so many places later, or earlier if negative; the ends of the queue stop it.

    Raises: RunError when the run is not waiting.
    """
    order = [other.id for other in queued_runs(home)]
    if run.id not in order:
        raise RunError(f"Run {run.id} is {run.status().state}; only a queued run can be moved.")
    place = order.index(run.id)
    order.insert(max(0, place + places), order.pop(place))
    write_json_atomically(_queue_file(home), order)


def _queue_file(home: Path) -> Path:
    """A file apart from the runs' own: moving one changes no `status.json` that its worker may be writing."""
    return home / "queue.json"


def _moved_runs(home: Path) -> list[str]:
    try:
        order = json.loads(_queue_file(home).read_bytes())
    except (OSError, ValueError):
        return []
    return [run_id for run_id in order if isinstance(run_id, str)] if isinstance(order, list) else []


def delete_run(run: Run) -> None:
    """With the model that was merged from it. Raises: RunError while the run is working; it has to be stopped first."""
    check_settled(run, "stop it before deleting it")
    with run.locked(ENDING_SECONDS) as is_ours:
        if not is_ours:
            raise RunError(f"Run {run.id} still has a training process. Delete it once that has ended.")
        check_settled(run, "stop it before deleting it")
        shutil.rmtree(run.path)
    for folder in run.merged_dir.parent.glob(f"*{run.merged_dir.name}*"):  # also what a killed merge left
        shutil.rmtree(folder, ignore_errors=True)


def check_settled(run: Run, hint: str) -> None:
    """Raises: RunError while the run is working; the hint says what to do."""
    status = run.status()
    if not status.is_settled():
        raise RunError(f"Run {run.id} is {status.state}; {hint}.")


def new_run_id(after: str = "") -> str:
    """Sorts by time, to the microsecond, and is safe as a folder name, e.g. `20261122-153012-k3f9`.

    It comes after the id `after` even where the clock has been set back since, so that the newest run is the last.
    """
    now = max(datetime.now(UTC), _time_of(after) + timedelta(microseconds=1))
    rest, letters = now.microsecond, ""
    for _ in range(4):
        rest, digit = divmod(rest, len(ID_DIGITS))
        letters = ID_DIGITS[digit] + letters
    return now.strftime(ID_TIME) + letters


def _time_of(run_id: str) -> datetime:
    """When a run with this id was made; long ago for what is no such id."""
    try:
        moment = datetime.strptime(run_id[:-4], ID_TIME).replace(tzinfo=UTC)
        microseconds = sum(
            ID_DIGITS.index(letter) * len(ID_DIGITS) ** place for place, letter in enumerate(reversed(run_id[-4:]))
        )
        return moment + timedelta(microseconds=microseconds)
    except ValueError:
        return datetime.fromtimestamp(0, UTC)


def utc_now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
