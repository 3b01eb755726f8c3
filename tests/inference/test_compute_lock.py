"""Fewer threads while a run of another process is active, and as many as before afterwards."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from sft_app.inference.compute_lock import ComputeLock
from sft_app.runs.folder import Run
from sft_app.runtime.processes import process_started


@pytest.fixture(autouse=True)
def four_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(ComputeLock, "most_threads", 0)
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def active(home: Path, pid: int) -> Run:
    run = Run(home / "runs" / "20260101-120000-abcd")
    run.path.mkdir(parents=True)
    run.update_status(state="training", pid=pid, pid_started=process_started(pid))
    return run


def threads_inside(home: Path, device: str = "cpu") -> int:
    with ComputeLock(home, device):
        return torch.get_num_threads()


def test_a_run_of_another_process_gets_half_of_the_threads(home: Path) -> None:
    assert threads_inside(home) == 4
    run = active(home, os.getppid())
    assert threads_inside(home) == 2 and torch.get_num_threads() == 4
    assert threads_inside(home, "cuda") == 4
    run.update_status(state="finished")
    assert threads_inside(home) == 4


def test_one_thread_is_the_least(home: Path) -> None:
    active(home, os.getppid())
    torch.set_num_threads(1)
    assert threads_inside(home) == 1


def test_the_runs_own_process_uses_all_threads(home: Path) -> None:
    active(home, os.getpid())
    assert threads_inside(home) == 4


def test_only_one_computes_at_a_time_and_an_error_frees_it(home: Path) -> None:
    lock, order = ComputeLock(home, "cpu"), []

    def compute() -> None:
        with lock:
            order.append("second")

    with pytest.raises(RuntimeError), lock:
        other = threading.Thread(target=compute)
        other.start()
        order.append("first")
        raise RuntimeError
    other.join(10)
    assert order == ["first", "second"]


def in_another_thread(function: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result(10)


def test_a_computation_that_moves_to_another_thread_leaves_no_thread_with_fewer(home: Path) -> None:
    """As a stream of answers does, whose parts the server takes from a pool of threads."""
    lock = ComputeLock(home, "cpu")
    run = active(home, os.getppid())

    def stream() -> Iterator[int]:
        with lock as held:
            yield torch.get_num_threads()
            held.use_threads()
            yield torch.get_num_threads()

    parts = stream()
    assert next(parts) == 2 and in_another_thread(lambda: next(parts)) == 2
    assert in_another_thread(lambda: next(parts, "end")) == "end" and not lock.locked()
    assert in_another_thread(torch.get_num_threads) == 4
    run.update_status(state="finished")
    torch.set_num_threads(2)  # as a thread that has not computed since
    with ComputeLock(home, "cpu"):
        assert torch.get_num_threads() == 4
