"""The default way of training: TRL's `SFTTrainer`, adapters, whole conversations laid end to end."""

from __future__ import annotations

from typing import Any

import torch
from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from sft_app.data.tokens import IGNORED, training_rows
from sft_app.training.fast.attention import is_separate, separate_attention
from sft_app.training.fast.fused import fuse
from sft_app.training.fast.loss_head import SummedCrossEntropy, backbone, plain_head
from sft_app.training.fast.prefix import can_share_beginnings, share_beginning
from sft_app.training.trainers.arguments import TrainingJob, common_arguments, training_dtype
from sft_app.training.trainers.heldout import HeldoutEvaluation


class PackedTrainer(HeldoutEvaluation, SFTTrainer):
    """`SFTTrainer` that computes logits at the trained positions only, and attention within each conversation only.

    The rows of a batch come flattened into one, `(1, tokens)`, their borders in `cu_seq_lens_q`. Gradients are those
    of the same conversations padded, one by one, or in any other arrangement.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        fuse(self.model)
        # DDP and FSDP act in the wrapped model's own forward, so there the head cannot be split off it.
        takes_chunks = training_dtype(self.model) != torch.float16 and self.accelerator.num_processes == 1
        self.head = plain_head(self.model) if takes_chunks else None
        self.shares_beginnings = not self.args.neftune_noise_alpha and can_share_beginnings(self.model)

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        with separate_attention(self.model):
            return super().training_step(*args, **kwargs)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Summed cross-entropy divided by the trained tokens of the whole step, accumulation included."""
        labels = inputs.pop("labels")[0]
        if self.shares_beginnings and is_separate(self.model):
            inputs, labels = share_beginning(inputs, labels)
        labels = labels[1:]
        trained = (labels != IGNORED).nonzero()[:, 0]
        if self.head is None:
            outputs = model(**inputs, use_cache=False, logits_to_keep=trained)
            loss = torch.nn.functional.cross_entropy(outputs.logits[0].float(), labels[trained], reduction="sum")
        else:
            with self.accelerator.autocast():
                outputs = backbone(model)(**inputs, use_cache=False)
            hidden = outputs.last_hidden_state[0, trained].to(self.head.dtype)
            loss = SummedCrossEntropy.apply(hidden, self.head, labels[trained])
        loss = loss / (len(trained) if num_items_in_batch is None else num_items_in_batch)
        if num_items_in_batch is not None and self.args.average_tokens_across_devices:
            loss = loss * self.accelerator.num_processes  # DDP takes the mean over the processes
        return (loss, outputs) if return_outputs else loss


class PaddedTrainer(HeldoutEvaluation, SFTTrainer):
    """`SFTTrainer` as it is, with padded rows and its own loss."""


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
    )
    build = PackedTrainer if settings.packing else PaddedTrainer
    return build(
        model=job.model,
        args=arguments,
        train_dataset=job.train,
        eval_dataset=Dataset.from_list(training_rows(job.heldout)),
        processing_class=job.tokenizer,
        callbacks=job.callbacks,
        heldout=job.heldout,
    )
