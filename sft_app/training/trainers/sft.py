"""Train with TRL's `SFTTrainer`, the default: adapters, and conversations packed end to end."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from sft_app.data.tokens import IGNORED, RenderedConversation, training_rows
from sft_app.evaluation.scorecard import RowScore, score_conversations
from sft_app.models.loading import free_memory
from sft_app.training.fast_paths.attention import (
    disable_kernel,
    separate_attention,
    supports_separate_attention,
    uses_separate_attention,
    validate_kernel,
)
from sft_app.training.fast_paths.batch_layouts import pad_conversations, split_conversations, summed_loss
from sft_app.training.fast_paths.cpu_fused import fuse_modules, unfuse_modules
from sft_app.training.fast_paths.cpu_shared_prefix import can_share_prefix, share_prefix
from sft_app.training.fast_paths.gradient_check import StepResult, allowed_difference
from sft_app.training.fast_paths.liger import LigerKernels
from sft_app.training.fast_paths.loss_head import (
    FUSED_HEAD_DEVICE,
    SummedCrossEntropy,
    backbone,
    plain_head_weight,
)
from sft_app.training.fast_paths.packed_scores import (
    HELDOUT_TOKENS,
    group_by_tokens,
    hardest_row,
    row_scores,
    scores_agree,
)
from sft_app.training.fast_paths.step_plan import ONE_BY_ONE_PLAN, PADDED_PLAN, SHORTCUTS, StepPlan, describe_plan
from sft_app.training.trainers.arguments import TrainingJob, common_arguments, step_dtype
from sft_app.training.trainers.gradient_check_mixin import CheckedPaddingMixin, GradientCheckMixin, make_probe
from sft_app.training.trainers.heldout import HeldoutEvaluation

UNPACKED = "held-out rows are scored one by one: %s: %s"
logger = logging.getLogger(__name__)


class PackedTrainer(GradientCheckMixin, HeldoutEvaluation, SFTTrainer):
    """Computes logits at trained positions only, and attention within each conversation only.

    The rows of a batch arrive flattened into one, `(1, tokens)`, with boundaries in `cu_seq_lens_q`. Gradients are
    those of the same conversations in any other layout. This is checked with the `probe` on the model itself before it
    trains: `plan` becomes the fastest one that passes, and `notice` says if it is slower than possible.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.has_fused_head = self.args.device.type == FUSED_HEAD_DEVICE
        # DDP and FSDP act in the wrapped model's forward, so the head cannot be split off there.
        may_split = not self.has_fused_head and self.accelerator.num_processes == 1
        self.head = plain_head_weight(self.model) if may_split else None
        self.liger = LigerKernels(self.model)
        self.possible = self.plan = StepPlan(
            separates_attention=supports_separate_attention(self.model.config.get_text_config()),
            shares_prefix=not self.args.neftune_noise_alpha and can_share_prefix(self.model),
            fuses_modules=fuse_modules(self.model) > 0,
            uses_liger=self.liger.apply(),
            chunks_loss=self.has_fused_head or self.head is not None,
        )
        self.packs_heldout: bool | None = None

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train, and leave transformers' own functions behind for models that are loaded later."""
        try:
            return super().train(*args, **kwargs)
        finally:
            self.liger.remove()

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        """Take a step with separate attention if the plan says so."""
        with separate_attention(self.model) if self.plan.separates_attention else nullcontext():
            return super().training_step(*args, **kwargs)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Return the summed cross-entropy divided by the trained tokens of the whole step, accumulation included."""
        labels = inputs.pop("labels")[0]
        compute = self._packed_loss if self.plan.layout == "packed" else self._library_loss
        loss, trained, outputs = compute(model, inputs, labels)
        loss = self.normalise_loss(loss, trained, num_items_in_batch)
        return (loss, outputs) if return_outputs else loss

    def score_rows(self, rows: list[RenderedConversation]) -> list[RowScore]:
        """Score held-out conversations in packed rows on a GPU, if that gives what scoring them one by one gives.

        The first evaluation compares them on a row with the longest and the shortest ones. A failure, such as too
        little memory for a whole row, means one by one.
        """
        if self.packs_heldout is None:
            has_shortcuts = self.plan.layout == "packed" and self.plan.separates_attention and self.plan.chunks_loss
            packs = has_shortcuts and self.has_fused_head and self._packed_scores_agree()
            self.packs_heldout = self.in_all_processes(packs)
        if self.packs_heldout:
            try:
                groups = group_by_tokens(rows, HELDOUT_TOKENS)
                return [score for group in groups for score in self._score_packed(group)]
            except Exception as error:  # a row of this length may fail in any way; one by one still works
                self.packs_heldout = False
                logger.warning(UNPACKED, type(error).__name__, error)
            free_memory()  # once the error, which holds the failed row, is gone
        return super().score_rows(rows)

    def _packed_scores_agree(self) -> bool:
        row = hardest_row([*self.heldout, *(self.judging or [])], HELDOUT_TOKENS)
        try:
            return scores_agree(self._score_packed(row), score_conversations(self.model, row), step_dtype(self.args))
        except Exception as error:  # as above
            logger.warning(UNPACKED, type(error).__name__, error)
        free_memory()
        return False

    @torch.no_grad()
    def _score_packed(self, conversations: list[RenderedConversation]) -> list[RowScore]:
        """Score the conversations of one packed row."""
        was_training = self.model.training
        self.model.eval()
        try:
            inputs = self._prepare_inputs(self.data_collator(training_rows(conversations)))
            with separate_attention(self.model) if self.plan.separates_attention else nullcontext():
                outputs = self.model(**inputs, fused_lm_head=True)
        finally:
            self.model.train(was_training)
        return row_scores(outputs, inputs["cu_seq_lens_q"].tolist())

    def _packed_loss(self, model: Any, inputs: dict[str, Any], labels: torch.Tensor) -> tuple[torch.Tensor, int, Any]:
        """Return the summed loss, the number of trained tokens, and the model's output."""
        if self.plan.shares_prefix and uses_separate_attention(self.model):
            inputs, labels = share_prefix(inputs, labels)
        trained = (labels[1:] != IGNORED).nonzero()[:, 0]
        targets = labels[trained + 1]
        if self.plan.chunks_loss and self.has_fused_head:
            outputs = model(**inputs, labels=labels[None], fused_lm_head=True)
            loss = -outputs.log_probs.sum()
        elif self.plan.chunks_loss and self.head is not None:
            with self.accelerator.autocast():
                outputs = backbone(model)(**inputs, use_cache=False)
            hidden = outputs.last_hidden_state[0, trained].to(self.head.dtype)
            loss = SummedCrossEntropy.apply(hidden, self.head, targets)
        else:
            outputs = model(**inputs, use_cache=False, logits_to_keep=trained)
            loss = torch.nn.functional.cross_entropy(outputs.logits[0].float(), targets, reduction="sum")
        return loss, len(trained), outputs

    def _library_loss(self, model: Any, inputs: dict[str, Any], labels: torch.Tensor) -> tuple[torch.Tensor, int, Any]:
        """Return the same for the conversations padded or one by one, with the model's own head."""
        batches = (
            [pad_conversations(inputs, labels)] if self.plan.layout == "padded" else split_conversations(inputs, labels)
        )
        return summed_loss(model, batches)

    def _prepare_for_training(self, max_steps: int, train_dataloader: Any, resume_from_checkpoint: Any) -> Any:
        """Choose the plan. transformers calls this with the model ready, before anything is logged."""
        model, loader = super()._prepare_for_training(max_steps, train_dataloader, resume_from_checkpoint)
        disable_kernel()
        with self.prepared_for_probe(resume_from_checkpoint):
            plain = self._steps_of(ONE_BY_ONE_PLAN, model)
            self._apply_plan(self._choose_plan(model, plain))
        self.notice = describe_plan(self.plan, self.possible, all(step.is_finite() for step in plain))
        return model, loader

    def _choose_plan(self, model: Any, plain: list[StepResult]) -> StepPlan:
        """Return the fastest plan that gives what the plain one gives in all processes of the run."""
        dtype = step_dtype(self.args)
        noise = 0.0 if dtype == torch.float32 else self._difference_of(PADDED_PLAN, model, plain)
        allowed = allowed_difference(dtype, noise)

        def is_right(plan: StepPlan) -> bool:
            return self.in_all_processes(self._difference_of(plan, model, plain) <= allowed)

        if is_right(plan := self.possible) or is_right(plan := StepPlan()):
            for shortcut in SHORTCUTS:
                if (faster := plan.with_shortcut(shortcut, self.possible)) and is_right(faster):
                    plan = faster
            return self._with_kernel(plan, is_right)
        can_compare = all(step.is_finite() for step in plain)
        return PADDED_PLAN if not can_compare or is_right(PADDED_PLAN) else ONE_BY_ONE_PLAN

    def _with_kernel(self, plan: StepPlan, is_right: Callable[[StepPlan], bool]) -> StepPlan:
        """Add the kernel if it passes. Its uses are known once the model has taken a step with separate attention."""
        if not plan.separates_attention or not self.in_all_processes(validate_kernel()):
            return plan
        self.possible = replace(self.possible, uses_kernel=True)
        faster = replace(plan, uses_kernel=True)
        return faster if is_right(faster) else plan

    def _difference_of(self, plan: StepPlan, model: Any, plain: list[StepResult]) -> float:
        return self.difference_on_probe(lambda: self._steps_of(plan, model), plain, plan)

    def _steps_of(self, plan: StepPlan, model: Any) -> list[StepResult]:
        self._apply_plan(plan)
        with separate_attention(self.model) if plan.separates_attention else nullcontext():
            return self.steps_on_probe(model)

    def _apply_plan(self, plan: StepPlan) -> None:
        if plan.fuses_modules != self.plan.fuses_modules:
            (fuse_modules if plan.fuses_modules else unfuse_modules)(self.model)
        if plan.uses_liger != self.plan.uses_liger:
            self.liger.apply() if plan.uses_liger else self.liger.remove()
        if not plan.uses_kernel:
            disable_kernel()
        self.plan = plan


