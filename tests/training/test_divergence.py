"""A run ends at its first number that is not finite, says why, and keeps what it had before."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from sft_app.runs.checkpoints import complete_checkpoints, discard_incomplete, last_complete_checkpoint
from sft_app.runs.folder import Run
from sft_app.training.divergence import all_finite, discard_broken_checkpoints

Make = Callable[..., Run]
Work = Callable[..., int]


def spoil(file: Path, name_part: str = "", value: float = math.nan) -> None:
    """The first numbers of a tensor in a file of weights become `value`."""
    tensors = load_file(file)
    name = next(name for name in tensors if name_part in name)
    tensors[name].view(-1)[:64] = value
    save_file(tensors, file, metadata={"format": "pt"})


@pytest.fixture(scope="module")
def broken_base(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with weights that are finite and too large: its activations are not."""
    folder = tmp_path_factory.mktemp("models") / "broken"
    shutil.copytree(tiny_model_dir, folder)
    spoil(folder / "model.safetensors", "layers.1.mlp.up_proj", 3e38)
    return folder


def refuse_constant(name: str) -> None:
    raise AssertionError(f"{name} is not JSON")


def assert_valid_json(run: Run) -> None:
    for file in run.path.rglob("*.json*"):
        texts = file.read_text().splitlines() if file.suffix == ".jsonl" else [file.read_text()]
        for text in texts:
            json.loads(text, parse_constant=refuse_constant)


FAST = {"watch_prompts": (), "scorecard_prompts": 0}


def assert_failed(run: Run, message: str, checkpoints: list[int]) -> None:
    status = run.status()
    assert status.state == "failed"
    assert message in status.message
    assert not run.has_adapter() and run.scorecard() is None
    kept = complete_checkpoints(run.checkpoints_dir)
    assert [int(path.name.partition("-")[2]) for path in kept] == checkpoints
    assert all(all_finite(load_file(file).values()) for path in kept for file in path.glob("*.safetensors"))
    assert all(math.isfinite(0.0 if row.loss is None else row.loss) for row in run.metrics())
    assert_valid_json(run)


@pytest.mark.parametrize("trainer", ["sft", "classic"])
@pytest.mark.parametrize("method", ["lora", "qlora", "full"])
def test_a_base_without_a_finite_loss_fails_the_run_before_it_begins(
    make_run: Make, work: Work, broken_base: Path, method: str, trainer: str
) -> None:
    run = make_run(**FAST, model=broken_base, method=method, trainer=trainer)
    assert work(run) == 0
    assert_failed(run, "The loss of the base model is not a number", [])
    assert "download the model again" in run.status().hint
    assert run.metrics() == []


def test_a_base_that_holds_a_nan_is_refused_as_it_is_loaded(
    make_run: Make, work: Work, tiny_model_dir: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny_model_dir, tmp_path / "broken")
    spoil(folder / "model.safetensors", "layers.1.mlp.up_proj")
    run = make_run(**FAST, model=folder)
    assert work(run) == 0
    assert_failed(run, "up_proj.weight contains numbers that are not finite", [])
    assert run.metrics() == []


