"""A trainer takes a few steps on a probe before it trains, to see what its ways of computing one are worth."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, Literal

import pyarrow.compute
import torch

from sft_app.training.distributed import ranks_sum
from sft_app.training.fast_paths.batch_layouts import split_rows, summed_loss
from sft_app.training.fast_paths.gradient_check import (
    Row,
    Step,
    difference,
    probe_batches,
    take_step,
    tolerance,
    undisturbed,
)
from sft_app.training.trainers.arguments import TrainingJob, training_dtype
from sft_app.training.trainers.heldout import is_alone

BatchWay = Literal["the library's", "padded", "one by one"]
NOTICES: dict[BatchWay, str] = {
    "the library's": "",
    "padded": "This run computes the loss from the model's own logits: the library's loss is different for this model.",
    "one by one": (
        "Conversations are processed one by one in this run, which takes longer: with padding, "
        "this model would learn something else."
    ),
}
PROBED_ROWS = 8
logger = logging.getLogger(__name__)


class Probed:
    """Mixed into a transformers `Trainer`. `probe` holds batches of short conversations like those of the run."""

    def __init__(self, *args: Any, probe: Sequence[Sequence[Row]], **kwargs: Any) -> None:
        self.probe = probe
        super().__init__(*args, **kwargs)

    def share_of_step(self: Any, loss: torch.Tensor, trained: int, num_items_in_batch: Any) -> torch.Tensor:
        """A summed loss divided by the trained tokens of the whole step, accumulation included."""
        loss = loss / (trained if num_items_in_batch is None else num_items_in_batch)
        if num_items_in_batch is not None and self.args.average_tokens_across_devices:
            loss = loss * self.accelerator.num_processes  # DDP takes the mean over the processes
        return loss

    @contextmanager
    def probing(self: Any, resume_from_checkpoint: Any) -> Iterator[None]:
        """For the steps on the probe; the model is as it was after them. A request to end breaks them off, and a stop
        where nothing has been learnt yet. Raises: Terminated, StopRequested."""
        with ExitStack() as parts:
            if is_alone():
                parts.enter_context(self.termination.let_through())
                if not resume_from_checkpoint:
                    parts.enter_context(self.termination.stoppable())
            parts.enter_context(undisturbed(self.model))
            yield

    def steps_on_probe(self: Any, model: Any) -> list[Step]:
        """A step for each batch of the probe, the way the trainer would take it now."""
        return [self._step_on(rows, model) for rows in self.probe]

    def difference_on_probe(self: Any, take: Callable[[], list[Step]], plain: Sequence[Step], what: Any) -> float:
        """Infinite where the model cannot go this way."""
        try:
            return difference(take(), plain)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # whatever a model does that was not made for this; a plainer way is taken
            logger.warning("%s: %s: %s", what, type(error).__name__, error)
            self.model.zero_grad()
            return float("inf")

    def _step_on(self: Any, rows: Sequence[Row], model: Any) -> Step:
        batch = self.data_collator([{"input_ids": ids, "labels": labels} for ids, labels in rows])
        inputs = self._prepare_inputs(batch)

        def compute() -> torch.Tensor:
            with self.compute_loss_context_manager():
                return self.compute_loss(model, dict(inputs))

        return take_step(self.model, compute, training_dtype(self.model))

    @staticmethod
    def in_all(is_true: bool) -> bool:
        """Of the run's processes, which have to take the same way."""
        return ranks_sum(int(not is_true)) == 0


class CheckedPadding(Probed):
    """Mixed into a `Trainer` of padded batches: its gradients are those of the same conversations one by one.

    Where the probe shows that the library's own step is not (a model that looks at the length of the whole batch, or a
    loss that leaves out what the model does to its logits), `batch_way` becomes a plainer one, and `notice` says so.
    Without a probe nothing is checked.
    """

    batch_way: BatchWay = "the library's"

    def compute_loss(
        self: Any, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        if self.batch_way == "the library's":
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)  # type: ignore[misc]
        labels = inputs.pop("labels")
        batches = [(inputs, labels)] if self.batch_way == "padded" else split_rows(inputs, labels)
        loss, trained, outputs = summed_loss(model, batches)
        loss = self.share_of_step(loss, trained, num_items_in_batch)
        return (loss, outputs) if return_outputs else loss

    def _prepare_for_training(self: Any, max_steps: int, train_dataloader: Any, resume_from_checkpoint: Any) -> Any:
        """transformers calls it when the model is as it will be in training, and before anything is logged."""
        model, loader = super()._prepare_for_training(  # type: ignore[misc]
            max_steps, train_dataloader, resume_from_checkpoint
        )
        if self.probe:
            with self.probing(resume_from_checkpoint):
                self.batch_way = self._checked_way(model)
            self.notice = NOTICES[self.batch_way]
            self.forget_probe()
        return model, loader

    def forget_probe(self) -> None:
        """Takes what was counted meanwhile out of the trainer's books."""

    def _checked_way(self: Any, model: Any) -> BatchWay:
        def take(way: BatchWay) -> list[Step]:
            self.batch_way = way
            return self.steps_on_probe(model)

        plain, dtype = take("one by one"), training_dtype(self.model)
        if not self.in_all(all(step.is_finite() for step in plain)):
            return "the library's"  # training itself ends at such a number, and says why
        ways: tuple[BatchWay, ...] = ("the library's", "padded")
        apart = {way: self.difference_on_probe(partial(take, way), plain, way) for way in ways}
        allowed = tolerance(dtype, 0.0 if dtype == torch.float32 else apart["padded"])
        return next((way for way in ways if self.in_all(apart[way] <= allowed)), "one by one")


def make_probe(job: TrainingJob) -> list[list[Row]]:
    """Short conversations like those of the run."""
    some = job.train.select(range(min(PROBED_ROWS, len(job.train))))
    longest = pyarrow.compute.max(pyarrow.compute.list_value_length(job.train.data.column("input_ids"))).as_py()
    return probe_batches(some["input_ids"], longest, job.model.config.get_text_config())
