"""The default way of training: TRL's `SFTTrainer`, adapters, whole conversations laid end to end."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from sft_app.data.tokens import IGNORED, training_rows
from sft_app.training.fast_paths.attention import (
    can_separate,
    forget_kernel,
    is_separate,
    separate_attention,
    try_kernel,
)
from sft_app.training.fast_paths.batch_layouts import one_by_one, pad, summed_loss
from sft_app.training.fast_paths.cpu_fused import fuse, unfuse
from sft_app.training.fast_paths.cpu_shared_prefix import can_share_beginnings, share_beginning
from sft_app.training.fast_paths.gradient_check import Step, tolerance
from sft_app.training.fast_paths.loss_head import SummedCrossEntropy, backbone, plain_head
from sft_app.training.fast_paths.step_plan import PADDED, PLAIN, SHORTCUTS, Way, describe
from sft_app.training.trainers.arguments import TrainingJob, common_arguments, training_dtype
from sft_app.training.trainers.gradient_check_mixin import CheckedPadding, Probed, make_probe
from sft_app.training.trainers.heldout import HeldoutEvaluation


class PackedTrainer(Probed, HeldoutEvaluation, SFTTrainer):
    """`SFTTrainer` that computes logits at the trained positions only, and attention within each conversation only.

    The rows of a batch come flattened into one, `(1, tokens)`, their borders in `cu_seq_lens_q`. Gradients are those
    of the same conversations padded, one by one, or in any other arrangement: before it trains, this is checked on the
    model itself with the `probe`, and `way` becomes the fastest one of which it is true. `notice` says so.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # DDP and FSDP act in the wrapped model's own forward, so there the head cannot be split off it.
        takes_chunks = training_dtype(self.model) != torch.float16 and self.accelerator.num_processes == 1
        self.head = plain_head(self.model) if takes_chunks else None
        self.possible = self.way = Way(
            separates=can_separate(self.model.config.get_text_config()),
            shares_beginnings=not self.args.neftune_noise_alpha and can_share_beginnings(self.model),
            fuses=fuse(self.model) > 0,
            splits_head=self.head is not None,
        )

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        with separate_attention(self.model) if self.way.separates else nullcontext():
            return super().training_step(*args, **kwargs)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Summed cross-entropy divided by the trained tokens of the whole step, accumulation included."""
        labels = inputs.pop("labels")[0]
        compute = self._packed_loss if self.way.rows == "end to end" else self._library_loss
        loss, trained, outputs = compute(model, inputs, labels)
        loss = self.share_of_step(loss, trained, num_items_in_batch)
        return (loss, outputs) if return_outputs else loss

    def _packed_loss(self, model: Any, inputs: dict[str, Any], labels: torch.Tensor) -> tuple[torch.Tensor, int, Any]:
        """The summed loss, the number of trained tokens, and what the model gave."""
        if self.way.shares_beginnings and is_separate(self.model):
            inputs, labels = share_beginning(inputs, labels)
        labels = labels[1:]
        trained = (labels != IGNORED).nonzero()[:, 0]
        if self.head is None or not self.way.splits_head:
            outputs = model(**inputs, use_cache=False, logits_to_keep=trained)
            loss = torch.nn.functional.cross_entropy(outputs.logits[0].float(), labels[trained], reduction="sum")
        else:
            with self.accelerator.autocast():
                outputs = backbone(model)(**inputs, use_cache=False)
            hidden = outputs.last_hidden_state[0, trained].to(self.head.dtype)
            loss = SummedCrossEntropy.apply(hidden, self.head, labels[trained])
        return loss, len(trained), outputs

    def _library_loss(self, model: Any, inputs: dict[str, Any], labels: torch.Tensor) -> tuple[torch.Tensor, int, Any]:
        """As `_packed_loss`, of the same conversations padded or one by one: the model as the library has it."""
        batches = [pad(inputs, labels)] if self.way.rows == "padded" else one_by_one(inputs, labels)
        return summed_loss(model, batches)

    def _prepare_for_training(self, max_steps: int, train_dataloader: Any, resume_from_checkpoint: Any) -> Any:
        """transformers calls it when the model is as it will be in training, and before anything is logged."""
        model, loader = super()._prepare_for_training(max_steps, train_dataloader, resume_from_checkpoint)
        forget_kernel()
        with self.probing(resume_from_checkpoint):
            plain = self._steps_of(PLAIN, model)
            self._take(self._checked_way(model, plain))
        self.notice = describe(self.way, self.possible, all(step.is_finite() for step in plain))
        return model, loader

    def _checked_way(self, model: Any, plain: list[Step]) -> Way:
        """The fastest way that gives what the plain one gives, in all processes of the run."""
        dtype = training_dtype(self.model)
        noise = 0.0 if dtype == torch.float32 else self._difference_of(PADDED, model, plain)
        allowed = tolerance(dtype, noise)

        def is_right(way: Way) -> bool:
            return self.in_all(self._difference_of(way, model, plain) <= allowed)

        if is_right(found := self.possible) or is_right(found := Way()):
            for shortcut in SHORTCUTS:
                if (faster := found.extended(shortcut, self.possible)) and is_right(faster):
                    found = faster
            return self._with_kernel(found, is_right)
        can_compare = all(step.is_finite() for step in plain)
        return PADDED if not can_compare or is_right(PADDED) else PLAIN

    def _with_kernel(self, found: Way, is_right: Callable[[Way], bool]) -> Way:
        """The kernel's uses are known once the model has taken a step with separate attention."""
        if not found.separates or not self.in_all(try_kernel()):
            return found
        self.possible = replace(self.possible, uses_kernel=True)
        faster = replace(found, uses_kernel=True)
        return faster if is_right(faster) else found

    def _difference_of(self, way: Way, model: Any, plain: list[Step]) -> float:
        return self.difference_on_probe(lambda: self._steps_of(way, model), plain, way)

    def _steps_of(self, way: Way, model: Any) -> list[Step]:
        self._take(way)
        with separate_attention(self.model) if way.separates else nullcontext():
            return self.steps_on_probe(model)

    def _take(self, way: Way) -> None:
        if way.fuses != self.way.fuses:
            (fuse if way.fuses else unfuse)(self.model)
        if not way.uses_kernel:
            forget_kernel()
        self.way = way


class PaddedTrainer(CheckedPadding, HeldoutEvaluation, SFTTrainer):
    """`SFTTrainer` as it is, with padded rows and its own loss."""

    def forget_probe(self) -> None:
        for metrics in self._metrics.values():
            metrics.clear()
        self._total_train_tokens = 0


def build_sft_trainer(job: TrainingJob) -> SFTTrainer:
    """The trainer, ready to `train()`. Its rows are already ids and labels; TRL takes them as they are."""
    settings = job.settings
    fills_rows = settings.packing and settings.packing_strategy == "bfd"
    arguments = SFTConfig(
        **common_arguments(job),
        packing=fills_rows,
        # Rows are cut to max_length already; TRL asks for None when it flattens without packing.
        max_length=settings.max_length if fills_rows else None,
        padding_free=settings.packing,
        eval_packing=False,
        router_aux_loss_coef=0.0,  # TRL would add a mixture's balancing loss to padded rows, and only to those
    )
    return (PackedTrainer if settings.packing else PaddedTrainer)(
        model=job.model,
        args=arguments,
        train_dataset=job.train,
        eval_dataset=Dataset.from_list(training_rows(job.heldout)),
        processing_class=job.tokenizer,
        callbacks=job.callbacks,
        heldout=job.heldout,
        probe=make_probe(job),
    )
