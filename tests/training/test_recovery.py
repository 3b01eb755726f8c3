"""Runs cannot be lost. Real processes are killed, the disk is really full; a run that goes on ends as if nothing
had happened."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file

from sft_app.errors import RunError
from sft_app.runs.checkpoints import checkpoint_step, last_complete_checkpoint
from sft_app.runs.directory import delete_run
from sft_app.runs.folder import Run
from sft_app.runs.records import RunStatus
from sft_app.training.launch import resume_run
from sft_app.training.supervisor import ensure_supervisor
from sft_app.training.termination import BUSY_EXIT, OUT_OF_MEMORY_EXIT
from tests.waiting import supervisors, wait_until

Make = Callable[..., Run]
Work = Callable[..., int]
PROJECT = Path(__file__).resolve().parents[2]
MARK = "checkpoint-*/checkpoint-is-incomplete.txt"
# Checkpoints at steps that no evaluation is at, in the middle of an epoch (of five steps) and at its end; dropout needs
# the random state to go on where it was.
RECOVERABLE = {
    "max_steps": 24,
    "eval_steps": 8,
    "save_minutes": 1e-6,
    "lora_dropout": 0.1,
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 2,
    "learning_rate": 1e-3,
}
pytestmark = pytest.mark.usefixtures("processes")


def losses(run: Run, name: str) -> dict[int, float]:
    rows = [(row.step, getattr(row, name)) for row in run.metrics() if getattr(row, name) is not None]
    assert len(dict(rows)) == len(rows), "a step is told twice"
    return dict(rows)


def assert_equal_runs(one: Run, other: Run, tolerance: float = 1e-4) -> None:
    """Each step once, the same losses and the same weights."""
    for name in ("loss", "heldout_loss"):
        expected, found = losses(one, name), losses(other, name)
        assert found == pytest.approx({step: expected[step] for step in found}, abs=tolerance)
    steps = one.status().step
    assert list(losses(other, "loss")) == list(losses(one, "loss")) == list(range(1, steps + 1))
    (file,) = one.adapter_dir.glob("*.safetensors")
    weights, others = load_file(file), load_file(other.adapter_dir / file.name)
    assert all(torch.allclose(weights[name], others[name], atol=tolerance / 10) for name in weights)


def assert_readable(run: Run) -> None:
    """Whatever stands on the disk is whole; only the line that was being written may be half."""
    run.record()
    RunStatus.model_validate_json((run.path / "status.json").read_bytes())
    for file in (run.metrics_file, run.snapshots_file, run.base_scores_file):
        whole = file.read_bytes().split(b"\n")[:-1] if file.exists() else []
        assert all(isinstance(json.loads(line), dict) for line in whole)


def cut_the_power(run: Run) -> None:
    """Ends supervisor and worker at once, without a word; also a worker whose number is not written down yet."""
    bosses = supervisors()
    for boss in bosses:
        boss.suspend()  # so that it starts none now, and sees none go
    victims = {*bosses, *(child for boss in bosses for child in boss.children(recursive=True))}
    if psutil.pid_exists(run.status().pid or 0):  # of a worker whose supervisor has gone before
        victims.add(psutil.Process(run.status().pid))
    for victim in victims:
        victim.suspend()
    for victim in victims:
        victim.kill()
    for victim in victims:
        victim.wait(10)


def is_training(run: Run, step: int) -> bool:
    return run.status().state == "training" and len(losses(run, "loss")) >= step


@pytest.mark.parametrize(("trainer", "cuts"), [("sft", (3, 13)), ("classic", (13,))])
def test_run_after_power_cuts_equals_one_without(
    make_run: Make, home: Path, work: Work, trainer: str, cuts: tuple[int, ...]
) -> None:
    plain = make_run(trainer=trainer, **RECOVERABLE)
    work(plain)
    run = make_run(trainer=trainer, **RECOVERABLE)
    ensure_supervisor(home)
    for step in cuts:
        wait_until(lambda step=step: is_training(run, step), seconds=120)
        cut_the_power(run)
        assert_readable(run)
        checkpoint = last_complete_checkpoint(run.checkpoints_dir)
        assert checkpoint is not None and step - 3 <= checkpoint_step(checkpoint) < 24
        status = run.status()
        assert (status.state, status.hint) == ("interrupted", "Resume continues from the last checkpoint.")
        assert status.message == "The training process exited without an error message while training."
        resume_run(run, home)
    wait_until(lambda: run.status().has_ended(), seconds=120)
    assert (run.status().state, run.status().step) == ("finished", 24), run.log_tail(40)
    assert list(losses(run, "heldout_loss")) == [0, 8, 16, 24]
    assert_equal_runs(plain, run)


def test_power_cut_while_a_checkpoint_is_written(make_run: Make, home: Path, work: Work) -> None:
    plain = make_run(**RECOVERABLE)
    work(plain)
    run = make_run(**RECOVERABLE)
    ensure_supervisor(home)
    wait_until(lambda: is_training(run, 4), seconds=120)
    worker = psutil.Process(run.status().pid)
    while not (marks := list(run.checkpoints_dir.glob(MARK))):
        assert worker.is_running()
    worker.suspend()
    cut_the_power(run)
    marks = [mark for mark in marks if mark.exists()]  # it may have got a step further until it was suspended
    complete = last_complete_checkpoint(run.checkpoints_dir)
    assert complete is not None and complete not in [mark.parent for mark in marks]
    resume_run(run, home)
    wait_until(lambda: run.status().has_ended(), seconds=120)
    assert run.status().state == "finished", run.log_tail(40)
    assert_equal_runs(plain, run)


def truncate(name: str) -> Callable[[Path], None]:
    return lambda checkpoint: os.truncate(checkpoint / name, (checkpoint / name).stat().st_size // 2)


@pytest.mark.parametrize(
    "damage",
    [
        truncate("optimizer.pt"),
        truncate("adapter_model.safetensors"),
        truncate("trainer_state.json"),
        truncate("rng_state.pth"),
        lambda checkpoint: (checkpoint / "trainer_state.json").unlink(),
        lambda checkpoint: (checkpoint / "checkpoint-is-incomplete.txt").touch(),
    ],
    ids=["optimizer", "adapter", "state", "random", "no-state", "marked"],
)
def test_damaged_checkpoint_costs_the_steps_since_the_one_before(
    make_run: Make, work: Work, plain_run: Run, damage: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(**{**RECOVERABLE, "max_steps": 12, "eval_steps": 6})
    write = Run.log_metric

    def break_off(self: Run, **values: Any) -> None:
        if values["step"] == 9:
            raise ValueError("the end")
        write(self, **values)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "log_metric", break_off)
        work(run)
    assert last_complete_checkpoint(run.checkpoints_dir) == run.checkpoints_dir / "checkpoint-8"
    damage(run.checkpoints_dir / "checkpoint-8")
    assert last_complete_checkpoint(run.checkpoints_dir) == run.checkpoints_dir / "checkpoint-7"
    assert work(run) == 0
    assert run.status().state == "finished"
    assert_equal_runs(plain_run, run)


@pytest.fixture(scope="module")
def plain_run(tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path) -> Run:
    """Twelve steps without any interruption."""
    from tests.training.conftest import queue_run, work_here

    settings = {**RECOVERABLE, "max_steps": 12, "eval_steps": 6}
    run = queue_run(tmp_path_factory.mktemp("home"), tiny_model_dir, **settings)
    work_here(run)
    return run


@pytest.mark.usefixtures("plain_processes")
def test_power_cut_before_the_first_checkpoint_begins_anew(make_run: Make, home: Path) -> None:
    run = make_run(max_steps=2)
    ensure_supervisor(home)
    wait_until(lambda: run.status().state == "preparing")
    cut_the_power(run)
    assert_readable(run)
    assert run.status().state == "interrupted"
    resume_run(run, home)
    wait_until(lambda: run.status().has_ended(), seconds=120)
    assert (run.status().state, list(losses(run, "loss"))) == ("finished", [1, 2]), run.log_tail(40)


def test_a_second_worker_leaves_the_run_to_the_first(make_run: Make, home: Path, work: Work) -> None:
    plain = make_run(**RECOVERABLE)
    work(plain)
    run = make_run(**RECOVERABLE)
    command = [sys.executable, "-m", "sft_app.training.worker", str(run.path), "2", "2"]
    with run.log_file.open("ab") as log:
        workers = [subprocess.Popen(command, cwd=PROJECT, stdout=log, stderr=log) for _ in range(2)]
    assert sorted(worker.wait(180) for worker in workers) == [0, BUSY_EXIT], run.log_tail(40)
    assert run.status().pid == workers[0 if workers[0].returncode == 0 else 1].pid
    assert run.status().state == "finished"
    assert_equal_runs(plain, run)


DIES_BEFORE_IT_RECORDS = """
    import os, sys
    from pathlib import Path
    from sft_app.training import supervisor

    def hand_over(run, pid, *others, **changes):
        if pid != os.getpid():  # the worker has been started, and its number is not written down yet
            print(pid, flush=True)
            os.kill(os.getpid(), 9)
        hand_over_as_it_is(run, pid, *others, **changes)

    hand_over_as_it_is, supervisor.hand_over = supervisor.hand_over, hand_over
    supervisor.work_off_queue(Path(sys.argv[1]))
