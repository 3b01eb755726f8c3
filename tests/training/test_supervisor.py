"""The queue: real processes on the tiny model; and, with a stand-in for the worker, what follows each of its ends."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from sft_app.runs.checkpoints import checkpoint_step, last_complete_checkpoint
from sft_app.runs.directory import move_in_queue
from sft_app.runs.folder import Run
from sft_app.training import supervisor
from sft_app.training.launch import resume_run, stop_run
from sft_app.training.supervisor import ensure_supervisor, next_queued, work_off_queue
from sft_app.training.termination import OUT_OF_MEMORY_EXIT, TERMINATED_EXIT
from tests.waiting import supervisors

Make = Callable[..., Run]
Wait = Callable[..., Any]
PROJECT = Path(__file__).resolve().parents[2]


@pytest.mark.usefixtures("processes")
def test_two_supervisors_at_once_run_the_queue_once_in_order(make_run: Make, home: Path, wait_until: Wait) -> None:
    first, second = make_run(max_steps=2), make_run(max_steps=2)
    for _ in range(2):
        ensure_supervisor(home)
    workers: dict[str, set[int]] = {first.id: set(), second.id: set()}

    def look() -> bool:
        working = [run for run in (first, second) if run.status().state in ("preparing", "training", "scoring")]
        assert len(working) <= 1, "one machine, one worker"
        for status, run in ((run.status(), run) for run in working):
            workers[run.id] |= {status.pid or 0} if status.state == "training" else set()
        return all(run.status().has_ended() for run in (first, second))

    wait_until(look, seconds=150)
    assert [run.status().state for run in (first, second)] == ["finished", "finished"]
    assert [len(pids) for pids in workers.values()] == [1, 1]
    assert (second.status().started_utc or "") >= (first.status().ended_utc or "?")
    wait_until(lambda: not supervisors())
    assert next_queued(home) is None


@pytest.mark.usefixtures("plain_processes")
@pytest.mark.usefixtures("processes")
def test_run_survives_the_kill_of_its_worker_and_then_of_its_supervisor(
    make_run: Make, home: Path, wait_until: Wait
) -> None:
    run = make_run(max_steps=100_000, eval_steps=10, watch_prompts=(), load_best_model_at_end=False)
    ensure_supervisor(home)
    wait_until(lambda: last_complete_checkpoint(run.checkpoints_dir), seconds=90)
    worker = psutil.Process(run.status().pid)
    worker.kill()
    ended = wait_until(lambda: (status := run.status()).state == "failed" and status)
    assert ended.message.startswith("The training process was killed (signal 9)")
    assert ended.hint.startswith("The end of the log: ")
    checkpoint = last_complete_checkpoint(run.checkpoints_dir)
    assert checkpoint is not None
    told = [row for row in run.metrics() if row.loss is not None and row.step <= checkpoint_step(checkpoint)]
    wait_until(lambda: not supervisors())

    resume_run(run, home)
    wait_until(lambda: run.status().state == "training" and run.status().step > len(told), seconds=90)
    again = psutil.Process(run.status().pid)
    (boss,) = supervisors()
    assert again.ppid() == boss.pid
    boss.kill()
    boss.wait(10)
    step = run.status().step
    wait_until(lambda: run.status().step > step + 2)
    assert again.is_running()

    stop_run(run)
    wait_until(lambda: run.status().has_ended())
    assert (run.status().state, run.status().message) == ("stopped", "")
    assert run.has_adapter()
    assert run.scorecard() is not None
    losses = [row for row in run.metrics() if row.loss is not None]
    assert losses[: len(told)] == told
    assert [row.step for row in losses] == list(range(1, run.status().step + 1))


class StandInWorker:
    """Takes the place of the worker process: ends with the given exit statuses, one after the other.

    It leaves its run in `state`; before the last status it says `finished`, if that is 0. `calls` are the run,
    micro-batch and accumulation it got.
    """

    def __init__(self, *codes: int, state: str = "training") -> None:
        self.codes, self.state = list(codes), state
        self.calls: list[tuple[str, int, int]] = []
        self.states: list[str] = []

    def __call__(self, run: Run, batch: int, accumulation: int) -> int:
        self.calls.append((run.id, batch, accumulation))
        self.states.append(run.status().state)
        code = self.codes.pop(0) if self.codes else 0
        gone = subprocess.Popen([sys.executable, "-c", ""])
        gone.wait()
        run.update_status(state=self.state, pid=gone.pid, pid_started=0.0)
        if code == 0:
            run.update_status(state="finished")
        return code


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Callable[..., StandInWorker]:
    def put(*codes: int, state: str = "training") -> StandInWorker:
        worker = StandInWorker(*codes, state=state)
        monkeypatch.setattr(supervisor, "_run_worker", worker)
        return worker

    return put


@pytest.mark.parametrize(
    ("batch", "accumulation", "tries"),
    [
        (8, 1, [(8, 1), (4, 2), (2, 4)]),
        (4, 3, [(4, 3), (2, 6), (1, 12)]),
        (3, 2, [(3, 2), (1, 6)]),
        (5, 1, [(5, 1), (1, 5)]),
        (6, 1, [(6, 1), (3, 2)]),
    ],
)
def test_lack_of_gpu_memory_halves_the_micro_batch_and_keeps_the_step(
    make_run: Make, home: Path, stand_in: Any, batch: int, accumulation: int, tries: list[tuple[int, int]]
) -> None:
    run = make_run(per_device_train_batch_size=batch, gradient_accumulation_steps=accumulation)
    worker = stand_in(*[OUT_OF_MEMORY_EXIT] * (len(tries) - 1), 0)
    work_off_queue(home)
    assert worker.calls == [(run.id, *sizes) for sizes in tries]
    assert run.status().state == "finished"
    before, now = tries[-2][0], tries[-1]
    assert run.status().hint == (
        f"There was not enough memory for {before} conversations at once; the run now uses batches of {now[0]}, "
        f"{now[1]} per step, so each step still covers the same number of conversations."
    )
    assert run.record().settings.per_device_train_batch_size == batch


def test_a_step_that_the_worker_chose_is_made_smaller(make_run: Make, home: Path, stand_in: Any) -> None:
    """On a GPU the worker computes more at once than the settings say, and recomputes less."""
    run = make_run(per_device_train_batch_size=4, gradient_accumulation_steps=4)
    run.update_status(micro_batch=16, checkpoint_every=0)
    worker = stand_in(OUT_OF_MEMORY_EXIT, OUT_OF_MEMORY_EXIT, 0)
    work_off_queue(home)
    assert [(batch, accumulation) for _, batch, accumulation in worker.calls[1:]] == [(8, 2), (4, 4)]
    assert (run.status().micro_batch, run.status().checkpoint_every) == (4, 1)


def test_run_that_starts_again_smaller_is_never_seen_as_ended(make_run: Make, home: Path, stand_in: Any) -> None:
    make_run(per_device_train_batch_size=4)
    worker = stand_in(OUT_OF_MEMORY_EXIT, OUT_OF_MEMORY_EXIT, 0)
    work_off_queue(home)
    assert len(worker.states) == 3
    assert not {"interrupted", "failed"} & set(worker.states)


def test_lack_of_memory_for_one_row_fails_with_what_to_do(make_run: Make, home: Path, stand_in: Any) -> None:
    run = make_run(per_device_train_batch_size=2)
    worker = stand_in(OUT_OF_MEMORY_EXIT, OUT_OF_MEMORY_EXIT)
    work_off_queue(home)
    assert len(worker.calls) == 2
    assert run.status().state == "failed"
    assert run.status().message == "There is not enough memory even for one row at a time."
    assert run.status().hint.startswith("Lower max_length, ")


def test_lack_of_memory_before_the_first_step_fails_at_once(make_run: Make, home: Path, stand_in: Any) -> None:
    """A smaller micro-batch does not make the model smaller."""
    run = make_run(per_device_train_batch_size=8)
    worker = stand_in(OUT_OF_MEMORY_EXIT, 0, state="preparing")
    work_off_queue(home)
    assert len(worker.calls) == 1
    status = run.status()
    assert status.state == "failed"
    assert status.message == "There is not enough memory for this model: it ran out before the first step."
    assert status.hint.startswith("Choose the method qlora, choose a smaller model")


def test_library_that_exits_for_lack_of_memory_counts_as_out_of_memory(
    make_run: Make, home: Path, stand_in: Any
) -> None:
    run = make_run(per_device_train_batch_size=2)
    run.log_file.write_text("Error out of memory at line 380 in file /src/csrc/ops.cu\n")
    worker = stand_in(1, 0)
    work_off_queue(home)
    assert [batch for _, batch, _ in worker.calls] == [2, 1]
    assert run.status().state == "finished"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (-signal.SIGKILL, "was killed (signal 9), by a user or because the machine ran out of memory"),
        (-signal.SIGSEGV, "was ended by signal 11 (SIGSEGV)"),
        (3, "exited with status 3"),
    ],
)
def test_worker_that_ends_without_a_word_fails_its_run_with_the_reason(
    make_run: Make, home: Path, stand_in: Any, code: int, message: str
) -> None:
    run = make_run()
    run.log_file.write_text("first\nlast line of the log\n")
    stand_in(code)
    work_off_queue(home)
    status = run.status()
    assert status.state == "failed"
    assert message in status.message
    assert "last line of the log" in status.hint


@pytest.mark.parametrize("code", [TERMINATED_EXIT, -signal.SIGTERM])
def test_worker_that_the_machine_ended_leaves_its_run_to_be_resumed(
    make_run: Make, home: Path, stand_in: Any, code: int
) -> None:
    """Whether it could say so itself or was still starting; and no supervisor resumes it by itself."""
    run = make_run()
    worker = stand_in(code)
    work_off_queue(home)
    status = run.status()
    assert status.state == "interrupted"
    told = "The training process was told to stop (SIGTERM), usually because the machine is shutting down."
    assert status.message == told
    assert status.hint == "Resume continues from the last checkpoint."
    work_off_queue(home)
    assert len(worker.calls) == 1


def test_queue_is_worked_off_in_the_order_that_people_gave_it(make_run: Make, home: Path, stand_in: Any) -> None:
    first, second, third = make_run(), make_run(), make_run()
    move_in_queue(home, third, -2)
    worker = stand_in(0, 0, 0)
    work_off_queue(home)
    assert [call[0] for call in worker.calls] == [third.id, first.id, second.id]


def test_full_disk_at_the_end_of_a_run_does_not_stop_the_queue(
    make_run: Make, home: Path, stand_in: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = make_run(), make_run()
    stand_in(1, 0)
    write = Run.update_status

    def update_status(run: Run, **changes: Any) -> Any:
        if changes.get("state") in ("failed", "interrupted"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(run, **changes)

    monkeypatch.setattr(Run, "update_status", update_status)
    work_off_queue(home)
    assert second.status().state == "finished"
    assert not first.status().has_ended()  # it reads as interrupted once its supervisor has gone


def test_queue_goes_on_after_a_run_that_failed(make_run: Make, home: Path, stand_in: Any) -> None:
    runs = [make_run(), make_run()]
    stand_in(1, 0)
    work_off_queue(home)
    assert sorted(run.status().state for run in runs) == ["failed", "finished"]


@pytest.mark.timeout(60)
def test_run_whose_settings_cannot_be_read_does_not_hold_up_the_queue(
    make_run: Make, home: Path, stand_in: Any
) -> None:
    broken, good = sorted([make_run(), make_run()], key=lambda run: run.id)
    (broken.path / "settings.json").write_text("{")
    stand_in(0)
    work_off_queue(home)
    assert good.status().state == "finished"
    assert broken.status().state == "failed"
    assert f"settings.json of run {broken.id} cannot be read" in broken.status().message


def test_run_whose_worker_is_starting_cannot_be_deleted(
    make_run: Make, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The seconds in which the worker loads its libraries."""
    from sft_app.errors import RunError
    from sft_app.runs.directory import delete_run

    run, reasons = make_run(), []

    def work(run: Run, *_: int) -> int:
        with pytest.raises(RunError, match="stop it before deleting it") as caught:
            delete_run(run)
        reasons.append(str(caught.value))
        run.update_status(state="finished")
        return 0

    monkeypatch.setattr(supervisor, "_run_worker", work)
    work_off_queue(home)
    assert len(reasons) == 1
    assert run.status().state == "finished"


