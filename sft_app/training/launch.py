"""Create a queued run from settings, and stop, cancel or resume one."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sft_app.data.reading import open_data
from sft_app.data.sources.data_files import file_sha256
from sft_app.data.sources.hub import read_source
from sft_app.errors import DataError, RunError, SettingsError
from sft_app.evaluation.forgetting.general_questions import read_general_questions
from sft_app.evaluation.suites.kept import kept_text, tests_for_run
from sft_app.models.catalog import ModelRef, resolve_model
from sft_app.models.hardware import describe_machine
from sft_app.models.shapes import read_width
from sft_app.runs.directory import create_run, list_runs
from sft_app.runs.folder import Run
from sft_app.runs.records import RESUMABLE, ModelRecord, RunRecord, RunStatus, SourceRecord, utc_now
from sft_app.runtime.environment import package_versions
from sft_app.runtime.files import iterate_jsonl
from sft_app.runtime.resources import free_disk_gib, shortage
from sft_app.settings import RunSettings, with_recipe, with_schedule, without_replay_of_text
from sft_app.training.estimates.disk import disk_needed_gib
from sft_app.training.optional_deps import check_optional_deps
from sft_app.training.preflight.template_check import check_template_of_run
from sft_app.training.run_data import divide_data, open_heldout_files
from sft_app.training.supervisor import ensure_supervisor

DOUBLE_CLICK_SECONDS = 5.0
NO_REPLAY_OF_TEXT = "No general conversations are mixed in, because the run learns running text."


def submit_run(settings: RunSettings, home: Path, owner: str = "", memory_gib: float | None = None) -> Run:
    """Check data, model and disk, write the run and start it; it is queued if another is at work.

    The same settings again within seconds count as a double click, not a second run. `memory_gib` is the preflight's.

    Raises:
        AppError: the data or the model cannot be used, or the disk is full; nothing has been written then.
    """
    run = _just_submitted(settings, home, owner) or create_queued_run(settings, home, owner, memory_gib)
    ensure_supervisor(home)
    return run


def create_queued_run(settings: RunSettings, home: Path, owner: str = "", memory_gib: float | None = None) -> Run:
    """Create a run as `submit_run` does, without starting anything."""
    check_optional_deps(settings)
    general = _general_questions(settings)
    file = open_data(settings, home)
    heldout = open_heldout_files(settings, home)
    sha256 = file_sha256(file.path)
    tests = tests_for_run(settings.tests, sha256, owner, home)
    data = divide_data(file, heldout, settings, tests.opening_questions() if tests else ())
    if file_sha256(file.path) != sha256:
        raise DataError(f"{file.path.name} changed while it was being read. Try again.")
    if settings.primary_measure == "tests" and not tests:
        raise SettingsError(
            "Your tests are to decide, but the run has none. Name a file of tests, or let the loss decide."
        )
    model, is_text = resolve_model(settings.model, settings.revision, home), file.settings.format == "text"
    notes = [*file.notes, *data.notes, *([NO_REPLAY_OF_TEXT] if is_text and settings.replay else [])]
    settings = without_replay_of_text(settings, is_text)
    if None in (settings.num_train_epochs, settings.gradient_accumulation_steps, settings.learning_rate):
        settings = with_recipe(settings, int(data.train.chosen.sum()), *read_width(model, home))
    if not is_text:
        check_template_of_run(settings, model, home)
    _check_disk(home, settings, model, file.path.stat().st_size)
    record = RunRecord(
        settings=settings,
        source=SourceRecord(
            path=str(file.path),
            sha256=sha256,
            format=file.settings.format,
            columns=file.settings.columns,
            hub=read_source(file.path),
            rows=data.reading.rows,
            conversations=data.conversations,
            rejected=sum(not row.by_choice for row in data.reading.rejected),
            notes=notes,
            heldout_sha256={name: file_sha256(other.path) for name, other in heldout.items()},
        ),
        model=ModelRecord(name=model.name, location=model.location, revision=model.revision, source=model.source),
        versions=package_versions(),
        machine=describe_machine(),
        owner=owner,
        memory_gib=memory_gib,
        created_utc=utc_now(),
    )
    others = {"validation_file": data.validation.rows()} if data.validation else {}
    others |= {"general_file": iter(general)} if general else {}
    written = kept_text(tests) if tests else ""
    return create_run(home, record, data.train.rows(), data.judging.rows(), others, written)


def stop_run(run: Run) -> None:
    """Request a graceful stop: the current step is finished and the adapter so far is saved.

    Raises: RunError if the run has already ended.
    """
    status = running_status(run)
    run.request_stop()
    if status.state == "queued":
        run.update_status(state="stopped", message="Stopped before it began.")


def cancel_run(run: Run) -> None:
    """End a run at once and keep only its entry: no adapter, no checkpoints.

    Raises: RunError if the run has already ended.
    """
    status = running_status(run)
    run.request_cancel()
    if status.state == "queued":
        run.finish_cancel()


def running_status(run: Run) -> RunStatus:
    """Return the status of a run that is queued or active. Raises: RunError if the run has already ended."""
    status = run.status()
    if status.has_ended():
        raise RunError(f"Run {run.id} is not running: it is {status.state}.")
    return status


def resume_run(run: Run, home: Path) -> None:
    """Queue a run that ended early again; it continues from its last complete checkpoint.

    Raises: RunError if there is nothing to resume.
    """
    status = run.status()
    if status.state not in RESUMABLE:
        raise RunError(f"Run {run.id} is {status.state}; only a stopped, failed or interrupted run can be resumed.")
    run.record()
    run.withdraw_stop()
    run.update_status(state="queued", message="", hint="", pid=None, pid_started=None, started_utc=None)
    ensure_supervisor(home)


def _general_questions(settings: RunSettings) -> list[dict[str, Any]]:
    """Read the person's own general questions; [] if there are none. Raises: DataError."""
    path = settings.general_questions
    return [question.as_row() for question in read_general_questions(Path(path).expanduser())] if path else []


def _just_submitted(settings: RunSettings, home: Path, owner: str) -> Run | None:
    for run in list_runs(home)[:1]:
        try:
            record = run.record()
        except RunError:  # a broken folder cannot be a double click
            return None
        if record.created_utc is None:
            return None
        age = datetime.now(UTC) - datetime.fromisoformat(record.created_utc)
        # A run from the future was made before the clock was set back.
        is_recent = 0 <= age.total_seconds() < DOUBLE_CLICK_SECONDS and not run.status().has_ended()
        if is_recent and record.owner == owner and record.settings == _completed_as(settings, run, record.settings):
            return run
    return None


def _completed_as(settings: RunSettings, run: Run, completed: RunSettings) -> RunSettings:
    """Return the settings as that run completed them; the learning rate depends on its model alone."""
    rate = settings.learning_rate or completed.learning_rate
    conversations = sum(1 for _ in iterate_jsonl(run.train_file))
    settings = without_replay_of_text(settings, run.record().source.format == "text")
    return with_schedule(settings.model_copy(update={"learning_rate": rate}), conversations)


def _check_disk(home: Path, settings: RunSettings, model: ModelRef, data_bytes: int) -> None:
    home.mkdir(parents=True, exist_ok=True)
    needed, free = disk_needed_gib(settings, model.folder(home), data_bytes), free_disk_gib(home)
    if needed > free:
        raise RunError(f"{shortage('The run', needed, free, 'disk space')} in {home}. Free up space.")