"""


def test_a_worker_that_its_supervisor_could_not_record_has_the_run_and_the_machine(
    make_run: Make, home: Path, tmp_path: Path
) -> None:
    run, waiting = make_run(max_steps=3), make_run(max_steps=1)
    (tmp_path / "dies.py").write_text(textwrap.dedent(DIES_BEFORE_IT_RECORDS))
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    dies = subprocess.run([sys.executable, tmp_path / "dies.py", home], env=environment, capture_output=True, text=True)
    worker = psutil.Process(int(dies.stdout))
    worker.suspend()  # as slow as it likes
    assert run.status().state == "preparing" and run.has_worker()
    with pytest.raises(RunError, match="stop it before deleting it"):
        delete_run(run)
    with pytest.raises(RunError, match="can be resumed"):
        resume_run(run, home)
    ensure_supervisor(home)
    (boss,) = supervisors()
    wait_until(lambda: boss.cpu_times().user > 0.2 and boss.status() == psutil.STATUS_SLEEPING)
    assert waiting.status().state == "queued"
    worker.resume()
    wait_until(lambda: waiting.status().has_ended(), seconds=180)
    assert [run.status().state, waiting.status().state] == ["finished", "finished"], run.log_tail(40)
    assert list(losses(run, "loss")) == [1, 2, 3]


def test_a_worker_of_a_run_that_was_deleted_ends_quietly(make_run: Make) -> None:
    run = make_run()
    delete_run(run)
    command = [sys.executable, "-m", "sft_app.training.worker", str(run.path), "2", "2"]
    assert subprocess.run(command, cwd=PROJECT).returncode == 0
    assert not run.path.exists()


def test_supervisor_that_the_machine_ends_passes_it_on_and_leaves_the_queue(make_run: Make, home: Path) -> None:
    run, waiting = make_run(**{**RECOVERABLE, "max_steps": 5000, "save_minutes": 60.0}), make_run(max_steps=2)
    ensure_supervisor(home)
    wait_until(lambda: is_training(run, 4), seconds=120)
    (boss,) = supervisors()
    worker = psutil.Process(run.status().pid)
    boss.terminate()
    wait_until(lambda: not boss.is_running() or boss.status() == psutil.STATUS_ZOMBIE)
    assert not worker.is_running()
    status, checkpoint = run.status(), last_complete_checkpoint(run.checkpoints_dir)
    assert checkpoint is not None and checkpoint_step(checkpoint) == len(losses(run, "loss"))
    told = "The training process was told to stop (SIGTERM), usually because the machine is shutting down."
    assert (status.state, status.message) == ("interrupted", told)
    assert status.hint == f"Resume continues from step {checkpoint_step(checkpoint)}."
    assert waiting.status().state == "queued"

    ensure_supervisor(home)  # as the page does when it opens
    wait_until(lambda: waiting.status().has_ended(), seconds=120)
    assert (waiting.status().state, run.status().state) == ("finished", "interrupted")


OUT_OF_MEMORY = """
    import importlib.util, sys

    class Finder:
        def find_spec(self, name, path=None, target=None):
            if name != "sft_app.training.trainers.heldout":
                return None
            sys.meta_path.remove(self)
            spec = importlib.util.find_spec(name)
            run = spec.loader.exec_module

            def exec_module(module):
                run(module)
                step = module.HeldoutEvaluation.training_step

                def training_step(self, *args, **kwargs):
                    import torch
                    if self.args.per_device_train_batch_size > 2 and self.state.global_step >= 3:
                        raise torch.OutOfMemoryError("CUDA out of memory.")
                    return step(self, *args, **kwargs)

                module.HeldoutEvaluation.training_step = training_step

            spec.loader.exec_module = exec_module
            return spec

    sys.meta_path.insert(0, Finder())
