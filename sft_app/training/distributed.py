"""Start one process per GPU for a run, and keep the processes in agreement.

`python -m sft_app.training.distributed NUM_PROCESSES`, then the worker's own arguments, starts them through `accelerate
launch`. It exits like the first process that failed, with the same status or signal, which `accelerate launch` does not
report. Rank 0 writes the run folder. The others do the same work on their own part of each step and only read it.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import PartialState

from sft_app.errors import ModelError
from sft_app.models.hardware import Hardware, cpu_hardware, detect_hardware
from sft_app.runs.folder import Run
from sft_app.runs.records import RunStatus
from sft_app.runtime.children import end_with_parent
from sft_app.runtime.environment import LAUNCHER_PID_VARIABLE
from sft_app.runtime.operating_system import KILL_SIGNAL
from sft_app.settings import RunSettings
from sft_app.training.termination import BUSY_EXIT, TERMINATED_EXIT

# Rank 0 may fetch a large model while the others wait; a process that died is noticed by the launcher, not by this.
PROCESS_GROUP_TIMEOUT = timedelta(hours=12)
GRACE_SECONDS = 3.0
logger = logging.getLogger(__name__)
Values = TypeVar("Values", bound=tuple[Any, ...])
# How long torch lets the processes save a checkpoint after SIGTERM before it kills them; its own default is 30.
SHUTDOWN_SECONDS = "60"


class ReadOnlyRun(Run):
    """Ignores writes to a run; all ranks except rank 0 use it."""

    def update_status(self, **_: Any) -> RunStatus:
        return self.status()

    def log_metric(self, **_: Any) -> None:
        pass

    def log_snapshot(self, **_: Any) -> None:
        pass

    def forget_after(self, step: int) -> None:
        pass


def world_size() -> int:
    """Return the number of processes of the run."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first_rank() -> bool:
    """Return whether this process is rank 0, which writes the run folder."""
    return int(os.environ.get("RANK", "0")) == 0


def leading_pid() -> int:
    """Return the pid of the process that lives as long as the run is worked on, and whose signals reach every rank."""
    return int(os.environ.get(LAUNCHER_PID_VARIABLE) or os.getpid()) if world_size() > 1 else os.getpid()


def run_for_this_rank(run: Run) -> Run:
    """Return the run, read-only for all ranks but the first."""
    return run if is_first_rank() else ReadOnlyRun(run.path)


def this_rank_hardware(settings: RunSettings) -> Hardware:
    """Return the hardware with this rank's own GPU; with FSDP the CPU, where the model waits to be sharded."""
    if torch.cuda.is_available():
        torch.cuda.init()  # a worker uses the GPU in any case, so torch can be asked about it
    (hardware,) = broadcast_from_first_rank((detect_hardware(),))
    if hardware.device == "mps" and unchecked_on_apple_gpu(settings):
        return cpu_hardware()
    if hardware.device != "cuda" or world_size() == 1:
        return hardware
    return replace(hardware, device="cpu" if settings.fsdp else f"cuda:{torch.cuda.current_device()}")


def unchecked_on_apple_gpu(settings: RunSettings) -> str:
    """Say why a run does not use the Apple GPU, which is checked for one process in float32 only; empty if it can."""
    is_float32 = settings.compute_dtype("float32") == "float32" and settings.method != "qlora"
    if is_float32 and settings.num_processes == 1:
        return ""
    return "This run uses the processor, because the Apple GPU is used only by one process in float32, without QLoRA."


@contextmanager
def hold_run(run: Run) -> Iterator[bool]:
    """Lock the run for this worker; yield False if another has it. Ranks rely on the lock of their launcher."""
    if world_size() > 1:
        yield True
        return
    with run.locked() as is_ours:
        yield is_ours


def join_ranks() -> None:
    """Join the other ranks, if there are any, and take this rank's GPU.

    Raises:
        ModelError: There are more ranks than GPUs.
    """
    if world_size() == 1:
        return
    gpus = torch.cuda.device_count()
    if 0 < gpus < world_size():
        raise ModelError(f"num_processes is {world_size()}, but this machine has {gpus} GPU(s). Lower num_processes.")
    PartialState(cpu=gpus == 0, timeout=PROCESS_GROUP_TIMEOUT)


def leave_ranks() -> None:
    """Leave the process group."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@contextmanager
def first_rank_first() -> Iterator[None]:
    """Let rank 0 run the block before the others, for what is downloaded or written once and then read."""
    if world_size() == 1:
        yield
    else:
        with PartialState().main_process_first():
            yield


def broadcast_from_first_rank(values: Values) -> Values:
    """Return rank 0's values, so that all ranks do the same, such as stop at one step. All must call it together."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        shared = [values]
        torch.distributed.broadcast_object_list(shared, src=0)
        return shared[0]
    return values


def sum_over_ranks(number: int) -> int:
    """Return the sum over all ranks. All of them must call it together."""
    if world_size() == 1:
        return number
    shared = torch.tensor(number, dtype=torch.int64, device=PartialState().device)
    torch.distributed.all_reduce(shared)
    return int(shared)


def failure_exit(error: Exception) -> int:
    """Return the exit status of a rank that failed.

    If all ranks fail for the same reason, rank 0 has time to report it before the launcher ends it.
    """
    if is_first_rank():
        return 0
    logger.error("A process of the run ended: %s: %s", type(error).__name__, error)
    time.sleep(GRACE_SECONDS)
    return 1


def lost_another_rank(error: Exception) -> bool:
    """Return whether an error only says that another process of the run is gone."""
    text = str(error)
    return world_size() > 1 and isinstance(error, RuntimeError) and any(name in text for name in ("gloo", "NCCL"))


def exit_with_launcher() -> None:
    """Exit when the launcher is gone: a killed launcher cannot end its ranks."""
    launcher = os.environ.get(LAUNCHER_PID_VARIABLE)
    if launcher and world_size() > 1:
        end_with_parent(int(launcher))


def main(num_processes: str, *worker_arguments: str) -> int:
    """Start the processes and wait for them. When one fails, the others are ended.

    Returns the exit status of the first process that failed, or minus the signal that ended it.
    """
    from accelerate.commands.launch import launch_command, launch_command_parser
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    os.environ[LAUNCHER_PID_VARIABLE] = str(os.getpid())
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", SHUTDOWN_SECONDS)
    # `--multi_gpu` is the mode that starts processes; without a GPU they speak gloo. `--cpu` would start only one.
    # Options named here override the user's own `accelerate config`.
    options = ["--multi_gpu", "--num_machines=1", "--mixed_precision=no", "--dynamo_backend=no", "--gpu_ids=all"]
    options += [f"--num_processes={num_processes}", "--main_process_port=0", "--module", "sft_app.training.worker"]
    try:
        launch_command(launch_command_parser().parse_args([*options, *worker_arguments]))
    except ChildFailedError as error:
        return error.get_first_failure()[1].exitcode
    except SignalException:  # passed on to the processes, which have updated the run folder
        return TERMINATED_EXIT
    return 0


def exit_as(code: int) -> None:
    """Exit with this status, or for `-n` by signal n."""
    if code < 0:
        if -code != KILL_SIGNAL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


def lock_and_start(num_processes: str, run_dir: str, *others: str) -> int:
    """Run `main` with the run locked for these processes; return `BUSY_EXIT` if another worker has it."""
    with Run(Path(run_dir)).locked() as is_ours:
        return main(num_processes, run_dir, *others) if is_ours else BUSY_EXIT


if __name__ == "__main__":
    exit_as(lock_and_start(*sys.argv[1:]))
