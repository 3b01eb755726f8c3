"""Create, list, find, queue and delete the runs of a home."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

from sft_app.errors import RunError
from sft_app.runs.folder import ENDING_SECONDS, Run
from sft_app.runs.records import RunRecord, RunStatus
from sft_app.runtime.files import read_json, write_json_atomically, write_jsonl_atomically, write_text_atomically
from sft_app.runtime.home import queue_file, runs_dir

ID_TIME = "%Y%m%d-%H%M%S-"
ID_DIGITS = "23456789abcdefghijkmnopqrstuvwxyz"  # without characters that are easily confused


def create_run(
    home: Path,
    record: RunRecord,
    train: Iterable[dict[str, Any]],
    heldout: Iterable[dict[str, Any]],
    others: Mapping[str, Iterable[dict[str, Any]]] = MappingProxyType({}),
    tests: str = "",
) -> Run:
    """Write a queued run; `tests` is the text of its `tests.yaml`.

    The folder appears only once it is complete, so a supervisor never sees part of it.

    `others` are the rows of further files, by the name of their path in `RunPaths`.

    Raises:
        RunError: the disk is full or the folder cannot be written.
    """
    with appearing_run(home, "run") as (draft, run):
        (draft.path / "data").mkdir()
        write_jsonl_atomically(draft.train_file, train)
        write_jsonl_atomically(draft.heldout_file, heldout)
        for name, rows in others.items():
            write_jsonl_atomically(getattr(draft, name), rows)
        if tests:
            write_text_atomically(draft.tests_file, tests)
        write_json_atomically(draft.settings_file, record.model_dump())
        write_json_atomically(draft.status_file, RunStatus(created_utc=record.created_utc or "").model_dump())
    return run


@contextmanager
def appearing_run(home: Path, what: str) -> Iterator[tuple[Run, Run]]:
    """Yield the empty folder of a new run to write, and the run as which it appears once it is complete.

    If the block fails, nothing remains. `what` is what an error calls it.

    Raises:
        RunError: the disk is full or the folder cannot be written.
    """
    runs = runs_dir(home)
    run = Run(runs / new_run_id(after=max((other.id for other in list_runs(home)), default="")))
    draft = Run(runs / f".{run.id}")
    try:
        draft.path.mkdir(parents=True)
        yield draft, run
        draft.path.rename(run.path)
    except OSError as error:
        raise RunError(f"The {what} could not be written to {runs}: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(draft.path, ignore_errors=True)  # does nothing if it has been renamed


def list_runs(home: Path) -> list[Run]:
    """List all runs, the newest first."""
    folder = runs_dir(home)
    if not folder.is_dir():
        return []
    return [Run(path) for path in sorted(folder.iterdir(), reverse=True) if path.is_dir() and path.name[0] != "."]


def find_run(home: Path, reference: str) -> Run:
    """Find a run by its id or a unique prefix of it; `latest` is the newest run.

    Raises:
        RunError: there is no such run, or there are several.
    """
    runs = list_runs(home)
    if not runs:
        raise RunError(f"There are no runs in {runs_dir(home)} yet.")
    return choose_run(runs, reference)


def choose_run(runs: Sequence[Run], reference: str) -> Run:
    """Choose from these runs, the newest first, as `find_run` does."""
    if not runs:
        raise RunError("There are no runs yet.")
    if reference == "latest":
        return runs[0]
    matches = [run for run in runs if run.id == reference] or [run for run in runs if run.id.startswith(reference)]
    if not reference or not matches:
        raise RunError(f"There is no run {reference!r}. `python -m sft_app runs` lists them.")
    if len(matches) > 1:
        raise RunError(
            f"{reference!r} matches {len(matches)} runs ({matches[-1].id} … {matches[0].id}). "
            "Use more characters of the id."
        )
    return matches[0]


def delete_run(run: Run) -> None:
    """Delete a run and its merged model. Raises: RunError while the run is active; stop it first."""
    check_settled(run, "stop it before deleting it")
    with run.locked(ENDING_SECONDS) as is_ours:
        if not is_ours:
            raise RunError(f"Run {run.id} still has a training process. Delete it once that has ended.")
        check_settled(run, "stop it before deleting it")
        shutil.rmtree(run.path)
    for folder in run.merged_dir.parent.glob(f"*{run.merged_dir.name}*"):  # includes leftovers of a killed merge
        shutil.rmtree(folder, ignore_errors=True)


def check_settled(run: Run, hint: str) -> None:
    """Check that the run is not active. Raises: RunError with the hint, which says what to do."""
    status = run.status()
    if not status.is_settled():
        raise RunError(f"Run {run.id} is {status.state}; {hint}.")


def new_run_id(after: str = "") -> str:
    """Return an id that sorts by time, to the microsecond, and is a safe folder name, such as `20261122-153012-k3f9`.

    It sorts after the id `after` even if the clock has been set back, so that the newest run is always last.
    """
    now = max(datetime.now(UTC), _time_of(after) + timedelta(microseconds=1))
    rest, letters = now.microsecond, ""
    for _ in range(4):
        rest, digit = divmod(rest, len(ID_DIGITS))
        letters = ID_DIGITS[digit] + letters
    return now.strftime(ID_TIME) + letters


def _time_of(run_id: str) -> datetime:
    """Return when a run with this id was created; the epoch if it is not a valid id."""
    try:
        moment = datetime.strptime(run_id[:-4], ID_TIME).replace(tzinfo=UTC)
        microseconds = sum(
            ID_DIGITS.index(letter) * len(ID_DIGITS) ** power for power, letter in enumerate(reversed(run_id[-4:]))
        )
        return moment + timedelta(microseconds=microseconds)
    except ValueError:
        return datetime.fromtimestamp(0, UTC)


def queued_runs(home: Path) -> list[Run]:
    """Return the queued runs in the order in which they will run: moved runs first, then by creation time."""
    queued = [run for run in reversed(list_runs(home)) if run.status().state == "queued"]
    positions = {run_id: position for position, run_id in enumerate(_moved_runs(home))}
    return sorted(queued, key=lambda run: positions.get(run.id, len(positions)))


def move_in_queue(home: Path, run: Run, positions: int) -> None:
    """Move a queued run this many positions back, or forward if negative, as far as the end of the queue.

    Raises: RunError if the run is not queued.
    """
    order = [other.id for other in queued_runs(home)]
    if run.id not in order:
        raise RunError(f"Run {run.id} is {run.status().state}; only a queued run can be moved.")
    position = order.index(run.id)
    order.insert(max(0, position + positions), order.pop(position))
    write_json_atomically(queue_file(home), order)


def _moved_runs(home: Path) -> list[str]:
    order = read_json(queue_file(home), list) or []
    return [run_id for run_id in order if isinstance(run_id, str)]
