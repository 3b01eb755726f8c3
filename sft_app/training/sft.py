"""The default way of training: TRL's `SFTTrainer`, adapters, whole conversations packed into full rows."""

from __future__ import annotations

from typing import Any

import torch
from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from sft_app.data.tokens import IGNORED, training_rows
from sft_app.training.arguments import TrainingJob, common_arguments
from sft_app.training.heldout import HeldoutEvaluation


class PackedTrainer(HeldoutEvaluation, SFTTrainer):
    """`SFTTrainer` with a loss head that computes logits at the trained positions only.

    The rows of a batch come flattened into one, `(1, tokens)`, their borders marked by `position_ids`.
    """

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Summed cross-entropy divided by the trained tokens of the whole step, accumulation included."""
        labels = inputs.pop("labels")[0, 1:]
        trained = (labels != IGNORED).nonzero()[:, 0]
        outputs = model(**inputs, use_cache=False, logits_to_keep=trained)
        loss = torch.nn.functional.cross_entropy(outputs.logits[0].float(), labels[trained], reduction="sum")
        loss = loss / (len(trained) if num_items_in_batch is None else num_items_in_batch)
        return (loss, outputs) if return_outputs else loss


def build_sft_trainer(job: TrainingJob) -> PackedTrainer:
    """The trainer, ready to `train()`. Its rows are already ids and labels; TRL takes them as they are."""
    settings = job.settings
    arguments = SFTConfig(
        **common_arguments(job),
        packing=settings.packing,
        # Rows are cut to max_length already; TRL asks for None when it flattens without packing.
        max_length=settings.max_length if settings.packing else None,
        padding_free=True,
        eval_packing=False,
    )
    return PackedTrainer(
        model=job.model,
        args=arguments,
        train_dataset=Dataset.from_list(training_rows(job.train)),
        eval_dataset=Dataset.from_list(training_rows(job.heldout)),
        processing_class=job.tokenizer,
        callbacks=job.callbacks,
        heldout=job.heldout,
    )
