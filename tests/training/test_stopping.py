"""A stop acts within seconds wherever the run is, and tells truly what it kept; a cancelled run keeps nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file

from sft_app.errors import RunError
from sft_app.runs.directory import delete_run
from sft_app.runs.folder import CANCELLED, Run
from sft_app.training import scoring, worker
from sft_app.training.launch import cancel_run, resume_run, stop_run
from sft_app.training.supervisor import ensure_supervisor
from sft_app.training.trainers import gradient_check_mixin, heldout
from sft_app.training.worker import NOTHING_LEARNED_MESSAGE
from tests.waiting import supervisors, wait_until

Make = Callable[..., Run]
Work = Callable[..., int]
LONG_SECONDS = 120.0


def steps_of(run: Run) -> list[int]:
    return [row.step for row in run.metrics() if row.loss is not None]


def dawdle(seconds: float = LONG_SECONDS) -> None:
    """What a slow machine does: much of it, bit by bit."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(0.05)


@pytest.fixture
def ask_within(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes a part of the work ask for something and take very long then."""

    def prepare(place: Any, name: str, ask: Callable[[], Any]) -> None:
        def slowly(*_: Any, **__: Any) -> Any:
            ask()
            dawdle()
            raise AssertionError("it was not broken off")

        monkeypatch.setattr(place, name, slowly)

    return prepare


PARTS = {
    "loading": (worker, "load_trainable"),
    "tokenising": (worker, "load_tokenized_dataset"),
    "base evaluation": (heldout, "score_conversations"),
    "watch answers": (worker, "answer_prompts"),
    "check of the shortcuts": (gradient_check_mixin, "compute_step"),
}


@pytest.mark.parametrize("part", PARTS)
def test_a_stop_before_anything_was_learnt_acts_at_once_and_says_so(
    make_run: Make, work: Work, ask_within: Callable[..., None], part: str
) -> None:
    run = make_run()
    ask_within(*PARTS[part], run.request_stop)
    begun = time.monotonic()
    assert work(run) == 0
    assert time.monotonic() - begun < LONG_SECONDS / 2
    assert (run.status().state, run.status().step, run.status().message) == ("stopped", 0, NOTHING_LEARNED_MESSAGE)
    assert not run.has_adapter() and steps_of(run) == []


def test_a_run_that_was_stopped_before_it_learnt_begins_anew(
    make_run: Make, work: Work, ask_within: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(max_steps=2)
    with monkeypatch.context():
        ask_within(*PARTS["base evaluation"], run.request_stop)
        work(run)
        monkeypatch.undo()
    run.withdraw_stop()
    assert work(run) == 0
    assert (run.status().state, steps_of(run)) == ("finished", [1, 2])


@pytest.fixture
def ask_in_step(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Asks for something in the second micro-batch after so many whole steps, which takes very long then."""

    def prepare(step: int, ask: Callable[[], Any]) -> None:
        from transformers import Trainer

        plain, seen = Trainer.compute_loss, []

        def compute_loss(self: Any, *args: Any, **kwargs: Any) -> Any:
            seen.append(self._begun_step)  # in the check before training none has begun
            if seen.count(step) == 2:
                ask()
                dawdle()
                raise AssertionError("it was not broken off")
            return plain(self, *args, **kwargs)

        monkeypatch.setattr(Trainer, "compute_loss", compute_loss)

    return prepare


STEPS = {
    "trainer": "classic",
    "method": "lora",
    "max_steps": 4,
    "eval_steps": 4,
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 2,
    "lr_scheduler_type": "constant",
    "load_best_model_at_end": False,
}


def test_a_stop_breaks_off_a_long_step_and_keeps_the_last_whole_one(
    make_run: Make, work: Work, ask_in_step: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, two, run = make_run(**STEPS), make_run(**{**STEPS, "max_steps": 2}), make_run(**STEPS)
    work(whole)
    work(two)
    with monkeypatch.context():
        ask_in_step(2, run.request_stop)
        begun = time.monotonic()
        assert work(run) == 0
        monkeypatch.undo()
    assert time.monotonic() - begun < LONG_SECONDS / 2
    assert (run.status().state, run.status().step, run.status().kept_step) == ("stopped", 2, 2), run.log_tail(30)
    assert steps_of(run) == [1, 2] and run.scorecard() is not None
    assert same_weights(run, two)
    run.withdraw_stop()
    assert work(run) == 0  # and it goes on as if nothing had happened
    assert (run.status().state, steps_of(run)) == ("finished", [1, 2, 3, 4])
    assert same_weights(run, whole)


def test_a_stop_in_a_long_first_step_leaves_nothing_to_keep(
    make_run: Make, work: Work, ask_in_step: Callable[..., None]
) -> None:
    run = make_run(**STEPS)
    ask_in_step(0, run.request_stop)
    assert work(run) == 0
    assert (run.status().state, run.status().message) == ("stopped", NOTHING_LEARNED_MESSAGE)
    assert not run.has_adapter()


def test_a_stop_in_watch_answers_leaves_them_out_and_keeps_what_was_learnt(
    make_run: Make, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(max_steps=50, eval_steps=2)
    plain = worker.answer_prompts

    def slowly(*args: Any) -> Any:
        if steps_of(run):
            run.request_stop()
            dawdle()
        return plain(*args)

    monkeypatch.setattr(worker, "answer_prompts", slowly)
    assert work(run) == 0
    assert (run.status().state, run.status().step) == ("stopped", 2)
    assert run.has_adapter() and [row.step for row in run.snapshots()] == [0]


def same_weights(one: Run, other: Run) -> bool:
    weights, others = (load_file(run.adapter_dir / "adapter_model.safetensors") for run in (one, other))
    return all(torch.allclose(weights[name], others[name], atol=1e-6) for name in weights)


def assert_nothing_is_kept(run: Run) -> None:
    assert (run.status().state, run.status().message) == ("stopped", CANCELLED)
    assert run.status().kept_step is None and not run.has_adapter() and run.scorecard() is None
    left = sorted(path.name for path in run.path.iterdir() if path.is_dir())
    assert left == ["data"] and run.record().settings


@pytest.mark.parametrize("part", [*PARTS, "measuring"])
def test_a_cancelled_run_keeps_nothing_wherever_it_was(
    make_run: Make, work: Work, ask_within: Callable[..., None], part: str
) -> None:
    run = make_run()
    ask_within(*{**PARTS, "measuring": (scoring, "load_pair")}[part], run.request_cancel)
    assert work(run) == 0
    assert_nothing_is_kept(run)


def test_a_run_that_is_cancelled_in_a_step_loses_its_checkpoints_and_its_earlier_adapter(
    make_run: Make, work: Work, ask_in_step: Callable[..., None]
) -> None:
    run = make_run(**{**STEPS, "eval_steps": 1})
    run.request_stop()
    work(run)
    assert run.has_adapter()
    run.withdraw_stop()
    ask_in_step(2, run.request_cancel)
    assert work(run) == 0
    assert steps_of(run) == [1, 2]  # what happened is still told
    assert_nothing_is_kept(run)


@pytest.mark.usefixtures("processes")
def test_stop_discard_ends_a_real_run_within_seconds_and_the_next_one_follows(
    make_run: Make, home: Path, cli: Any
) -> None:
    run, waiting = make_run(max_steps=100_000, eval_steps=5), make_run(max_steps=1)
    ensure_supervisor(home)
    wait_until(lambda: list(run.checkpoints_dir.glob("checkpoint-*")), seconds=120)
    ended = cli("stop", run.id, "--discard")
    assert (ended.status, ended.out) == (0, f"Run {run.id} was cancelled. Nothing was kept.\n")
    wait_until(lambda: run.status().has_ended(), seconds=30)
    assert_nothing_is_kept(run)
    wait_until(lambda: waiting.status().has_ended(), seconds=120)
    assert waiting.status().state == "finished"


@pytest.mark.usefixtures("plain_processes")
@pytest.mark.usefixtures("processes")
def test_a_worker_that_is_cancelled_while_it_starts_is_ended_by_the_supervisor(make_run: Make, home: Path) -> None:
    run = make_run(max_steps=100_000)
    ensure_supervisor(home)
    wait_until(lambda: run.has_worker())
    (boss,) = supervisors()
    wait_until(lambda: [child for child in boss.children() if "sft_app.training.worker" in child.cmdline()])
    (child,) = boss.children()
    child.suspend()  # in a library, say
    cancel_run(run)
    wait_until(lambda: run.status().has_ended(), seconds=60)
    assert_nothing_is_kept(run)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_a_cancelled_run_whose_processes_were_killed_is_cancelled_at_the_next_look(make_run: Make) -> None:
    run = make_run()
    run.adapter_dir.mkdir()
    run.update_status(state="training", pid=2**22 + 1, pid_started=0.0)
    run.request_cancel()
    assert_nothing_is_kept(run)


def test_a_queued_run_is_cancelled_at_once_and_an_ended_one_cannot_be(make_run: Make, home: Path) -> None:
    run = make_run()
    cancel_run(run)
    assert_nothing_is_kept(run)
    for ask in (cancel_run, stop_run):
        with pytest.raises(RunError, match="is not running: it is stopped"):
            ask(run)
    run.withdraw_stop()
    assert not run.cancel_is_requested()
    delete_run(run)


@pytest.mark.usefixtures("processes")
def test_a_cancelled_run_can_be_trained_after_all(make_run: Make, home: Path) -> None:
    run = make_run(max_steps=1)
    cancel_run(run)
    resume_run(run, home)
    wait_until(lambda: run.status().has_ended(), seconds=120)
    assert (run.status().state, steps_of(run)) == ("finished", [1])
