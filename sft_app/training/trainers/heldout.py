"""What both trainers share: exact held-out loss instead of the average of batch averages, a count of tokens, and
checkpoints that are whole or not there."""

from __future__ import annotations

import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from sft_app.checkpoints import checkpoint_step, prune_checkpoints, writing_checkpoint
from sft_app.compare.scorecard import RowScore, mean_loss, score_conversations
from sft_app.data.tokens import RenderedConversation
from sft_app.training.termination import Terminated, Termination


class HeldoutEvaluation:
    """Mixed into a transformers `Trainer`. Its evaluation is the scorecard's: mean loss over trained tokens.

    `scores[step]` keeps what was measured. `tokens_seen` counts the tokens that are not padding, and
    `evaluation_seconds` the time that was not training, so that tokens/s can be told truly. A request to end
    (`termination`) breaks an evaluation off, and what was learnt until then is saved first.
    """

    def __init__(self, *args: Any, heldout: list[RenderedConversation], **kwargs: Any) -> None:
        self.heldout = heldout
        self.scores: dict[int, list[RowScore]] = {}
        self.tokens_seen = 0
        self.evaluation_seconds = 0.0
        self.termination = Termination()
        super().__init__(*args, **kwargs)

    def evaluate(self: Any, *_: Any, **__: Any) -> dict[str, float]:
        # Processes that wait for each other cannot break off alone.
        alone = not (torch.distributed.is_available() and torch.distributed.is_initialized())
        try:
            with self.termination.let_through() if alone else nullcontext():
                return self._measure()
        except Terminated:
            if self.state.global_step > 0:
                self._save_checkpoint(self.model, trial=None)
            raise

    def kept_step(self: Any) -> int:
        """After training: the step whose weights the model has, the best that was saved or the last."""
        best = self.state.best_model_checkpoint
        return checkpoint_step(Path(best)) if best and self.args.load_best_model_at_end else self.state.global_step

    def _measure(self: Any) -> dict[str, float]:
        start = time.monotonic()
        scores = score_conversations(self.model, self.heldout)
        self.scores[self.state.global_step] = scores
        metrics = {"eval_loss": mean_loss(scores)}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        self.evaluation_seconds += time.monotonic() - start
        return metrics

    def _run_epoch(self: Any, *args: Any, **kwargs: Any) -> None:
        """A run that was cut off after its last step has none left; transformers would take one before it looks."""
        if self.state.global_step < self.state.max_steps:
            return super()._run_epoch(*args, **kwargs)  # type: ignore[misc]
        if not any("eval_loss" in row and row["step"] == self.state.global_step for row in self.state.log_history):
            self._determine_best_metric(self.evaluate(), trial=None)
            self._save_checkpoint(self.model, trial=None)

    def _save_checkpoint(self: Any, model: Any, trial: Any) -> None:
        if not self.args.should_save:
            return super()._save_checkpoint(model, trial)  # type: ignore[misc]
        folder = Path(self.args.output_dir)
        with writing_checkpoint(folder / f"checkpoint-{self.state.global_step}"):
            super()._save_checkpoint(model, trial)  # type: ignore[misc]
        best = self.state.best_model_checkpoint
        prune_checkpoints(folder, checkpoint_step(Path(best)) if best else 0)

    def training_step(self: Any, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        mask = inputs.get("attention_mask")
        self.tokens_seen += int(mask.sum()) if mask is not None else inputs["input_ids"].numel()
        return super().training_step(model, inputs, *args, **kwargs)  # type: ignore[misc]
