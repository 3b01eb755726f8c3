"""The order in which waiting runs will be trained."""

from __future__ import annotations

import json
from pathlib import Path

from sft_app.errors import RunError
from sft_app.runs.directory import list_runs
from sft_app.runs.folder import Run
from sft_app.runtime.files import write_json_atomically


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
