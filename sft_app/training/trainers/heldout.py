"""Add exact held-out evaluation, divergence checks and atomic checkpoints to both trainers."""

from __future__ import annotations

import logging
import math
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from sft_app.data.tokens import RenderedConversation
from sft_app.errors import DivergedError
from sft_app.evaluation.scorecard import RowScore, mean_loss, score_conversations
from sft_app.runs.checkpoints import checkpoint_step, complete_checkpoints, prune_checkpoints, writing_checkpoint
from sft_app.training.distributed import sum_over_ranks
from sft_app.training.divergence import all_finite, broken_base_error, divergence_error
from sft_app.training.termination import STEP_SECONDS, StopRequested, Terminated, Termination
from sft_app.training.trainers.arguments import make_schedule, step_dtype

logger = logging.getLogger(__name__)


class HeldoutEvaluation:
    """Adds evaluation to a transformers `Trainer`: the scorecard's mean loss over trained tokens.

    `scores[step]` keeps the results on `heldout`; `base_scores` are the base's on `judging`, which are not evaluated
    during training, or on `heldout` if these judge as well. `tokens_seen` counts tokens without padding, and
    `evaluation_seconds` the time not spent training, so that tokens/s is accurate. `notice` is what the user should
    know about how the run trains.
    SIGTERM (`termination`) interrupts an evaluation, and what was learned is saved first. A stop interrupts a long
    step, and the evaluation of the base.

    At the first loss, gradient or weight that is not finite, `train` raises DivergedError in all processes of a run,
    before the optimizer takes the step. So the weights of the step before are saved.
    """

    def __init__(
        self,
        *args: Any,
        heldout: list[RenderedConversation],
        judging: list[RenderedConversation] | None = None,
        **kwargs: Any,
    ) -> None:
        self.heldout, self.judging = heldout, judging
        self.scores: dict[int, list[RowScore]] = {}
        self.base_scores: list[RowScore] = []
        self.tokens_seen = 0
        self.evaluation_seconds = 0.0
        self.notice = ""
        self.termination = Termination()
        self._losses_of_step: list[torch.Tensor] = []
        self._begun_step, self._step_began = -1, 0.0
        super().__init__(*args, **kwargs)

    def evaluate(self: Any, *_: Any, **__: Any) -> dict[str, float]:
        """Evaluate the held-out conversations; if SIGTERM interrupts it, save what was learned first."""
        try:
            with self.termination.immediate() if is_single_process() else nullcontext():
                metrics: dict[str, float] = self._evaluate_heldout()
                return metrics
        except Terminated:
            if self.state.global_step > 0:
                self._save_checkpoint(self.model, trial=None)
            raise

    def kept_step(self: Any) -> int:
        """Return the step whose weights the model has after training: the best saved one, or the last."""
        best = self.state.best_model_checkpoint
        return checkpoint_step(Path(best)) if best and self.args.load_best_model_at_end else self.state.global_step

    def _evaluate_heldout(self: Any) -> dict[str, float]:
        start = time.monotonic()
        has_learned = self.state.global_step > 0  # otherwise a stop leaves nothing to measure
        with nullcontext() if has_learned or not is_single_process() else self.termination.stoppable():
            scores = self.score_rows(self.heldout)
            if not has_learned:
                self.base_scores = scores if self.judging is None else self.score_rows(self.judging)
        self.scores[self.state.global_step] = scores
        metrics = {"eval_loss": mean_loss(scores)}
        self._refuse_unless_finite("the held-out loss", metrics["eval_loss"], self.state.global_step)
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        self.evaluation_seconds += time.monotonic() - start
        return metrics

    def score_rows(self: Any, rows: list[RenderedConversation]) -> list[RowScore]:
        """Score each conversation with the current weights."""
        return score_conversations(self.model, rows)

    def kept_scores(self: Any) -> list[RowScore]:
        """Return the scores of the conversations that judge, with the weights the model has after training."""
        if self.judging is not None:
            scores: list[RowScore] = self.score_rows(self.judging)
            return scores
        return self.scores.get(self.kept_step()) or score_conversations(self.model, self.heldout)

    def _run_epoch(self: Any, *args: Any, **kwargs: Any) -> Any:
        """Train an epoch, unless the run was cut off after its last step; transformers would take one more."""
        if self.state.global_step < self.state.max_steps:
            try:
                return super()._run_epoch(*args, **kwargs)  # type: ignore[misc]
            except StopRequested:  # no weight has changed since the last whole step
                if self.state.global_step == 0:
                    raise
                self.model.zero_grad()
                self.control.should_training_stop = True
        if not any("eval_loss" in row and row["step"] == self.state.global_step for row in self.state.log_history):
            self._determine_best_metric(self.evaluate(), trial=None)
            self._save_checkpoint(self.model, trial=None)

    def refuse_broken_weights(self: Any) -> None:
        """Raise DivergedError in all processes if a trained weight is not finite."""
        if not self._has_finite_weights():
            raise self._divergence_error("a weight", math.nan, self.state.global_step)

    def create_scheduler(self: Any, num_training_steps: int, optimizer: Any = None) -> Any:
        """Create the schedule whose learning rate is never 0."""
        if self.lr_scheduler is None:
            kind, warmup = self.args.lr_scheduler_type.value, self.args.get_warmup_steps(num_training_steps)
            self.lr_scheduler = make_schedule(optimizer or self.optimizer, kind, warmup, num_training_steps)
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def _save_checkpoint(self: Any, model: Any, trial: Any) -> Any:
        self.refuse_broken_weights()
        if not self.args.should_save:
            return super()._save_checkpoint(model, trial)  # type: ignore[misc]
        folder = Path(self.args.output_dir)
        with writing_checkpoint(folder / f"checkpoint-{self.state.global_step}"):
            super()._save_checkpoint(model, trial)  # type: ignore[misc]
        best = self.state.best_model_checkpoint
        prune_checkpoints(folder, checkpoint_step(Path(best)) if best else 0)

    def training_step(self: Any, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Count tokens, and let a stop interrupt a long step."""
        if self._begun_step != self.state.global_step:  # not just its next micro-batch
            self._begun_step, self._step_began = self.state.global_step, time.monotonic()
        mask = inputs.get("attention_mask")
        self.tokens_seen += int(mask.sum()) if mask is not None else inputs["input_ids"].numel()
        with self.termination.stoppable(STEP_SECONDS, self._step_began) if is_single_process() else nullcontext():
            loss = super().training_step(model, inputs, *args, **kwargs)  # type: ignore[misc]
        self._losses_of_step.append(loss)
        return loss

    def _get_grad_norm(self: Any, model: Any, grad_norm: Any = None) -> Any:
        """Check the loss and the gradient. transformers calls this before each optimizer step."""
        norm = super()._get_grad_norm(model, grad_norm)  # type: ignore[misc]
        step, loss = self.state.global_step + 1, float(torch.stack(self._losses_of_step).sum())
        self._losses_of_step.clear()
        try:
            self._refuse_unless_finite("the loss", loss, step)
            self._refuse_unless_finite("the gradient", 0.0 if self._will_skip() else float(norm), step)
        except DivergedError:
            self._keep_last_step()
            raise
        return norm

    def _refuse_unless_finite(self: Any, what: str, value: float, step: int) -> None:
        """Raise DivergedError in all processes if the value is not finite in one."""
        if sum_over_ranks(int(not math.isfinite(value))):
            raise self._divergence_error(what, value, step)

    def _divergence_error(self: Any, what: str, value: float, step: int) -> DivergedError:
        dtype = step_dtype(self.args)
        return (
            divergence_error(what, value, step, dtype, self.args.learning_rate)
            if step
            else broken_base_error(value, dtype)
        )

    def _will_skip(self: Any) -> bool:
        """Return whether float16's loss scaling may skip this step and halve its scale until gradients fit."""
        scaler = self.accelerator.scaler
        return scaler is not None and scaler.is_enabled() and scaler.get_scale() >= 1

    def _has_finite_weights(self: Any) -> bool:
        trained = (parameter for parameter in self.model.parameters() if parameter.requires_grad)
        return sum_over_ranks(int(not all_finite(trained))) == 0

    def _keep_last_step(self: Any) -> None:
        """Save the current weights if they are finite and not saved already."""
        saved = {checkpoint_step(path) for path in complete_checkpoints(Path(self.args.output_dir))}
        if self.args.save_strategy == "no" or self.state.global_step in {0, *saved} or not self._has_finite_weights():
            return
        try:
            self._save_checkpoint(self.model, trial=None)
        except OSError:  # a full disk, for example; why training ended matters more
            logger.exception("the weights from before the divergence could not be saved")


def is_single_process() -> bool:
    """Return whether this process may stop on its own; processes that wait for each other cannot."""
    return not (torch.distributed.is_available() and torch.distributed.is_initialized())
