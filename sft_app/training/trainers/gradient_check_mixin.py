"""Let a trainer take a few steps on a probe before it trains, to check its shortcuts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, Literal

import pyarrow.compute
import torch

from sft_app.runtime.resources import is_out_of_memory
from sft_app.training.distributed import sum_over_ranks
from sft_app.training.fast_paths.batch_layouts import split_padded_rows, summed_loss
from sft_app.training.fast_paths.gradient_check import (
    StepResult,
    TokenizedRow,
    allowed_difference,
    compute_step,
    probe_batches,
    relative_difference,
    without_randomness,
)
from sft_app.training.fast_paths.step_plan import ONE_BY_ONE, slower_notice
from sft_app.training.trainers.arguments import TrainingJob, step_dtype
from sft_app.training.trainers.heldout import is_single_process

BatchMethod = Literal["the library's", "padded", "one by one"]
NOTICES: dict[BatchMethod, str] = {
    "the library's": "",
    "padded": "This run computes the loss from the model's own logits: the library's loss is different for this model.",
    "one by one": slower_notice(ONE_BY_ONE, "padding"),
}
PROBE_ROWS = 8
logger = logging.getLogger(__name__)


class GradientCheckMixin:
    """Adds probe steps to a transformers `Trainer`. `probe` holds batches of short conversations like the run's."""

    def __init__(self, *args: Any, probe: Sequence[Sequence[TokenizedRow]], **kwargs: Any) -> None:
        self.probe = probe
        super().__init__(*args, **kwargs)

    def normalise_loss(self: Any, loss: torch.Tensor, trained: int, num_items_in_batch: Any) -> torch.Tensor:
        """Divide a summed loss by the trained tokens of the whole step, accumulation included."""
        loss = loss / (trained if num_items_in_batch is None else num_items_in_batch)
        if num_items_in_batch is not None and self.args.average_tokens_across_devices:
            loss = loss * self.accelerator.num_processes  # DDP takes the mean over the processes
        return loss

    @contextmanager
    def prepared_for_probe(self: Any, resume_from_checkpoint: Any) -> Iterator[None]:
        """Prepare the model for probe steps within the block, and restore it afterwards.

        SIGTERM ends the steps at once, and so does a stop if nothing has been learned yet.

        Raises: Terminated, StopRequested.
        """
        with ExitStack() as parts:
            if is_single_process():
                parts.enter_context(self.termination.immediate())
                if not resume_from_checkpoint:
                    parts.enter_context(self.termination.stoppable())
            parts.enter_context(without_randomness(self.model))
            yield

    def steps_on_probe(self: Any, model: Any) -> list[StepResult]:
        """Take a step on each batch of the probe, computed as the trainer would now."""
        return [self._probe_step(rows, model) for rows in self.probe]

    def difference_on_probe(
        self: Any, take: Callable[[], list[StepResult]], plain: Sequence[StepResult], what: Any
    ) -> float:
        """Return the largest difference from the plain steps, infinite if the model fails."""
        try:
            return relative_difference(take(), plain)
        except Exception as error:  # a model not made for this may fail in any way; a plainer method is used
            if is_out_of_memory(error):
                raise
            logger.warning("%s: %s: %s", what, type(error).__name__, error)
            self.model.zero_grad()
            return float("inf")

    def _probe_step(self: Any, rows: Sequence[TokenizedRow], model: Any) -> StepResult:
        batch = self.data_collator([{"input_ids": ids, "labels": labels} for ids, labels in rows])
        inputs = self._prepare_inputs(batch)

        def compute() -> torch.Tensor:
            with self.compute_loss_context_manager():
                loss: torch.Tensor = self.compute_loss(model, dict(inputs))
                return loss

        return compute_step(self.model, compute, step_dtype(self.args))

    @staticmethod
    def in_all_processes(is_true: bool) -> bool:
        """Return whether this is true in all of the run's processes, which must compute steps alike."""
        return sum_over_ranks(int(not is_true)) == 0


class CheckedPaddingMixin(GradientCheckMixin):
    """Makes the gradients of padded batches equal those of the same conversations one by one.

    If the probe shows that the library's step differs, `batch_method` becomes a plainer one and `notice` says so. A
    model may depend on the length of the whole batch, or a loss may leave out what the model does to its logits.
    Without a probe nothing is checked.
    """

    batch_method: BatchMethod = "the library's"

    def compute_loss(
        self: Any, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Compute the loss by the chosen batch method."""
        if self.batch_method == "the library's":
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)  # type: ignore[misc]
        labels = inputs.pop("labels")
        batches = [(inputs, labels)] if self.batch_method == "padded" else split_padded_rows(inputs, labels)
        loss, trained, outputs = summed_loss(model, batches)
        loss = self.normalise_loss(loss, trained, num_items_in_batch)
        return (loss, outputs) if return_outputs else loss

    def _prepare_for_training(self: Any, max_steps: int, train_dataloader: Any, resume_from_checkpoint: Any) -> Any:
        """Choose the batch method. transformers calls this with the model ready, before anything is logged."""
        model, loader = super()._prepare_for_training(  # type: ignore[misc]
            max_steps, train_dataloader, resume_from_checkpoint
        )
        if self.probe:
            with self.prepared_for_probe(resume_from_checkpoint):
                self.batch_method = self._choose_method(model)
            self.notice = NOTICES[self.batch_method]
            self.forget_probe()
        return model, loader

    def forget_probe(self) -> None:
        """Remove what the trainer counted during the probe."""

    def _choose_method(self: Any, model: Any) -> BatchMethod:
        def take(method: BatchMethod) -> list[StepResult]:
            self.batch_method = method
            steps: list[StepResult] = self.steps_on_probe(model)
            return steps

        plain, dtype = take("one by one"), step_dtype(self.args)
        if not self.in_all_processes(all(step.is_finite() for step in plain)):
            return "the library's"  # training itself ends at such a number and says why
        methods: tuple[BatchMethod, ...] = ("the library's", "padded")
        differences = {method: self.difference_on_probe(partial(take, method), plain, method) for method in methods}
        allowed = allowed_difference(dtype, 0.0 if dtype == torch.float32 else differences["padded"])
        return next(
            (method for method in methods if self.in_all_processes(differences[method] <= allowed)), "one by one"
        )


def make_probe(job: TrainingJob) -> list[list[TokenizedRow]]:
    """Build short conversations like the run's."""
    some = job.train.select(range(min(PROBE_ROWS, len(job.train))))
    longest = pyarrow.compute.max(pyarrow.compute.list_value_length(job.train.data.column("input_ids"))).as_py()
    return probe_batches(some["input_ids"], longest, job.model.config.get_text_config())
