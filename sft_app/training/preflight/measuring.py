"""Measure a run with a dry run (`training/preflight/dry_run`) in a separate process.

Only a process that has ended returns all its memory, and only a fresh one has the run's peak memory.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from sft_app.data.checkup.lengths import TokenLengths
from sft_app.data.reading import Example
from sft_app.errors import AppError, RunError
from sft_app.models.catalog import resolve_model
from sft_app.runs.directory import new_run_id
from sft_app.runs.folder import Run
from sft_app.runs.records import ModelRecord, RunRecord, RunStatus, SourceRecord, utc_now
from sft_app.runtime.children import describe_exit, running_python, until_ended
from sft_app.runtime.environment import package_versions
from sft_app.runtime.files import write_json_atomically, write_jsonl_atomically
from sft_app.runtime.home import dry_runs_dir, machine_lock_file
from sft_app.runtime.progress import ProgressCallback
from sft_app.settings import RunSettings, with_schedule
from sft_app.training.estimates.workload import MEASURED_FILE, DryRunResult
from sft_app.training.supervisor import ensure_supervisor, ran_out_of_memory, worker_environment

# The share of the progress that is assigned to loading Python, the libraries and the model.
LOADING_SHARE = 0.4
# How many conversations the base model scores, to estimate how much their losses are spread.
SCORED = 24


class DryRunOutOfMemory(AppError):
    """The dry run ran out of memory, so the run does not fit, whatever the estimate says."""


def measure_run(
    settings: RunSettings,
    examples: Sequence[Example],
    lengths: TokenLengths,
    home: Path,
    on_progress: ProgressCallback | None = None,
) -> DryRunResult:
    """Train two steps on a batch of the longest examples. If `on_progress` raises, the process is ended.

    Raises:
        DryRunOutOfMemory: the run does not fit into memory.
        AppError: a run is in progress on this machine, or the dry run failed.
    """
    usable = _usable(settings, examples, lengths)
    sample = random.Random(settings.seed).sample(usable, min(SCORED, len(usable)))
    run = _write_dry_run(settings, _longest(settings, usable, lengths), sample, lengths, home)
    try:
        with FileLock(machine_lock_file(home), timeout=0):
            exit_status = _work(run, on_progress or (lambda share: None))
        return _result(run, exit_status)
    except Timeout:
        raise RunError("A run is in progress on this machine. Measure once it has ended.") from None
    finally:
        shutil.rmtree(run.path, ignore_errors=True)
        ensure_supervisor(home)  # a run may have been queued meanwhile


def _usable(settings: RunSettings, examples: Sequence[Example], lengths: TokenLengths) -> list[Example]:
    """Return the examples, longest first, without those whose answer is cut off entirely, as in a run, unless there are
    no others."""
    tokens = _tokens_by_row(lengths)
    usable = sorted((one for one in examples if one.row in tokens), key=lambda one: -tokens[one.row])
    answered = set(lengths.rows[lengths.trained_of(lengths.max_length_for(settings.max_length)) > 0].tolist())
    return [one for one in usable if one.row in answered] or usable


def _longest(settings: RunSettings, usable: Sequence[Example], lengths: TokenLengths) -> list[Example]:
    """Return the longest examples, enough for a batch, or to fill its rows if they have a fixed length."""
    tokens, max_length = _tokens_by_row(lengths), lengths.max_length_for(settings.max_length)
    batch, filled = settings.per_device_train_batch_size, settings.row_length(max_length)
    if filled is None:
        return [usable[index % len(usable)] for index in range(batch)]
    chosen: list[Example] = []
    missing = batch * filled
    while missing > 0:
        chosen.append(usable[len(chosen) % len(usable)])
        missing -= min(tokens[chosen[-1].row], max_length)
    return chosen


def _tokens_by_row(lengths: TokenLengths) -> dict[int, int]:
    return dict(zip(lengths.rows.tolist(), lengths.lengths.tolist(), strict=True))


def _write_dry_run(
    settings: RunSettings, examples: list[Example], sample: list[Example], lengths: TokenLengths, home: Path
) -> Run:
    """Write a run folder that is not listed as a run; the base model scores `sample`."""
    model, settings = resolve_model(settings.model, settings.revision, home), with_schedule(settings, lengths.total)
    max_length = lengths.max_length_for(settings.max_length)
    record = RunRecord(
        settings=settings.model_copy(update={"max_length": max_length, "num_processes": 1, "fsdp": ""}),
        source=SourceRecord(
            path=settings.data, sha256="", format=settings.format, rows=0, conversations=len(examples), rejected=0
        ),
        model=ModelRecord(name=model.name, location=model.location, revision=model.revision, source=model.source),
        versions=package_versions(),
        created_utc=utc_now(),
    )
    run = Run(dry_runs_dir(home) / new_run_id())
    run.train_file.parent.mkdir(parents=True)
    write_jsonl_atomically(run.train_file, _numbered(examples))
    write_jsonl_atomically(run.heldout_file, _numbered(sample))
    write_json_atomically(run.settings_file, record.model_dump())
    write_json_atomically(run.status_file, RunStatus(created_utc=record.created_utc or "").model_dump())
    return run


def _numbered(examples: list[Example]) -> list[dict[str, Any]]:
    return [
        {"row": number, "messages": example.conversation.as_structured()} for number, example in enumerate(examples, 1)
    ]


def _work(run: Run, on_progress: ProgressCallback) -> int:
    """Run the process to its end and return its exit status."""
    arguments = ["-m", "sft_app.training.preflight.dry_run", str(run.path), str(os.getpid())]
    with running_python(arguments, run.log_file, worker_environment(1)) as child:
        for _ in until_ended(child):
            status = run.status()
            share = status.step / status.total_steps if status.total_steps else 0.0
            on_progress(LOADING_SHARE * (status.state == "training") + (1 - LOADING_SHARE) * share)
        on_progress(1.0)  # a short measurement may end between two looks
        return child.wait()


def _result(run: Run, exit_status: int) -> DryRunResult:
    """Read what the dry run measured. Raises: AppError if it failed."""
    if ran_out_of_memory(run, exit_status):
        raise DryRunOutOfMemory("The run does not fit: the dry run ran out of memory.")
    status = run.status()
    if status.state == "failed":
        raise AppError(f"The dry run failed. {status.message}")
    try:
        return DryRunResult(**json.loads((run.path / MEASURED_FILE).read_bytes()))
    except (OSError, ValueError):
        raise AppError(f"The dry run ended early. {describe_exit('The process', exit_status)}") from None
