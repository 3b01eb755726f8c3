"""One detached process per machine that works off the queue: a fresh worker for each run, one at a time.

It imports no torch, belongs to no browser and no web server, and ends when the queue is empty.
Run as `python -m sft_app.training.supervisor HOME`.
"""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from filelock import FileLock, Timeout

from sft_app.data.sources.data_files import PROJECT_DIR
from sft_app.errors import RunError
from sft_app.processes import process_started
from sft_app.runs import Run, list_runs

OUT_OF_MEMORY_EXIT = 75
POLL_SECONDS = 0.5
# A supervisor that has just seen an empty queue needs less than this to let go of the lock.
HANDOVER_SECONDS = 10.0


def ensure_supervisor(home: Path) -> None:
    """Starts a supervisor when a run is waiting. One that finds another at work leaves the queue to it."""
    if next_queued(home) is None:
        return
    with (home / "supervisor.log").open("ab") as log:
        subprocess.Popen(
            [sys.executable, "-m", "sft_app.training.supervisor", str(home)],
            cwd=PROJECT_DIR,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def work_off_queue(home: Path) -> None:
    """Runs every queued run, the oldest first, until none is left."""
    try:
        with FileLock(home / "machine.lock", timeout=HANDOVER_SECONDS):
            _wait_for_orphans(home)
            while (run := next_queued(home)) is not None:
                _supervise(run)
    except Timeout:
        pass  # another supervisor is at work and will take the queued run


def next_queued(home: Path) -> Run | None:
    return next((run for run in reversed(list_runs(home)) if run.status().state == "queued"), None)


def _supervise(run: Run) -> None:
    """One run to its end; after each lack of GPU memory it starts again with half the micro-batch."""
    try:
        settings = run.record().settings
    except RunError as error:
        run.update_status(state="failed", message=str(error))
        return
    batch, accumulation = settings.per_device_train_batch_size, settings.gradient_accumulation_steps
    hand_over(run, os.getpid(), "Starting.")
    while (code := _run_worker(run, batch, accumulation)) == OUT_OF_MEMORY_EXIT and batch > 1:
        batch, accumulation = batch // 2, math.ceil(batch * accumulation / (batch // 2))
        message = f"The GPU's memory ran out; starting again with {batch} rows at once, {accumulation} to a step."
        hand_over(run, os.getpid(), message)
    if run.status().state not in ("finished", "stopped", "failed"):
        run.update_status(state="failed", message=_ending(code), hint=f"The end of the log: {run.log_tail(3)}")


def _run_worker(run: Run, batch: int, accumulation: int) -> int:
    """Starts a worker, gives it the run, and waits for its exit status."""
    command = [sys.executable, "-m", "sft_app.training.worker", str(run.path), str(batch), str(accumulation)]
    with run.log_file.open("ab") as log:
        worker = subprocess.Popen(
            command, cwd=PROJECT_DIR, env=_environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    hand_over(run, worker.pid, run.status().message)
    return worker.wait()


def hand_over(run: Run, pid: int, message: str) -> None:
    """Makes a run the work of a living process, so that nobody deletes it, calls it interrupted or takes it too."""
    run.update_status(state="preparing", pid=pid, pid_started=process_started(pid), message=message)


def _ending(code: int) -> str:
    if code == OUT_OF_MEMORY_EXIT:
        return "The GPU's memory is too small even for one row at a time: lower max_length or take a smaller model."
    if code == -signal.SIGKILL:
        return "The training process was killed (signal 9), by someone or because the machine's memory ran out."
    if code < 0:
        return f"The training process was ended by signal {-code} ({signal.Signals(-code).name})."
    return f"The training process ended with exit status {code}."


def _wait_for_orphans(home: Path) -> None:
    """A worker whose supervisor was killed works on; it has the machine until it ends."""
    while any(not run.status().is_settled() for run in list_runs(home)):
        time.sleep(POLL_SECONDS)


def _environment() -> dict[str, str]:
    return {**os.environ, "TOKENIZERS_PARALLELISM": "false", "PYTHONUNBUFFERED": "1"}


if __name__ == "__main__":
    work_off_queue(Path(sys.argv[1]))
