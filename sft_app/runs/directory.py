"""All runs of a home: made, listed, found and deleted."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sft_app.errors import RunError
from sft_app.runs.folder import ENDING_SECONDS, Run
from sft_app.runs.records import RunRecord, RunStatus
from sft_app.runtime.files import read_json, write_json_atomically, write_jsonl_atomically
from sft_app.runtime.home import queue_file, runs_dir

ID_TIME = "%Y%m%d-%H%M%S-"
ID_DIGITS = "23456789abcdefghijkmnopqrstuvwxyz"  # none that is mistaken for another


def create_run(
    home: Path, record: RunRecord, train: Iterable[dict[str, Any]], heldout: Iterable[dict[str, Any]]
) -> Run:
    """Write a queued run. The folder appears whole: a supervisor that looks in the middle sees none of it.

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
        write_json_atomically(draft.settings_file, record.model_dump())
        write_json_atomically(draft.status_file, RunStatus(created_utc=record.created_utc or "").model_dump())
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


def queued_runs(home: Path) -> list[Run]:
    """The waiting runs in the order in which they will run: as people moved them, then as they were filed."""
    waiting = [run for run in reversed(list_runs(home)) if run.status().state == "queued"]
    places = {run_id: place for place, run_id in enumerate(_moved_runs(home))}
    return sorted(waiting, key=lambda run: places.get(run.id, len(places)))


def move_in_queue(home: Path, run: Run, places: int) -> None:
    """Move a waiting run so many places later, or earlier if negative; the ends of the queue stop it.

    Raises: RunError when the run is not waiting.
    """
    order = [other.id for other in queued_runs(home)]
    if run.id not in order:
        raise RunError(f"Run {run.id} is {run.status().state}; only a queued run can be moved.")
    place = order.index(run.id)
    order.insert(max(0, place + places), order.pop(place))
    write_json_atomically(queue_file(home), order)


def _moved_runs(home: Path) -> list[str]:
    order = read_json(queue_file(home), list) or []
    return [run_id for run_id in order if isinstance(run_id, str)]
