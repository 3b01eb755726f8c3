"""Starts a dry run (`training/preflight/dry_run`) in a process of its own and waits for what it finds.

A process, since only one that ends gives back everything it held, and only a fresh one has a peak that is the run's.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from sft_app.data.checkup.lengths import TokenLengths
from sft_app.data.reading import Example
from sft_app.data.sources.rows import Progress
from sft_app.errors import AppError, RunError
from sft_app.models.catalog import resolve_model
from sft_app.runs.directory import new_run_id
from sft_app.runs.folder import Run
from sft_app.runs.records import ModelRecord, RunRecord, RunStatus, SourceRecord, utc_now
from sft_app.runtime.environment import PROJECT_DIR, package_versions
from sft_app.runtime.files import write_json_atomically, write_jsonl_atomically
from sft_app.settings import RunSettings
from sft_app.training.preflight.workload import MEASURED_FILE, Measured
from sft_app.training.supervisor import ensure_supervisor, worker_environment

POLL_SECONDS = 0.2
# Of the whole, what starting Python, the libraries and the model take.
LOADING_SHARE = 0.4


def measure_run(
    settings: RunSettings,
    examples: Sequence[Example],
    lengths: TokenLengths,
    home: Path,
    on_progress: Progress | None = None,
) -> Measured:
    """The longest of the examples as one batch, two steps long. What `on_progress` raises ends the process too.

    Raises:
        AppError: a run is at work on this machine, or the dry run could not be done.
    """
    run = _write_dry_run(settings, _longest(settings, examples, lengths), lengths, home)
    try:
        with FileLock(home / "machine.lock", timeout=0):
            _work(run, on_progress or (lambda share: None))
        return _result(run)
    except Timeout:
        raise RunError("A run is in progress on this machine. Measure once it has ended.") from None
    finally:
        shutil.rmtree(run.path, ignore_errors=True)
        ensure_supervisor(home)  # a run that was queued meanwhile


def _longest(settings: RunSettings, examples: Sequence[Example], lengths: TokenLengths) -> list[Example]:
    """Those of one batch, the longest first. Where rows are filled, as many as fill them.

    One whose answer is cut off altogether is left out, as a run leaves it out; unless there is no other.
    """
    at_hand = {example.row: example for example in examples}
    tokens = {row: size for row, size in zip(lengths.rows.tolist(), lengths.lengths.tolist(), strict=True)}
    rows = sorted((row for row in at_hand if row in tokens), key=lambda row: -tokens[row])
    max_length = lengths.max_length_for(settings.max_length)
    answered = set(lengths.rows[lengths.trained_of(max_length) > 0].tolist())
    rows = [row for row in rows if row in answered] or rows
    batch, filled = settings.per_device_train_batch_size, settings.row_length(max_length)
    if filled is None:
        return [at_hand[rows[place % len(rows)]] for place in range(batch)]
    chosen: list[Example] = []
    missing = batch * filled
    while missing > 0:
        row = rows[len(chosen) % len(rows)]
        chosen.append(at_hand[row])
        missing -= min(tokens[row], max_length)
    return chosen


def _write_dry_run(settings: RunSettings, examples: list[Example], lengths: TokenLengths, home: Path) -> Run:
    """A run folder beside the real ones, which no list of runs shows."""
    model = resolve_model(settings.model, settings.revision, home)
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
    run = Run(home / "dry_runs" / new_run_id())
    run.train_file.parent.mkdir(parents=True)
    rows = [{"row": place, "messages": example.conversation.as_dicts()} for place, example in enumerate(examples, 1)]
    write_jsonl_atomically(run.train_file, rows)
    write_jsonl_atomically(run.heldout_file, rows[:1])
    write_json_atomically(run.settings_file, record.model_dump())
    write_json_atomically(run.status_file, RunStatus(created_utc=record.created_utc or "").model_dump())
    return run


def _work(run: Run, tell: Progress) -> None:
    command = [sys.executable, "-m", "sft_app.training.preflight.dry_run", str(run.path)]
    with run.log_file.open("wb") as log:
        process = subprocess.Popen(
            command, cwd=PROJECT_DIR, env=worker_environment(1), stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        while process.poll() is None:
            status = run.status()
            share = status.step / status.total_steps if status.total_steps else 0.0
            tell(LOADING_SHARE * (status.state == "training") + (1 - LOADING_SHARE) * share)
            time.sleep(POLL_SECONDS)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _result(run: Run) -> Measured:
    status = run.status()
    if status.state == "failed":
        raise AppError(f"The dry run failed. {status.message}")
    try:
        return Measured(**json.loads((run.path / MEASURED_FILE).read_bytes()))
    except (OSError, ValueError):
        ending = "The process was killed, most likely because the machine's memory ran out."
        raise AppError(f"The dry run ended early. {ending}") from None
