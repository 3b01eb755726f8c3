"""The processes that share a run, its ranks: which one this is, and what they have to agree on.

Rank 0 writes the run folder. The others do the same work on their own share of each step and only read it.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import torch
from accelerate import PartialState

from sft_app.errors import ModelError
from sft_app.models.hardware import Hardware, detect_hardware
from sft_app.runs.folder import Run
from sft_app.runs.records import RunStatus
from sft_app.settings import RunSettings

LAUNCHER_PID = "SFT_APP_LAUNCHER_PID"
# Rank 0 may fetch a large model while the others wait; a process that died is noticed by the launcher, not by this.
PATIENCE = timedelta(hours=12)
LOOK_SECONDS = 0.5
GRACE_SECONDS = 3.0
logger = logging.getLogger(__name__)


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
    (hardware,) = from_first_rank((detect_hardware(),))
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
            time.sleep(LOOK_SECONDS)
        os._exit(1)

    if launcher and world_size() > 1:
        threading.Thread(target=watch, daemon=True).start()
