"""Which checkpoint a run goes on from."""

from __future__ import annotations

from pathlib import Path

import pytest

from sft_app.training.checkpoints import checkpoint_step, last_complete_checkpoint

FILES = ("trainer_state.json", "optimizer.pt", "scheduler.pt", "adapter_model.safetensors")


def write_checkpoint(folder: Path, step: int, without: str = "", weights: str = FILES[3]) -> Path:
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    for name in (*FILES[:3], weights):
        if name != without:
            (path / name).write_text("x")
    return path


def test_last_is_the_highest_step_not_the_last_name(tmp_path: Path) -> None:
    for step in (9, 10, 2):
        write_checkpoint(tmp_path, step)
    assert last_complete_checkpoint(tmp_path) == tmp_path / "checkpoint-10"


@pytest.mark.parametrize("missing", FILES)
def test_checkpoint_that_lacks_a_file_is_passed_over(tmp_path: Path, missing: str) -> None:
    whole = write_checkpoint(tmp_path, 5)
    write_checkpoint(tmp_path, 10, without=missing)
    assert last_complete_checkpoint(tmp_path) == whole


def test_checkpoint_marked_incomplete_is_passed_over(tmp_path: Path) -> None:
    whole, half = write_checkpoint(tmp_path, 5), write_checkpoint(tmp_path, 10)
    (half / "checkpoint-is-incomplete.txt").touch()
    assert last_complete_checkpoint(tmp_path) == whole


def test_whole_model_counts_as_weights(tmp_path: Path) -> None:
    whole = write_checkpoint(tmp_path, 5, weights="model-00001-of-00002.safetensors")
    assert last_complete_checkpoint(tmp_path) == whole


def test_other_folders_and_files_are_passed_over(tmp_path: Path) -> None:
    for name in ("checkpoint-", "checkpoint-x", "checkpoint-7-old", "tmp-checkpoint-9", "runs"):
        write_checkpoint(tmp_path, 1).rename(tmp_path / name)
    (tmp_path / "checkpoint-11").touch()
    assert last_complete_checkpoint(tmp_path) is None


def test_no_folder_means_no_checkpoint(tmp_path: Path) -> None:
    assert last_complete_checkpoint(tmp_path / "nowhere") is None
    assert last_complete_checkpoint(tmp_path) is None


def test_step_stands_in_the_name(tmp_path: Path) -> None:
    assert checkpoint_step(tmp_path / "checkpoint-120") == 120
    assert checkpoint_step(tmp_path / "other") == 0
