"""A run in two processes (gloo, on the CPU): the same training as in one, and nothing of it is left when it ends."""

from __future__ import annotations

import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file

from sft_app.runtime.environment import LAUNCHER_PID_VARIABLE
from sft_app.training import distributed, supervisor
from sft_app.training.distributed import exit_as
from tests.waiting import started_by, supervisors

STEPS = {"max_steps": 4, "eval_steps": 2, "watch_prompts": ("Where is it?",)}


def losses(run: Any, name: str) -> dict[int, float]:
    return {row.step: getattr(row, name) for row in run.metrics() if getattr(row, name) is not None}


def train(run: Any) -> Any:
    """In processes of its own, as the supervisor does it."""
    supervisor._supervise(run)
    assert run.status().state == "finished", run.log_tail(60)
    return run


def launchers_of(run: Any) -> list[psutil.Process]:
    started = [process for boss in supervisors() for process in started_by(boss.pid, "sft_app.training.distributed")]
    return [process for process in started if process.pid == run.status().pid]


@pytest.mark.parametrize(
    "options",
    [
        {"trainer": "sft", "method": "lora"},
        {"trainer": "sft", "method": "lora", "packing": False},
        {"trainer": "classic", "method": "full", "learning_rate": 1e-3},
    ],
    ids=lambda options: "-".join(map(str, options.values())),
)
def test_two_processes_train_as_one_does(make_run: Any, work: Any, options: dict[str, Any]) -> None:
    """4 x 2 x 1 and 2 x 2 x 2 conversations a step, in both cases the same eight."""
    alone = make_run(per_device_train_batch_size=4, gradient_accumulation_steps=2, **STEPS, **options)
    work(alone)
    shared = train(
        make_run(per_device_train_batch_size=2, gradient_accumulation_steps=2, num_processes=2, **STEPS, **options)
    )
    for name in ("loss", "heldout_loss", "grad_norm", "learning_rate"):
        one, two = losses(alone, name), losses(shared, name)
        assert one.keys() == two.keys()
        assert list(two.values()) == pytest.approx(list(one.values()), rel=1e-3, abs=1e-6), name
    assert shared.scorecard().tuned["loss"] == pytest.approx(alone.scorecard().tuned["loss"], abs=1e-3)
    assert [row.step for row in shared.snapshots()] == [row.step for row in alone.snapshots()]
    file = "adapter_model.safetensors" if options["method"] == "lora" else "model.safetensors"
    one, two = (load_file(run.adapter_dir / file) for run in (alone, shared))
    for name, weight in one.items():
        torch.testing.assert_close(weight, two[name], rtol=1e-2, atol=1e-4, msg=lambda m, n=name: f"{n}: {m}")
    assert len([row for row in shared.metrics() if row.loss is not None]) == 4


def test_both_processes_end_where_a_number_is_not_finite(make_run: Any, tiny_model_dir: Path, tmp_path: Path) -> None:
    base = shutil.copytree(tiny_model_dir, tmp_path / "broken")
    tensors = load_file(base / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"].fill_(3e38)  # finite, but what it computes is not
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
    run = make_run(model=base, method="lora", num_processes=2, **STEPS)
    supervisor._supervise(run)
    status = run.status()
    assert status.state == "failed", run.log_tail(60)
    assert status.message.startswith("The loss of the base model is not a number")
    assert not run.has_adapter()


@pytest.fixture
def started(home: Path, make_run: Any, wait_until: Any) -> Any:
    """A long run in two processes that has taken a step: its run, launcher and ranks. Nothing outlives the test."""
    run = make_run(method="lora", num_processes=2, max_steps=100_000, eval_steps=50_000, save_minutes=1e4)
    supervisor.ensure_supervisor(home)
    begun: list[psutil.Process] = []
    try:
        begun += wait_until(lambda: launchers_of(run), seconds=60)
        wait_until(lambda: losses(run, "loss") or run.status().has_ended(), seconds=120)
        assert not run.status().has_ended(), run.log_tail(60)
        begun += started_by(begun[0].pid, "sft_app.training.worker")
        assert len(begun) == 3
        assert run.status().pid == begun[0].pid
        yield run, begun[0], begun[1:]
    finally:
        run.request_stop()  # for what the list may lack
        for process in begun:
            if process.is_running():
                process.kill()


def test_both_processes_stop_at_the_same_step_and_the_adapter_is_kept(started: Any, wait_until: Any) -> None:
    run, launcher, ranks = started
    run.request_stop()
    wait_until(lambda: run.status().state == "stopped", seconds=60)
    assert (run.adapter_dir / "adapter_model.safetensors").is_file()
    steps = [row.step for row in run.metrics() if row.loss is not None]
    assert steps == list(range(1, len(steps) + 1))
    wait_until(lambda: not any(process.is_running() for process in [launcher, *ranks]))


def test_process_that_dies_ends_the_run_with_a_message(started: Any, wait_until: Any) -> None:
    run, launcher, ranks = started
    ranks[1].kill()
    wait_until(lambda: run.status().state == "failed", seconds=60)
    assert "Another of the run's processes ended" in run.status().message or "signal 9" in run.status().message
    wait_until(lambda: not any(process.is_running() for process in [launcher, *ranks]))


def test_killed_launcher_leaves_no_process_behind(started: Any, wait_until: Any) -> None:
    run, launcher, ranks = started
    launcher.kill()
    wait_until(lambda: not any(process.is_running() for process in ranks), seconds=30)
    wait_until(lambda: run.status().state in ("failed", "interrupted"))


def test_request_to_end_reaches_both_processes_and_saves_a_checkpoint(started: Any, wait_until: Any) -> None:
    run, launcher, ranks = started
    launcher.terminate()
    wait_until(lambda: not any(process.is_running() for process in [launcher, *ranks]), seconds=60)
    wait_until(lambda: run.status().state == "interrupted")
    assert "told to stop (SIGTERM)" in run.status().message
    assert any(run.checkpoints_dir.glob("checkpoint-*/adapter_model.safetensors"))


STAND_IN = """
import os, sys, time
if os.environ["RANK"] == "1":
    if sys.argv[1] == "signal": os.kill(os.getpid(), 9)
    sys.exit(int(sys.argv[1]))
time.sleep(60)
"""


@pytest.mark.parametrize(("ending", "code"), [("75", 75), ("3", 3), ("signal", -signal.SIGKILL)])
def test_launcher_ends_as_the_process_that_failed_first(tmp_path: Path, ending: str, code: int) -> None:
    import subprocess

    (tmp_path / "stand_in.py").write_text(STAND_IN)
    command = [sys.executable, "-m", "tests.training.launching_stand_in", "2", ending]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=120)
    assert done.returncode == code, done.stderr.decode()[-2000:]


