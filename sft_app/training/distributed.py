"""Several processes share a run, one for each GPU: how they are started, and what they have to agree on.

`python -m sft_app.training.distributed NUM_PROCESSES`, then the worker's own arguments, starts them through `accelerate
launch`. It ends as the first process that failed ended, with the same exit status or by the same signal, which
`accelerate launch` does not report. Rank 0 writes the run folder. The others do the same work on their own part of each
step and only read it.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState

from sft_app.errors import ModelError
from sft_app.models.hardware import Hardware, detect_hardware
from sft_app.runs.folder import Run
from sft_app.runs.records import RunStatus
from sft_app.settings import RunSettings
from sft_app.training.termination import BUSY_EXIT, TERMINATED_EXIT

LAUNCHER_PID = "SFT_APP_LAUNCHER_PID"
# Rank 0 may fetch a large model while the others wait; a process that died is noticed by the launcher, not by this.
PATIENCE = timedelta(hours=12)
PARENT_POLL_SECONDS = 0.5
GRACE_SECONDS = 3.0
logger = logging.getLogger(__name__)
# What torch gives the processes to save a checkpoint after SIGTERM before it kills them; its own default is 30.
SHUTDOWN_SECONDS = "60"


class ReadOnlyRun(Run):
    """A run as the ranks after the first see it: what they would write, rank 0 writes."""

    def update_status(self, **_: Any) -> RunStatus:
        return self.status()

    def log_metric(self, **_: Any) -> None:
        pass

    def log_snapshot(self, **_: Any) -> None:
        pass

    def forget_after(self, step: int) -> None:
        pass


def world_size() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first_rank() -> bool:
    return int(os.environ.get("RANK", "0")) == 0


def leading_pid() -> int:
    """The process that lives as long as the run is worked on, and whose signals reach every rank."""
    return int(os.environ.get(LAUNCHER_PID) or os.getpid()) if world_size() > 1 else os.getpid()


def as_this_rank_sees(run: Run) -> Run:
    return run if is_first_rank() else ReadOnlyRun(run.path)


def this_rank_hardware(settings: RunSettings) -> Hardware:
    """The machine with this rank's own GPU as its device; with FSDP the CPU, where a model waits to be split up."""
    hardware: Hardware = from_first_rank((detect_hardware(),))[0]
    if hardware.device != "cuda" or world_size() == 1:
        return hardware
    return replace(hardware, device="cpu" if settings.fsdp else f"cuda:{torch.cuda.current_device()}")


@contextmanager
def holding(run: Run) -> Iterator[bool]:
    """The run to this worker alone; False when another has it. Ranks have it through their launcher, whose it is."""
    if world_size() > 1:
        yield True
        return
    with run.locked() as is_ours:
        yield is_ours


def join_ranks() -> None:
    """Meets the other ranks, if there are any, and takes this rank's GPU.

    Raises:
        ModelError: there are more ranks than GPUs.
    """
    if world_size() == 1:
        return
    gpus = torch.cuda.device_count()
    if 0 < gpus < world_size():
        raise ModelError(f"num_processes is {world_size()}, but this machine has {gpus} GPU(s). Lower num_processes.")
    PartialState(cpu=gpus == 0, timeout=PATIENCE)


def leave_ranks() -> None:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@contextmanager
def first_rank_first() -> Iterator[None]:
    """Rank 0 goes through the block before the others do, for what is fetched or written once and then read."""
    if world_size() == 1:
        yield
    else:
        with PartialState().main_process_first():
            yield


def from_first_rank(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """What rank 0 sees, so that all ranks do the same, such as stop at one step; all have to ask at the same point."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        shared = [values]
        torch.distributed.broadcast_object_list(shared, src=0)
        return shared[0]
    return values


def ranks_sum(number: int) -> int:
    """The sum over all ranks; all of them have to ask for it at the same point."""
    if world_size() == 1:
        return number
    shared = torch.tensor(number, dtype=torch.int64, device=PartialState().device)
    torch.distributed.all_reduce(shared)
    return int(shared)


def failure_exit(error: Exception) -> int:
    """What a rank returns that could not go on. When all ranks fail of the same, rank 0 has the time to tell it before
    the launcher ends it."""
    if is_first_rank():
        return 0
    logger.error("A process of the run ended: %s: %s", type(error).__name__, error)
    time.sleep(GRACE_SECONDS)
    return 1


def lost_another_rank(error: Exception) -> bool:
    """Whether an error only says that another process of the run has gone."""
    text = str(error)
    return world_size() > 1 and isinstance(error, RuntimeError) and any(name in text for name in ("gloo", "NCCL"))


def end_with_the_launcher() -> None:
    """A launcher that was killed takes no rank with it: nobody would end this one when another one dies."""
    launcher = os.environ.get(LAUNCHER_PID)

    def watch() -> None:
        while os.getppid() == int(launcher or 0):
            time.sleep(PARENT_POLL_SECONDS)
        os._exit(1)

    if launcher and world_size() > 1:
        threading.Thread(target=watch, daemon=True).start()


def main(num_processes: str, *worker_arguments: str) -> int:
    """Starts the processes and waits for them; when one fails, the others are ended.

    Returns: the exit status of the first process that failed, or minus the signal that ended it.
    """
    from accelerate.commands.launch import launch_command, launch_command_parser
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    os.environ[LAUNCHER_PID] = str(os.getpid())
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", SHUTDOWN_SECONDS)
    # `--multi_gpu` is the mode that starts processes; without a GPU they speak gloo. `--cpu` would start only one.
    # Whatever the user's own `accelerate config` says is overruled by naming it here.
    options = ["--multi_gpu", "--num_machines=1", "--mixed_precision=no", "--dynamo_backend=no", "--gpu_ids=all"]
    options += [f"--num_processes={num_processes}", "--main_process_port=0", "--module", "sft_app.training.worker"]
    try:
        launch_command(launch_command_parser().parse_args([*options, *worker_arguments]))
    except ChildFailedError as error:
        return error.get_first_failure()[1].exitcode
    except SignalException:  # handed on to the processes, which have told the run folder
        return TERMINATED_EXIT
    return 0


def end_as(code: int) -> None:
    """Ends this process with that exit status, or for `-n` by signal n."""
    if code < 0:
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


def hold_and_start(num_processes: str, run_dir: str, *others: str) -> int:
    """As `main`, with the run to these processes alone; `BUSY_EXIT` when another worker has it."""
    with Run(Path(run_dir)).locked() as is_ours:
        return main(num_processes, run_dir, *others) if is_ours else BUSY_EXIT


if __name__ == "__main__":
    end_as(hold_and_start(*sys.argv[1:]))
