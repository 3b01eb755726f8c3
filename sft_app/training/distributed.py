"""A run on several GPUs, one process for each: how the processes start, and what they have to agree on.

`python -m sft_app.training.distributed NUM_PROCESSES`, followed by the worker's own arguments, starts them through
`accelerate launch`. It ends with the exit status or by the signal of the first process that failed, which
`accelerate launch` does not report.

Rank 0 writes the run folder; the other ranks train on their part of each step and only read it.
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
from sft_app.models.hardware import Hardware, detect_hardware
from sft_app.runs.folder import Run
from sft_app.runs.records import RunStatus
from sft_app.runtime.children import end_with_parent
from sft_app.runtime.environment import LAUNCHER_PID_VARIABLE
from sft_app.settings import RunSettings
from sft_app.training.termination import BUSY_EXIT, TERMINATED_EXIT

# Rank 0 may download a large model while the others wait; the launcher notices a process that died, not this timeout.
JOIN_TIMEOUT = timedelta(hours=12)
GRACE_SECONDS = 3.0
logger = logging.getLogger(__name__)
Values = TypeVar("Values", bound=tuple[Any, ...])
# How long torch lets the processes save a checkpoint after SIGTERM before it kills them; its own default is 30.
SHUTDOWN_SECONDS = "60"


class ReadOnlyRun(Run):
    """A run for the ranks after the first, which do not write: rank 0 writes the same."""

    def update_status(self, **_: Any) -> RunStatus:
        return self.status()

    def log_metric(self, **_: Any) -> None:
        pass

    def log_snapshot(self, **_: Any) -> None:
        pass

    def forget_after(self, step: int) -> None:
        pass


def world_size() -> int:
    """How many processes train the run, as torch's launcher sets it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first_rank() -> bool:
    """Whether this process is rank 0, which writes the run folder; true for a single process."""
    return int(os.environ.get("RANK", "0")) == 0


def leading_pid() -> int:
    """The process that lives as long as the run is trained, and that passes signals on to every rank."""
    return int(os.environ.get(LAUNCHER_PID_VARIABLE) or os.getpid()) if world_size() > 1 else os.getpid()


def as_this_rank_sees(run: Run) -> Run:
    """The run itself for rank 0, a read-only one for the other ranks."""
    return run if is_first_rank() else ReadOnlyRun(run.path)


def this_rank_hardware(settings: RunSettings) -> Hardware:
    """The hardware with this rank's GPU as its device; with FSDP the CPU, where the model is loaded to be sharded."""
    (hardware,) = from_first_rank((detect_hardware(),))
    if hardware.device != "cuda" or world_size() == 1:
        return hardware
    return replace(hardware, device="cpu" if settings.fsdp else f"cuda:{torch.cuda.current_device()}")


@contextmanager
def holding(run: Run) -> Iterator[bool]:
    """Holds the run's lock during the block; yields False if another worker has it. Ranks: the launcher holds it."""
    if world_size() > 1:
        yield True
        return
    with run.locked() as is_ours:
        yield is_ours


def join_ranks() -> None:
    """Connects to the other ranks, if there are any, and selects this rank's GPU.

    Raises:
        ModelError: There are more ranks than GPUs.
    """
    if world_size() == 1:
        return
    gpus = torch.cuda.device_count()
    if 0 < gpus < world_size():
        raise ModelError(f"num_processes is {world_size()}, but this machine has {gpus} GPU(s). Lower num_processes.")
    PartialState(cpu=gpus == 0, timeout=JOIN_TIMEOUT)


def leave_ranks() -> None:
    """Disconnects from the other ranks."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@contextmanager
def first_rank_first() -> Iterator[None]:
    """Lets rank 0 run the block before the others, for what is downloaded or written once and then read."""
    if world_size() == 1:
        yield
    else:
        with PartialState().main_process_first():
            yield


def from_first_rank(values: Values) -> Values:
    """Rank 0's values, so that all ranks do the same, such as stop at the same step; every rank has to call it."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        shared = [values]
        torch.distributed.broadcast_object_list(shared, src=0)
        return shared[0]
    return values


def ranks_sum(number: int) -> int:
    """The sum over all ranks; every rank has to call it at the same point."""
    if world_size() == 1:
        return number
    shared = torch.tensor(number, dtype=torch.int64, device=PartialState().device)
    torch.distributed.all_reduce(shared)
    return int(shared)


def failure_exit(error: Exception) -> int:
    """The exit status of a rank that failed; rank 0 returns 0 because it has written the error into the run.

    The other ranks wait some seconds first: if all fail for the same reason, rank 0 can write it before the launcher
    ends it.
    """
    if is_first_rank():
        return 0
    logger.error("A process of the run ended: %s: %s", type(error).__name__, error)
    time.sleep(GRACE_SECONDS)
    return 1


def lost_another_rank(error: Exception) -> bool:
    """Whether an error only says that the connection to another rank was lost."""
    text = str(error)
    return world_size() > 1 and isinstance(error, RuntimeError) and any(name in text for name in ("gloo", "NCCL"))


def end_with_the_launcher() -> None:
    """Ends this rank when its launcher ends: without one, nothing would end it when another rank dies."""
    launcher = os.environ.get(LAUNCHER_PID_VARIABLE)
    if launcher and world_size() > 1:
        end_with_parent(int(launcher))


def main(num_processes: str, *worker_arguments: str) -> int:
    """Starts the processes and waits for them; when one fails, ends the others.

    Returns: The exit status of the first process that failed, or minus the signal that ended it.
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
    except SignalException:  # the processes got the signal too and have written how they ended
        return TERMINATED_EXIT
    return 0


def end_as(code: int) -> None:
    """Ends this process with an exit status, or by signal n if it is -n."""
    if code < 0:
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


def hold_and_start(num_processes: str, run_dir: str, *others: str) -> int:
    """Starts the processes as `main` does while it holds the run's lock; `BUSY_EXIT` if another worker has the run."""
    with Run(Path(run_dir)).locked() as is_ours:
        return main(num_processes, run_dir, *others) if is_ours else BUSY_EXIT


if __name__ == "__main__":
    end_as(hold_and_start(*sys.argv[1:]))