"""


def test_worker_that_runs_out_of_gpu_memory_goes_on_from_its_checkpoint_with_the_same_steps(
    make_run: Make, home: Path, work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a process of its own, where every step with more than two conversations at once fails from the fourth on."""
    settings = {**RECOVERABLE, "max_steps": 8, "eval_steps": 4, "lora_dropout": 0.0}
    settings |= {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 1}
    plain = make_run(**settings)
    work(plain)
    run = make_run(**settings)
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(textwrap.dedent(OUT_OF_MEMORY))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    ensure_supervisor(home)
    wait_until(lambda: run.status().has_ended(), seconds=120)
    status = run.status()
    assert (status.state, status.step) == ("finished", 8), run.log_tail(40)
    assert status.hint == (
        "There was not enough memory for 4 conversations at once; the run now uses batches of 2, 2 per step, "
        "so each step still covers the same number of conversations."
    )
    assert "CUDA out of memory" in run.log_file.read_text()
    assert_equal_runs(plain, run)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    if (
        not mount
        or subprocess.run([mount, "-t", "tmpfs", "-o", "size=64m", "tmpfs", folder], capture_output=True).returncode
    ):
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)  # this process may still have the tokens open


def test_run_on_a_full_disk_ends_clearly_and_goes_on_when_there_is_room(
    make_run: Make, work: Work, small_disk: Path
) -> None:
    made = make_run(**{**RECOVERABLE, "max_steps": 100_000, "eval_steps": 100_000})
    run = Run(Path(shutil.copytree(made.path, small_disk / "runs" / made.id)))
    command = [sys.executable, "-m", "sft_app.training.worker", str(run.path), "2", "2"]
    with run.log_file.open("ab") as log:
        worker = subprocess.Popen(command, cwd=PROJECT, stdout=log, stderr=log)
    try:
        wait_until(lambda: is_training(run, 6) and last_complete_checkpoint(run.checkpoints_dir), seconds=120)
        with pytest.raises(OSError, match="No space left"), (small_disk / "filler").open("wb", buffering=0) as filler:
            while True:
                filler.write(bytes(4096))
        assert worker.wait(60) != OUT_OF_MEMORY_EXIT
    finally:
        worker.kill()
    assert_readable(run)
    assert run.status().state in ("failed", "interrupted")
    checkpoint = last_complete_checkpoint(run.checkpoints_dir)
    assert checkpoint is not None
    (small_disk / "filler").unlink()
    run.request_stop()
    assert work(run) == 0
    assert run.status().state == "stopped"
    assert list(losses(run, "loss")) == list(range(1, checkpoint_step(checkpoint) + 2))
    assert run.has_adapter()
