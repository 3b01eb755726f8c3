"""The supervisor: a detached process, one per machine, that takes runs from the queue and starts a worker for each.

It runs one worker at a time, needs no browser or web server, imports no torch, and ends when the queue is empty.
Run as `python -m sft_app.training.supervisor HOME`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from sft_app.errors import RunError
from sft_app.models.gpu_support import has_nvidia_gpu
from sft_app.runs.directory import list_runs, queued_runs
from sft_app.runs.folder import Run
from sft_app.runtime.children import Child, describe_exit, start_python, wait_for
from sft_app.runtime.environment import RUN_LOCK_VARIABLE
from sft_app.runtime.home import machine_lock_file, supervisor_log_file
from sft_app.runtime.locks import take_lock
from sft_app.runtime.operating_system import IS_WINDOWS
from sft_app.runtime.processes import process_started
from sft_app.runtime.resources import BITSANDBYTES_OUT_OF_MEMORY
from sft_app.storage.backup import SUPERVISOR_SECONDS, back_up_in_background
from sft_app.storage.stores import without_storage_token
from sft_app.training.termination import BUSY_EXIT, OUT_OF_MEMORY_EXIT, TERMINATED_EXIT

WORKER_POLL_SECONDS = 0.5
# A supervisor that has just found the queue empty releases the lock within this time.
HANDOVER_SECONDS = 10.0
# A cancelled worker ends by itself within this time, unless it is still starting.
CANCEL_SECONDS = 8.0
# The message and the hint of a run that ran out of memory, before its first step and in a step of one row.
LOADING_SHORTAGE = (
    "There is not enough memory for this model: it ran out before the first step.",
    "Choose the method qlora, choose a smaller model, or stop whatever else is using the memory.",
)
STEP_SHORTAGE = (
    "There is not enough memory even for one row at a time.",
    "Lower max_length, turn on gradient_checkpointing, choose the method qlora, or choose a smaller model.",
)


class _Shutdown:
    """Handles SIGTERM: passes the signal on to the worker and leaves the queue to the next supervisor."""

    is_requested = False
    worker: Child | None = None

    def __call__(self, *_: object) -> None:
        self.is_requested = True
        if self.worker is not None:
            self.worker.terminate()


_shutdown = _Shutdown()


def ensure_supervisor(home: Path) -> None:
    """Start a supervisor if a run is queued. If another one is active, the new one leaves the queue to it."""
    if next_queued(home) is None:
        return
    arguments = ["-m", "sft_app.training.supervisor", str(home)]
    start_python(arguments, supervisor_log_file(home), _base_environment(), is_detached=True)


def work_off_queue(home: Path) -> None:
    """Train every queued run, in the order of the queue, until none is left."""
    try:
        with FileLock(machine_lock_file(home), timeout=HANDOVER_SECONDS):
            _wait_for_orphans(home)
            while not _shutdown.is_requested and (run := next_queued(home)) is not None:
                if run.has_worker():  # started by another supervisor that has not written the status yet
                    time.sleep(WORKER_POLL_SECONDS)
                else:
                    _supervise(run)
    except Timeout:
        pass  # another supervisor is active and will take the queued run


def next_queued(home: Path) -> Run | None:
    """Return the first run in the queue; None if it is empty."""
    return next(iter(queued_runs(home)), None)


def _supervise(run: Run) -> None:
    """Train a run to its end; each time a step runs out of memory, start again with a smaller micro-batch."""
    try:
        settings = run.record().settings
    except RunError as error:
        run.update_status(state="failed", message=str(error))
        return
    batch, accumulation = settings.per_device_train_batch_size, settings.batches_per_step()
    rows_per_step = batch * accumulation
    me = os.getpid()
    hand_over(run, me, "Starting.", supervisor_pid=me, supervisor_started=process_started(me))
    while (code := _run_worker(run, batch, accumulation)) and ran_out_of_memory(run, code):
        status = run.status()
        too_large = status.micro_batch or batch
        # A smaller batch does not help to load the model.
        if too_large == 1 or run.cancel_is_requested() or status.state == "preparing":
            break
        batch, accumulation = _smaller_batch(too_large, rows_per_step // too_large)
        hint = (
            f"There was not enough memory for {too_large} conversations at once; the run now uses batches of "
            f"{batch}, {accumulation} per step, so each step still covers the same number of conversations."
        )
        changes = {"micro_batch": batch, "checkpoint_every": 1, "hint": hint}
        hand_over(run, me, "Out of memory; starting again with fewer conversations at once.", **changes)
    with contextlib.suppress(OSError):  # a full disk; once this supervisor has ended, the run counts as interrupted
        _record_ending(run, code)


def _smaller_batch(batch: int, accumulation: int) -> tuple[int, int]:
    """Return at most half the micro-batch, and an accumulation that keeps the number of conversations per step."""
    rows_per_step = batch * accumulation
    smaller = next(size for size in range(batch // 2, 0, -1) if rows_per_step % size == 0)
    return smaller, rows_per_step // smaller


def _record_ending(run: Run, code: int) -> None:
    """Record how the run ended if its worker has not. A worker that ends during a shutdown was told to."""
    while code == BUSY_EXIT and run.has_worker() and not _shutdown.is_requested:
        time.sleep(WORKER_POLL_SECONDS)
    if code == BUSY_EXIT and _shutdown.is_requested:
        return  # the other worker continues and records how it ends
    if run.status().has_ended():
        return
    if run.cancel_is_requested():
        run.finish_cancel()
    elif code in (TERMINATED_EXIT, -signal.SIGTERM) or _shutdown.is_requested:
        record_terminated(run)
    elif ran_out_of_memory(run, code):
        message, hint = LOADING_SHORTAGE if run.status().state == "preparing" else STEP_SHORTAGE
        run.update_status(state="failed", message=message, hint=hint)
    else:
        run.update_status(state="failed", message=_describe_ending(code), hint=f"The end of the log: {run.log_tail(3)}")


def ran_out_of_memory(run: Run, code: int) -> bool:
    """Return whether a process of this run that exited with this status ran out of memory."""
    return code == OUT_OF_MEMORY_EXIT or (code == 1 and bool(BITSANDBYTES_OUT_OF_MEMORY.search(run.log_tail(3))))


def record_terminated(run: Run, step: int | None = None) -> None:
    """Mark the run as interrupted by SIGTERM, so that it can be resumed; `step` is that of its last checkpoint."""
    hint = "Resume continues from " + ("the last checkpoint." if step is None else f"step {step}.")
    message = "The training process was told to stop (SIGTERM), usually because the machine is shutting down."
    run.update_status(state="interrupted", message=message, hint=hint)


def _run_worker(run: Run, batch: int, accumulation: int) -> int:
    """Start a worker, or one per GPU, and wait for the exit status; `BUSY_EXIT` if another process has the run.

    The worker inherits the run's lock, so it has the run even if this process is killed before writing the status.
    """
    processes = run.record().settings.num_processes
    module = ["sft_app.training.worker"] if processes == 1 else ["sft_app.training.distributed", str(processes)]
    arguments = ["-m", *module, str(run.path), str(batch), str(accumulation)]
    lock = take_lock(run.lock_file)
    if lock is None:
        return BUSY_EXIT
    try:
        environment = {**worker_environment(processes), RUN_LOCK_VARIABLE: str(lock)}
        worker = start_python(arguments, run.log_file, environment, inherited=[lock])
    finally:
        os.close(lock)  # now only the worker has it
    _shutdown.worker = worker
    if _shutdown.is_requested:  # while the worker was being started
        worker.terminate()
    hand_over(run, worker.pid, run.status().message)
    return _wait_for(worker, run)


def _wait_for(worker: Child, run: Run) -> int:
    """Wait for the worker's exit status; kill a worker that has not ended some seconds after a cancellation."""
    cancelled = None
    while (status := wait_for(worker, WORKER_POLL_SECONDS)) is None:
        if cancelled is None and run.cancel_is_requested():
            cancelled = time.monotonic()
        if cancelled is not None and time.monotonic() - cancelled > CANCEL_SECONDS:
            worker.kill()
    return status


