"""What both trainers share: exact held-out loss instead of the average of batch averages, and a count of tokens."""

from __future__ import annotations

import time
from typing import Any

from sft_app.compare.scorecard import RowScore, mean_loss, score_conversations
from sft_app.data.tokens import RenderedConversation


class HeldoutEvaluation:
    """Mixed into a transformers `Trainer`. Its evaluation is the scorecard's: mean loss over trained tokens.

    `scores[step]` keeps what was measured. `tokens_seen` counts the tokens that are not padding, and
    `evaluation_seconds` the time that was not training, so that tokens/s can be told truly.
    """

    def __init__(self, *args: Any, heldout: list[RenderedConversation], **kwargs: Any) -> None:
        self.heldout = heldout
        self.scores: dict[int, list[RowScore]] = {}
        self.tokens_seen = 0
        self.evaluation_seconds = 0.0
        super().__init__(*args, **kwargs)

    def evaluate(self: Any, *_: Any, **__: Any) -> dict[str, float]:
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
            super()._run_epoch(*args, **kwargs)  # type: ignore[misc]

    def training_step(self: Any, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        mask = inputs.get("attention_mask")
        self.tokens_seen += int(mask.sum()) if mask is not None else inputs["input_ids"].numel()
        return super().training_step(model, inputs, *args, **kwargs)  # type: ignore[misc]
