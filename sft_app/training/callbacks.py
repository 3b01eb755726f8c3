"""Report a trainer's progress to the run folder, and pass requests from there to the trainer."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import psutil
import torch
from transformers import TrainerCallback

from sft_app.evaluation.scorecard import write_base_scores
from sft_app.evaluation.selection import record_evaluation
from sft_app.runs.folder import Run
from sft_app.runs.records import WatchAnswer
from sft_app.runtime.files import put_on_disk
from sft_app.runtime.resources import is_out_of_memory
from sft_app.settings import RunSettings
from sft_app.training.distributed import broadcast_from_first_rank, sum_over_ranks, world_size
from sft_app.training.termination import StopRequested, Termination

STATUS_EVERY_SECONDS = 0.5
# A checkpoint's small files: tokenizer, random states, and the log so far.
SMALL_FILES_BYTES = 32 * 2**20


class RunReporter(TrainerCallback):
    """Writes step, metrics and watch answers; obeys the `stop` file and SIGTERM at the end of each step; saves by time.

    `trainer` is set once the trainer exists, since the two need each other.
    """

    trainer: Any = None
    has_stopped_early = has_begun_a_step = False

    def __init__(
        self,
        run: Run,
        settings: RunSettings,
        termination: Termination,
        answer_watch_prompts: Callable[[Any], list[WatchAnswer]],
    ) -> None:
        self.run, self.settings, self.termination = run, settings, termination
        self.answer_watch_prompts = answer_watch_prompts
        self.started = self.status_written = self.saved = time.monotonic()
        self.last_log = (self.started, 0)
        self.hint = ""
        self.checkpoint_bytes = self.first_step = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Keep earlier hints about the run, such as that its micro-batch is smaller now."""
        hint, notice = self.run.status().hint, self.trainer.notice
        self.hint = hint if notice in hint else f"{hint} {notice}".strip()
        changes = {"step": state.global_step, "total_steps": state.max_steps, "hint": self.hint}
        self.run.update_status(state="training", message="", **changes)
        self.saved, self.first_step = time.monotonic(), state.global_step
        trained = (parameter for parameter in self.trainer.model.parameters() if parameter.requires_grad)
        weights = sum(parameter.numel() * parameter.element_size() for parameter in trained)
        self.checkpoint_bytes = 3 * weights + SMALL_FILES_BYTES  # with the optimizer's two moments

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Obey a stop that came between two steps.

        Raises: StopRequested.
        """
        self.has_begun_a_step = True
        if state.global_step == self.first_step:
            stops = world_size() > 1 and broadcast_from_first_rank((self.run.stop_is_requested(),))[0]
        else:
            stops = world_size() == 1 and self.termination.stop_noticed is not None
        if stops:
            raise StopRequested

    @contextmanager
    def noting_early_shortage(self) -> Iterator[None]:
        """Set the run back to `preparing` if memory runs out before the first step, so that it is not tried again.

        Until then, a smaller micro-batch would change nothing: held-out conversations are measured one at a time.
        """
        try:
            yield
        except Exception as error:
            if is_out_of_memory(error) and not self.has_begun_a_step:
                self.run.update_status(state="preparing")
            raise

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if time.monotonic() - self.status_written > STATUS_EVERY_SECONDS:
            self.run.update_status(step=state.global_step)
            self.status_written = time.monotonic()
        is_due = time.monotonic() - self.saved >= 60 * self.settings.save_minutes
        asked = (self.run.stop_is_requested(), self.termination.is_requested, is_due, self._bytes_short())
        stops, is_terminated, is_due, bytes_short = broadcast_from_first_rank(asked)
        control.should_training_stop = control.should_training_stop or stops or is_terminated
        if is_terminated:
            control.should_save, control.should_evaluate = True, False
        elif control.should_training_stop or state.global_step >= state.max_steps:
            control.should_evaluate = control.should_save = True
        elif is_due:
            control.should_save = True
        if control.should_save and bytes_short > 0:
            control.should_save = False
            self._report_full_disk(state.global_step, bytes_short)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Flush the log up to a checkpoint to disk, so that it survives a power cut as the checkpoint does."""
        put_on_disk(self.run.metrics_file, self.run.snapshots_file)
        self.run.update_status(hint=self.hint)
        self.saved = time.monotonic()

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
        if state.is_world_process_zero:
            # Written at once, since a resumed run cannot measure the base again.
            if state.global_step == 0:
                write_base_scores(self.run, self.trainer.base_scores)
            elif self.trainer.judging is None and self.settings.chooses_weights():
                record_evaluation(self.run, state.global_step, self.trainer.scores[state.global_step])
        answers = self._watch_answers(state, control)
        if answers:
            self.run.log_snapshot(step=state.global_step, answers=answers)
        self.run.update_status(step=state.global_step)
        patience = self.settings.early_stopping_patience
        if patience and measurements_since_best(state.log_history) >= patience and state.global_step < state.max_steps:
            self.has_stopped_early = control.should_training_stop = True

    def _watch_answers(self, state: Any, control: Any) -> list[WatchAnswer]:
        """Return the answers to the watch prompts; [] if a stop interrupts them.

        Raises: StopRequested if nothing has been learned yet.
        """
        try:
            with self.termination.stoppable() if world_size() == 1 else nullcontext():
                return self.answer_watch_prompts(self.trainer.model)
        except StopRequested:
            if state.global_step == 0:
                raise
            control.should_training_stop = True
            return []

    def _tokens_per_second(self) -> float:
        """Return the speed since the last call, without evaluations."""
        now, tokens = time.monotonic() - self.trainer.evaluation_seconds, sum_over_ranks(self.trainer.tokens_seen)
        (before, tokens_before), self.last_log = self.last_log, (now, tokens)
        return float(round((tokens - tokens_before) / max(now - before, 1e-9), 1))

    def _bytes_short(self) -> int:
        """Return how many bytes the disk lacks for one more checkpoint; 0 if there is room."""
        return max(0, self.checkpoint_bytes - shutil.disk_usage(self.run.path).free)

    def _report_full_disk(self, step: int, bytes_short: int) -> None:
        lacking = f"it needs {bytes_short / 2**20:,.0f} MiB more disk space"
        message = f"No checkpoint was saved at step {step}: {lacking}. Free up space."
        self.run.update_status(hint=f"{self.hint} {message}".strip())
        self.saved = time.monotonic()


def measurements_since_best(log_history: Sequence[dict[str, Any]]) -> int:
    """Return how many evaluations came after the one with the lowest held-out loss, without the base's."""
    losses = [row["eval_loss"] for row in log_history if "eval_loss" in row and row["step"] > 0]
    best = min(range(len(losses)), key=lambda i: (losses[i] != losses[i], losses[i]), default=0)  # not a number: last
    return max(0, len(losses) - 1 - best)


def used_memory_gib() -> float:
    """Return the most GPU memory this process has held, or on a CPU its current memory, in GiB."""
    if torch.cuda.is_available():
        return round(torch.cuda.max_memory_allocated() / 2**30, 3)
    return round(psutil.Process().memory_info().rss / 2**30, 3)
