"""A run folder as a worker leaves it, and a mounted folder to copy it to."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from sft_app.runs.folder import Run
from sft_app.storage.stores import FolderStore

RUN_ID = "20261122-153012-k3f9"


def write_checkpoint(run: Run, step: int, best: int | None = None) -> Path:
    """A whole one of a step, with weights that only it has."""
    folder = run.checkpoints_dir / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    save_file({"weight": torch.full((4,), float(step))}, folder / "adapter_model.safetensors")
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        torch.save({"step": step}, folder / name)
    state = {"global_step": step, "best_model_checkpoint": best and str(run.checkpoints_dir / f"checkpoint-{best}")}
    (folder / "trainer_state.json").write_text(json.dumps(state))
    return folder


def write_run(home: Path, run_id: str = RUN_ID, **status: Any) -> Run:
    run = Run(home / "runs" / run_id)
    for folder in (run.train_file.parent, run.adapter_dir, run.tokens_dir):
        folder.mkdir(parents=True)
    (run.path / "settings.json").write_text("{}")
    run.train_file.write_text('{"row": 1}\n')
    run.heldout_file.write_text('{"row": 2}\n')
    (run.tokens_dir / "train.arrow").write_text("made again from the data")
    (run.adapter_dir / "adapter_model.safetensors").write_bytes(b"weights")
    run.log_metric(step=1, loss=2.0)
    run.log_file.write_text("Training.\n")
    run.request_stop()
    run.update_status(**{"state": "finished", "step": 40, **status})
    return run


def contents(folder: Path) -> dict[str, bytes]:
    """Of every file below, by its name."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def make_run(home: Path) -> Callable[..., Run]:
    return lambda run_id=RUN_ID, **status: write_run(home, run_id, **status)


@pytest.fixture
def mounted(tmp_path: Path) -> Path:
    (tmp_path / "mounted").mkdir()
    return tmp_path / "mounted"


@pytest.fixture
def store(mounted: Path) -> FolderStore:
    return FolderStore(mounted)


@pytest.fixture
def new_home(tmp_path: Path) -> Path:
    """That of another machine, which has nothing yet."""
    (tmp_path / "new home").mkdir()
    return tmp_path / "new home"


@pytest.fixture
def living_process() -> dict[str, Any]:
    """How a status names a process that lives: this one."""
    from sft_app.runtime.processes import process_started

    return {"pid": os.getpid(), "pid_started": process_started(os.getpid())}
