"""From settings to a queued run, and what else can be asked of one: stop, resume."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from sft_app.data.reading import DataFile, Reading, no_conversation, open_data
from sft_app.data.sources.data_files import file_sha256
from sft_app.data.sources.hub import read_source
from sft_app.data.split import RelatedRows, Split, hold_out
from sft_app.errors import DataError, RunError
from sft_app.models.catalog import ModelRef, resolve_model
from sft_app.models.hardware import describe_machine
from sft_app.runs.directory import create_run, list_runs
from sft_app.runs.folder import Run
from sft_app.runs.records import RESUMABLE, ModelRecord, RunRecord, SourceRecord, utc_now
from sft_app.runtime.environment import package_versions
from sft_app.settings import RunSettings
from sft_app.training.optional_deps import check_extras
from sft_app.training.preflight.disk import disk_needed_gib
from sft_app.training.supervisor import ensure_supervisor

DOUBLE_CLICK_SECONDS = 5.0


def submit_run(settings: RunSettings, home: Path, owner: str = "") -> Run:
    """Checks data, model and disk, writes the run and sets it going; it waits its turn if another is at work.

    The same settings again within seconds are a second click, not a second run.

    Raises:
        AppError: the data or the model cannot be used, or the disk is full; nothing has been written then.
    """
    run = _just_submitted(settings, home, owner) or create_queued_run(settings, home, owner)
    ensure_supervisor(home)
    return run


def create_queued_run(settings: RunSettings, home: Path, owner: str = "") -> Run:
    """As `submit_run`, without starting anything."""
    check_extras(settings)
    file = open_data(settings, home)
    reading, split = _read_and_split(file, settings)
    model = resolve_model(settings.model, settings.revision, home)
    _check_disk(home, settings, model, file.path.stat().st_size)
    record = RunRecord(
        settings=settings,
        source=SourceRecord(
            path=str(file.path),
            sha256=file_sha256(file.path),
            format=file.settings.format,
            columns=file.settings.columns,
            hub=read_source(file.path),
            rows=reading.rows,
            conversations=len(split.is_heldout),
            rejected=sum(not row.by_choice for row in reading.rejected),
        ),
        model=ModelRecord(name=model.name, location=model.location, revision=model.revision, source=model.source),
        versions=package_versions(),
        machine=describe_machine(),
        owner=owner,
        created_utc=utc_now(),
    )
    return create_run(home, record, _rows_where(file, ~split.is_heldout), _rows_where(file, split.is_heldout))


def stop_run(run: Run) -> None:
    """Asks for a graceful stop: the step at work is finished and the adapter so far is saved.

    Raises: RunError when the run has already ended.
    """
    status = run.status()
    if status.has_ended():
        raise RunError(f"Run {run.id} is not running: it is {status.state}.")
    run.request_stop()
    if status.state == "queued":
        run.update_status(state="stopped", message="Stopped before it began.")


def cancel_run(run: Run) -> None:
    """Ends a run at once and keeps nothing of it but its entry: no adapter, no checkpoints.

    Raises: RunError when the run has already ended.
    """
    status = run.status()
    if status.has_ended():
        raise RunError(f"Run {run.id} is not running: it is {status.state}.")
    run.request_cancel()
    if status.state == "queued":
        run.finish_cancel()


def resume_run(run: Run, home: Path) -> None:
    """Puts a run that ended early back into the queue; it goes on from its last complete checkpoint.

    Raises: RunError when there is nothing to resume.
    """
    status = run.status()
    if status.state not in RESUMABLE:
        raise RunError(f"Run {run.id} is {status.state}; only a stopped, failed or interrupted run can be resumed.")
    run.record()
    run.withdraw_stop()
    run.update_status(state="queued", message="", hint="", pid=None, pid_started=None, started_utc=None)
    ensure_supervisor(home)


def _just_submitted(settings: RunSettings, home: Path, owner: str) -> Run | None:
    for run in list_runs(home)[:1]:
        try:
            record = run.record()
        except RunError:  # a broken folder is nobody's second click
            return None
        if record.created_utc is None:
            return None
        age = datetime.now(UTC) - datetime.fromisoformat(record.created_utc)
        is_same = (record.settings, record.owner) == (settings, owner)
        # A run from the future was made before the clock was set back.
        if is_same and 0 <= age.total_seconds() < DOUBLE_CLICK_SECONDS and not run.status().has_ended():
            return run
    return None


def _read_and_split(file: DataFile, settings: RunSettings) -> tuple[Reading, Split]:
    """One pass, which keeps no conversation. Raises: DataError when there are too few."""
    reading, related = Reading(file), RelatedRows()
    for example in reading:
        related.add(example.row, example.conversation)
    if not len(related.rows):
        raise no_conversation(file, reading.rejected)
    return reading, hold_out(related.groups(), settings)


def _rows_where(file: DataFile, chosen: np.ndarray) -> Iterator[dict[str, Any]]:
    """One more pass, with the conversations at the places where `chosen` is true.

    Raises: DataError when the file has more or fewer conversations than it had.
    """
    for example, is_chosen in zip_longest(Reading(file), chosen):
        if example is None or is_chosen is None:
            raise DataError(f"{file.path.name} changed while it was being read. Try again.")
        if is_chosen:
            yield {"row": example.row, "messages": example.conversation.as_dicts()}


def _check_disk(home: Path, settings: RunSettings, model: ModelRef, data_bytes: int) -> None:
    home.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(home).free / 2**30
    needed = disk_needed_gib(settings, model.folder(home), data_bytes)
    if free < needed:
        raise RunError(
            f"Only {free:.2f} GiB is free in {home}, but a run needs at least {needed:.3g} GiB. Free up space."
        )