def test_run_stopped_in_the_queue_is_passed_over(make_run: Make, home: Path, stand_in: Any) -> None:
    run = make_run()
    stop_run(run)
    worker = stand_in()
    work_off_queue(home)
    assert worker.calls == []
    assert (run.status().state, run.status().message) == ("stopped", "Stopped before it began.")


def test_worker_without_supervisor_has_the_machine_until_it_ends(
    make_run: Make, home: Path, stand_in: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    orphaned, waiting = make_run(), make_run()
    orphan = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    orphaned.update_status(
        state="training", pid=orphan.pid, pid_started=psutil.Process(orphan.pid).create_time(), step=3
    )
    worker = stand_in(0)
    seen, sleep = [], time.sleep

    def end_the_orphan(seconds: float) -> None:
        if threading.current_thread() is not threading.main_thread():
            return sleep(seconds)  # what earlier tests have left
        seen.append(list(worker.calls))
        orphan.kill()
        orphan.wait()

    monkeypatch.setattr(supervisor.time, "sleep", end_the_orphan)
    work_off_queue(home)
    assert seen == [[]]
    assert [call[0] for call in worker.calls] == [waiting.id]
    assert orphaned.status().state == "interrupted"


def test_supervisor_leaves_the_queue_to_one_that_is_at_work(
    make_run: Make, home: Path, stand_in: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from filelock import FileLock

    make_run()
    worker = stand_in(0)
    monkeypatch.setattr(supervisor, "HANDOVER_SECONDS", 0.1)
    with FileLock(home / "machine.lock"):
        work_off_queue(home)
    assert worker.calls == []


def test_no_supervisor_is_started_for_an_empty_queue(home: Path) -> None:
    ensure_supervisor(home)
    assert list(home.iterdir()) == []


def test_run_with_a_living_worker_cannot_be_resumed_or_deleted(make_run: Make, home: Path) -> None:
    from sft_app.errors import RunError
    from sft_app.runs.directory import delete_run

    run = make_run()
    me = psutil.Process()
    run.update_status(state="training", pid=me.pid, pid_started=me.create_time())
    with pytest.raises(RunError, match="is training; only a stopped, failed or interrupted run can be resumed"):
        resume_run(run, home)
    with pytest.raises(RunError, match="is training; stop it before deleting it"):
        delete_run(run)
    stop_run(run)
    assert run.stop_is_requested()
    assert run.status().state == "training"


@pytest.mark.parametrize("state", ["finished", "failed", "stopped", "interrupted"])
def test_run_that_has_ended_cannot_be_stopped(make_run: Make, state: str) -> None:
    from sft_app.errors import RunError

    run = make_run()
    run.update_status(state=state)
    with pytest.raises(RunError, match=f"is not running: it is {state}"):
        stop_run(run)


def test_supervisor_imports_no_torch() -> None:
    code = "import sys, sft_app.training.supervisor; print({'torch', 'transformers', 'gradio'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
