"""Small runs of the tiny model, and waiting for what another process does."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from sft_app.runs.directory import list_runs
from tests.waiting import wait_until

SMALL = {
    "dtype": "float32",
    "max_steps": 4,
    "eval_steps": 2,
    "max_length": 128,
    "lora_r": 4,
    "learning_rate": 1e-2,
    "heldout_min": 4,
    "heldout_max": 4,
    "watch_prompts": ("Where is it?",),
    "max_new_tokens": 4,
    "general_prompts": 2,
    "replay": 0,
}


def queue_run(home: Path, model: Path, conversations: int = 24, **settings: Any) -> Any:
    """A queued run of four steps on short conversations."""
    from sft_app.settings import parse_settings
    from sft_app.training.launch import create_queued_run

    data = home / "examples.jsonl"
    rows = [
        {"messages": [{"role": "user", "content": f"Where is order {i}?"}, {"role": "assistant", "content": "Soon!"}]}
        for i in range(conversations)
    ]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return create_queued_run(parse_settings({"model": str(model), "data": str(data), **SMALL, **settings}), home)


def work_here(run: Any, batch: int | None = None, accumulation: int | None = None) -> int:
    """The worker's own `main`, in this process; its exit status comes back."""
    from sft_app.training import worker

    settings, before = run.record().settings, signal.getsignal(signal.SIGTERM)
    try:
        return worker.main(
            str(run.path),
            str(batch or settings.per_device_train_batch_size),
            str(accumulation or settings.gradient_accumulation_steps),
        )
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.fixture
def make_run(home: Path, tiny_model_dir: Path) -> Callable[..., Any]:
    return lambda **settings: queue_run(home, **{"model": tiny_model_dir, **settings})


@pytest.fixture
def processes(home: Path) -> Iterator[None]:
    """Ends what a test has started and left, by its id: this test's supervisors, and its runs' workers."""
    before = {child.pid for child in psutil.Process().children()}
    yield
    left = [child for child in psutil.Process().children() if child.pid not in before]
    for run in list_runs(home):
        status = run.status()
        if status.pid and status.pid != os.getpid() and not status.has_ended():
            left.append(psutil.Process(status.pid))
    for process in left:
        if process.is_running():
            process.kill()
            process.wait(10)


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path) -> Any:
    """A run with two watch prompts, at its end; not to be changed."""
    settings = {"watch_prompts": ("Where is it?", "Hello"), "general_prompts": 40}
    run = queue_run(tmp_path_factory.mktemp("home"), tiny_model_dir, **settings)
    assert work_here(run) == 0
    return run


@pytest.fixture
def work() -> Callable[..., int]:
    return work_here


@pytest.fixture(name="wait_until")
def _wait_until() -> Callable[..., Any]:
    return wait_until


@pytest.fixture(scope="module", autouse=True)
def _one_thread(one_thread: None) -> None:
    """All models here are tiny."""
