"""Which checkpoint a run goes on from."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from sft_app.runs.checkpoints import (
    checkpoint_step,
    discard_incomplete,
    last_complete_checkpoint,
    prune_checkpoints,
    writing_checkpoint,
)

FILES = ("trainer_state.json", "optimizer.pt", "scheduler.pt", "rng_state.pth", "adapter_model.safetensors")
MARK = "checkpoint-is-incomplete.txt"


def write_checkpoint(folder: Path, step: int, without: str = "", weights: str = FILES[-1]) -> Path:
    """What a trainer writes, in small."""
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    for name in (*FILES[:-1], weights):
        if name == without:
            continue
        if name.endswith(".safetensors"):
            save_file({"a": torch.arange(300.0), "b": torch.ones(2, 3)}, path / name, metadata={"format": "pt"})
        elif name.endswith(".json"):
            (path / name).write_text('{"global_step": 5, "log_history": []}')
        else:
            torch.save({"state": torch.arange(300.0)}, path / name)
    return path


def cut_half(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def cut_last_byte(file: Path) -> None:
    os.truncate(file, file.stat().st_size - 1)


def cut_all(file: Path) -> None:
    os.truncate(file, 0)


def zero_out(file: Path) -> None:
    """What a file system may leave of a file whose blocks were not written when the power went."""
    file.write_bytes(bytes(file.stat().st_size))


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
    (half / MARK).touch()
    assert last_complete_checkpoint(tmp_path) == whole


@pytest.mark.parametrize("damage", [cut_half, cut_last_byte, cut_all, zero_out])
@pytest.mark.parametrize("name", FILES)
def test_checkpoint_with_a_damaged_file_is_passed_over(
    tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    whole, damaged = write_checkpoint(tmp_path, 5), write_checkpoint(tmp_path, 10)
    assert last_complete_checkpoint(tmp_path) == damaged
    damage(damaged / name)
    assert last_complete_checkpoint(tmp_path) == whole


@pytest.mark.parametrize("header", [b"\xff" * 8, (2).to_bytes(8, "little") + b"[]", (3).to_bytes(8, "little") + b"abc"])
def test_weights_with_a_header_of_another_kind_are_passed_over(tmp_path: Path, header: bytes) -> None:
    path = write_checkpoint(tmp_path, 5)
    (path / FILES[-1]).write_bytes(header)
    assert last_complete_checkpoint(tmp_path) is None


def test_checkpoint_of_several_processes_is_complete(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, 5)
    (path / "rng_state.pth").rename(path / "rng_state_0.pth")
    torch.save({}, path / "rng_state_1.pth")
    assert last_complete_checkpoint(tmp_path) == path
    cut_half(path / "rng_state_1.pth")
    assert last_complete_checkpoint(tmp_path) is None


def test_checkpoint_is_marked_until_all_of_it_is_written(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), writing_checkpoint(tmp_path / "checkpoint-5"):
        write_checkpoint(tmp_path / "elsewhere", 5).rename(tmp_path / "checkpoint-5" / "files")
        for file in (tmp_path / "checkpoint-5" / "files").iterdir():
            file.rename(tmp_path / "checkpoint-5" / file.name)
        raise KeyboardInterrupt
    assert last_complete_checkpoint(tmp_path) is None
    with writing_checkpoint(tmp_path / "checkpoint-5"):  # the same step once more, after the run was resumed
        assert last_complete_checkpoint(tmp_path) is None
    assert last_complete_checkpoint(tmp_path) == tmp_path / "checkpoint-5"
    assert not (tmp_path / "checkpoint-5" / MARK).exists()


@pytest.mark.parametrize(
    ("best", "left"), [(0, [40, 50]), (20, [20, 40, 50]), (50, [40, 50]), (40, [40, 50]), (15, [40, 50])]
)
def test_the_last_two_and_the_best_are_kept(tmp_path: Path, best: int, left: list[int]) -> None:
    for step in (10, 20, 30, 40, 50):
        write_checkpoint(tmp_path, step)
    (write_checkpoint(tmp_path, 45) / MARK).touch()
    prune_checkpoints(tmp_path, best)
    assert sorted(map(checkpoint_step, tmp_path.iterdir())) == left


def test_what_a_killed_process_left_is_cleared_away_and_nothing_else(tmp_path: Path) -> None:
    whole, half = write_checkpoint(tmp_path, 5), write_checkpoint(tmp_path, 10)
    cut_half(half / "optimizer.pt")
    (tmp_path / "README.md").touch()
    discard_incomplete(tmp_path)
    assert sorted(tmp_path.iterdir()) == [tmp_path / "README.md", whole]
    discard_incomplete(tmp_path / "nowhere")


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
