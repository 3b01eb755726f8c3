"""What a trainer tells the run folder, and what it is told through it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import psutil
import torch
from transformers import TrainerCallback

from sft_app.compare.scorecard import scores_as_rows
from sft_app.files import write_jsonl_atomically
from sft_app.runs import Run

STATUS_EVERY_SECONDS = 0.5


class RunReporter(TrainerCallback):
    """Writes step, metrics and watch answers; obeys the `stop` file at the end of each step.

    `trainer` is set once the trainer exists, since the two need each other.
    """

    trainer: Any = None

    def __init__(self, run: Run, answer_watch_prompts: Callable[[Any], list[dict[str, Any]]]) -> None:
        self.run = run
        self.answer_watch_prompts = answer_watch_prompts
        self.started = self.status_written = time.monotonic()
        self.last_log = (self.started, 0)

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.run.update_status(
            state="training", message="", hint="", step=state.global_step, total_steps=state.max_steps
        )

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if time.monotonic() - self.status_written > STATUS_EVERY_SECONDS:
            self.run.update_status(step=state.global_step)
            self.status_written = time.monotonic()
        if self.run.stop_is_requested():
            control.should_training_stop = True
        if control.should_training_stop or state.global_step >= state.max_steps:
            control.should_evaluate = control.should_save = True

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        logs = logs or {}
        moment = {"step": state.global_step, "elapsed_seconds": round(time.monotonic() - self.started, 2)}
        if "eval_loss" in logs:
            self.run.log_metric(**moment, heldout_loss=logs["eval_loss"])
        elif "loss" in logs:
            self.run.log_metric(
                **moment,
                loss=logs["loss"],
                learning_rate=logs.get("learning_rate"),
                grad_norm=logs.get("grad_norm"),
                tokens_per_second=self._tokens_per_second(),
                memory_gib=used_memory_gib(),
            )

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 0:  # kept at once, since a resumed run cannot measure the base again
            write_jsonl_atomically(self.run.base_scores_file, scores_as_rows(self.trainer.scores[0]))
        answers = self.answer_watch_prompts(self.trainer.model)
        if answers:
            self.run.log_snapshot(step=state.global_step, answers=answers)
        self.run.update_status(step=state.global_step)

    def _tokens_per_second(self) -> float:
        """Since the last call, evaluations left out."""
        now, tokens = time.monotonic() - self.trainer.evaluation_seconds, self.trainer.tokens_seen
        (before, tokens_before), self.last_log = self.last_log, (now, tokens)
        return round((tokens - tokens_before) / max(now - before, 1e-9), 1)


def used_memory_gib() -> float:
    """The most GPU memory this process has held, or what it holds of the machine's on a CPU."""
    if torch.cuda.is_available():
        return round(torch.cuda.max_memory_allocated() / 2**30, 3)
    return round(psutil.Process().memory_info().rss / 2**30, 3)