def hand_over(run: Run, pid: int, message: str, **changes: Any) -> None:
    """Record the process that works on the run, so that no other process deletes, takes or marks it interrupted."""
    run.update_status(state="preparing", pid=pid, pid_started=process_started(pid), message=message, **changes)


def _describe_ending(code: int) -> str:
    """Describe a worker's exit status for the run's status."""
    if code == BUSY_EXIT:
        return "Another training process of this run exited without an error message. Resume the run."
    return describe_exit("The training process", code)


def _wait_for_orphans(home: Path) -> None:
    """Wait for a worker whose supervisor was killed; it keeps the machine busy until it ends."""
    while not _shutdown.is_requested and any(
        not run.status().is_settled() or run.has_worker() for run in list_runs(home)
    ):
        time.sleep(WORKER_POLL_SECONDS)


def _base_environment() -> dict[str, str]:
    return {**os.environ, "TOKENIZERS_PARALLELISM": "false", "PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1"}


def worker_environment(processes: int) -> dict[str, str]:
    """Return the environment of a worker, without the storage token, which only the supervisor needs.

    A single process sees only one GPU, because transformers would split its batches over all visible ones. GPU memory
    is taken in segments that can grow, because batches of different lengths leave gaps between fixed ones.
    """
    environment = without_storage_token(_base_environment())
    is_chosen = "PYTORCH_CUDA_ALLOC_CONF" in environment  # the variable's earlier name
    if has_nvidia_gpu() and not is_chosen and not IS_WINDOWS:  # whose driver has no such segments
        environment.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")
    if processes == 1:
        environment["CUDA_VISIBLE_DEVICES"] = environment.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0]
    return environment


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _shutdown)
    with back_up_in_background(Path(sys.argv[1]), SUPERVISOR_SECONDS):
        work_off_queue(Path(sys.argv[1]))