def test_a_break_in_another_process_ends_this_one_too(
    make_run: Make, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sft_app.training.trainers import heldout

    run, asked = make_run(**FAST), heldout.sum_over_ranks
    monkeypatch.setattr(
        heldout, "sum_over_ranks", lambda number: 1 if len(run.metrics()) == 2 and number == 0 else asked(number)
    )
    work(run)
    assert_failed(run, "Training diverged at step 2: the loss is not finite", [])


def test_a_precision_that_may_be_the_reason_is_named(make_run: Make, work: Work, broken_base: Path) -> None:
    run = make_run(**FAST, model=broken_base, dtype="bfloat16")
    work(run)
    assert "Set dtype to float32" in run.status().hint


def with_trainer(monkeypatch: pytest.MonkeyPatch, change: Callable[[Any], None]) -> None:
    from sft_app.training import worker

    build = worker.build_trainer

    def build_changed(job: Any) -> Any:
        trainer = build(job)
        change(trainer)
        return trainer

    monkeypatch.setattr(worker, "build_trainer", build_changed)


def nan_gradient_at_step(step: int) -> Callable[[Any], None]:
    def change(trainer: Any) -> None:
        trained = next(weight for weight in trainer.model.parameters() if weight.requires_grad)
        trained.register_hook(lambda grad: grad * math.nan if trainer.state.global_step == step - 1 else grad)

    return change


def nan_loss_at_step(step: int) -> Callable[[Any], None]:
    def change(trainer: Any) -> None:
        compute = trainer.compute_loss

        def compute_nan(*args: Any, **kwargs: Any) -> Any:
            loss = compute(*args, **kwargs)
            return loss * math.nan if trainer.state.global_step == step - 1 else loss

        trainer.compute_loss = compute_nan

    return change


@pytest.mark.parametrize("trainer", ["sft", "classic"])
@pytest.mark.parametrize(("change", "what"), [(nan_gradient_at_step, "the gradient"), (nan_loss_at_step, "the loss")])
def test_a_break_midway_fails_the_run_and_keeps_the_step_before(
    make_run: Make, work: Work, monkeypatch: pytest.MonkeyPatch, trainer: str, change: Any, what: str
) -> None:
    run = make_run(**FAST, trainer=trainer)
    with monkeypatch.context() as patch:
        with_trainer(patch, change(4))
        assert work(run) == 0
    assert_failed(run, f"Training diverged at step 4: {what} is not a number.", [3, 2])
    assert run.status().hint.startswith("Lower the learning rate (it is 0.01), and start a new run.")
    assert work(run) == 0  # as resumed
    assert (run.status().state, run.status().step) == ("finished", 4)
    assert [row.step for row in run.metrics() if row.loss is not None] == [1, 2, 3, 4]


def test_a_heldout_loss_that_is_not_finite_fails_the_run(
    make_run: Make, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sft_app.training.trainers import heldout

    run, mean = make_run(**FAST), heldout.mean_loss
    monkeypatch.setattr(heldout, "mean_loss", lambda scores: math.inf if len(run.metrics()) > 4 else mean(scores))
    work(run)
    assert_failed(run, "Training diverged at step 4: the held-out loss is infinite.", [2])


def test_weights_that_are_not_finite_are_never_saved(
    make_run: Make, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not as a checkpoint, and not as an adapter either: here they break after the last evaluation."""

    def break_at_the_end(trainer: Any) -> None:
        kept_step = trainer.kept_step

        def break_weights() -> int:
            with torch.no_grad():
                next(weight for weight in trainer.model.parameters() if weight.requires_grad).fill_(math.nan)
            return kept_step()

        trainer.kept_step = break_weights

    with_trainer(monkeypatch, break_at_the_end)
    run = make_run(**FAST)
    work(run)
    assert_failed(run, "a weight is not a number", [4, 2])


def test_a_checkpoint_with_broken_weights_is_not_gone_on_from(make_run: Make, work: Work) -> None:
    run = make_run(**FAST)
    work(run)
    newest = last_complete_checkpoint(run.checkpoints_dir)
    assert newest is not None and newest.name == "checkpoint-4"
    spoil(newest / "adapter_model.safetensors")
    run.update_status(state="interrupted")
    assert work(run) == 0
    assert run.status().state == "finished"
    assert all_finite(load_file(run.adapter_dir / "adapter_model.safetensors").values())
    assert [row.step for row in run.metrics() if row.loss is not None] == [1, 2, 3, 4]


def spoil_state(file: Path, change: Callable[[Any], Any]) -> None:
    state = torch.load(file, weights_only=True)
    change(state)
    torch.save(state, file)


SPOILT: dict[str, tuple[str, Callable[[Path], None]]] = {
    "first moment": (
        "optimizer.pt",
        lambda file: spoil_state(file, lambda state: state["state"][0]["exp_avg"].view(-1)[:1].fill_(math.nan)),
    ),
    "second moment": (
        "optimizer.pt",
        lambda file: spoil_state(file, lambda state: state["state"][1]["exp_avg_sq"].view(-1)[:1].fill_(math.inf)),
    ),
    "learning rate": (
        "optimizer.pt",
        lambda file: spoil_state(file, lambda state: state["param_groups"][0].update(lr=math.nan)),
    ),
    "schedule": ("scheduler.pt", lambda file: spoil_state(file, lambda state: state.update(base_lrs=[math.nan]))),
    "loss scaling": ("scaler.pt", lambda file: torch.save({"scale": math.inf, "_growth_tracker": 0}, file)),
    "weights of FSDP": ("pytorch_model_fsdp.bin", lambda file: torch.save({"w": torch.tensor([math.nan])}, file)),
    "optimizer of FSDP": ("optimizer.bin", lambda file: torch.save({"state": {0: torch.tensor([math.nan])}}, file)),
    "truncated": ("optimizer.bin", lambda file: file.write_bytes(b"PK\x03\x04 and no more")),
    "no saved state": ("optimizer.bin", lambda file: file.write_bytes(b"")),
}


@pytest.fixture(scope="module")
def checkpoint(finished_run: Run) -> Path:
    found = last_complete_checkpoint(finished_run.checkpoints_dir)
    assert found is not None
    return found


@pytest.mark.parametrize("what", SPOILT)
def test_a_checkpoint_with_a_broken_state_is_discarded_and_the_one_before_stays(
    checkpoint: Path, tmp_path: Path, what: str
) -> None:
    for step in (2, 4, 6):
        shutil.copytree(checkpoint, tmp_path / f"checkpoint-{step}")
    name, change = SPOILT[what]
    for step in (4, 6):
        change(tmp_path / f"checkpoint-{step}" / name)
    told = discard_broken_checkpoints(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-2"]
    assert told.startswith("Discarded checkpoint-6 and checkpoint-4,") and told.endswith("continued from step 2.")
    assert discard_broken_checkpoints(tmp_path) == ""


def test_a_state_that_is_cut_off_is_discarded(checkpoint: Path, tmp_path: Path) -> None:
    for step in (2, 4):
        shutil.copytree(checkpoint, tmp_path / f"checkpoint-{step}")
    file = tmp_path / "checkpoint-4" / "optimizer.pt"
    file.write_bytes(file.read_bytes()[:-100])
    discard_incomplete(tmp_path)
    discard_broken_checkpoints(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-2"]


def test_a_disk_that_fails_for_a_moment_costs_no_checkpoint(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(5, "Input/output error")

    shutil.copytree(checkpoint, tmp_path / "checkpoint-4")
    monkeypatch.setattr(torch, "load", fail)
    with pytest.raises(OSError, match="Input/output error"):
        discard_broken_checkpoints(tmp_path)
    assert (tmp_path / "checkpoint-4" / "optimizer.pt").exists()


def test_a_run_goes_on_from_before_a_broken_optimizer_and_says_so(make_run: Make, work: Work) -> None:
    run = make_run(**FAST)
    work(run)
    newest = last_complete_checkpoint(run.checkpoints_dir)
    assert newest is not None and newest.name == "checkpoint-4"
    SPOILT["first moment"][1](newest / "optimizer.pt")
    run.update_status(state="interrupted")
    assert work(run) == 0
    assert run.status().state == "finished"
    assert run.status().message.startswith("Discarded checkpoint-4, which contained non-finite or unreadable values")
    assert "continued from step 2." in run.status().message
    assert [row.step for row in run.metrics() if row.loss is not None] == [1, 2, 3, 4]