class PaddedTrainer(CheckedPaddingMixin, HeldoutEvaluation, SFTTrainer):
    """Trains padded rows with the `SFTTrainer`'s own loss, after the gradient check."""

    def forget_probe(self) -> None:
        for metrics in self._metrics.values():
            metrics.clear()
        self._total_train_tokens = 0


def build_sft_trainer(job: TrainingJob) -> SFTTrainer:
    """Build the trainer, ready to `train()`. Its rows are already ids and labels, which TRL takes as they are."""
    settings = job.settings
    fills_rows = settings.packing and settings.packing_strategy == "bfd"
    arguments = SFTConfig(
        **common_arguments(job),
        packing=fills_rows,
        # Rows are already cut to max_length; TRL requires None if it flattens without packing.
        max_length=settings.max_length if fills_rows else None,
        padding_free=settings.packing,
        eval_packing=False,
        router_aux_loss_coef=0.0,  # TRL would add a mixture's balancing loss, but only to padded rows
    )
    return (PackedTrainer if settings.packing else PaddedTrainer)(
        model=job.model,
        args=arguments,
        train_dataset=job.train,
        eval_dataset=Dataset.from_list(training_rows(job.heldout)),
        processing_class=job.tokenizer,
        callbacks=job.callbacks,
        heldout=job.heldout,
        judging=job.judging,
        probe=make_probe(job),
    )