def test_ending_as_a_status_is_that_status() -> None:
    with pytest.raises(SystemExit) as caught:
        exit_as(75)
    assert caught.value.code == 75


def test_more_processes_than_gpus_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from sft_app.errors import ModelError

    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.delenv(LAUNCHER_PID_VARIABLE, raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ModelError, match="num_processes is 3, but this machine has 2 GPU"):
        distributed.join_ranks()


def test_single_process_sees_a_single_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for shown, expected in (("2,3", "2"), ("", ""), ("-1", "-1")):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", shown)
        assert supervisor.worker_environment(1)["CUDA_VISIBLE_DEVICES"] == expected
        assert supervisor.worker_environment(2)["CUDA_VISIBLE_DEVICES"] == shown
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert supervisor.worker_environment(1)["CUDA_VISIBLE_DEVICES"] == "0"
    assert "CUDA_VISIBLE_DEVICES" not in supervisor.worker_environment(2)


def test_a_worker_on_a_gpu_takes_memory_in_segments_that_can_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    for has_gpu, own, expected in [(True, None, "expandable_segments:True"), (True, "x", "x"), (False, None, None)]:
        monkeypatch.setattr(supervisor, "has_nvidia_gpu", lambda has_gpu=has_gpu: has_gpu)
        monkeypatch.setenv("PYTORCH_ALLOC_CONF", own) if own else monkeypatch.delenv("PYTORCH_ALLOC_CONF", False)
        assert supervisor.worker_environment(1).get("PYTORCH_ALLOC_CONF") == expected
    monkeypatch.setattr(supervisor, "has_nvidia_gpu", lambda: True)
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", "max_split_size_mb:64")
    assert "PYTORCH_ALLOC_CONF" not in supervisor.worker_environment(1)


@pytest.mark.parametrize("fsdp", ["full_shard", "shard_grad_op"])
def test_fsdp_becomes_arguments_that_transformers_accepts(tiny_model_dir: Path, tmp_path: Path, fsdp: str) -> None:
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, TrainingArguments

    from sft_app.settings import parse_settings
    from sft_app.training.trainers.arguments import TrainingJob, common_arguments

    settings = parse_settings({"fsdp": fsdp, "num_processes": 2, "method": "lora", "gradient_checkpointing": True})
    model = AutoModelForCausalLM.from_pretrained(tiny_model_dir)
    job = TrainingJob(model, None, Dataset.from_list([]), [], settings, tmp_path, [])
    arguments = TrainingArguments(**common_arguments(job))
    assert arguments.fsdp is True
    assert arguments.fsdp_plugin_args["reshard_after_forward"] is (fsdp == "full_shard")
    assert arguments.fsdp_plugin_args["activation_checkpointing"] is True
    assert not arguments.activation_checkpointing
