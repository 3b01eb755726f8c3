"""The default way of training: TRL's `SFTTrainer`, adapters, whole conversations packed into full rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from sft_app.data.tokens import IGNORED, RenderedConversation, training_rows
from sft_app.settings import RunSettings
from sft_app.training.arguments import common_arguments
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


def build_sft_trainer(
    model: Any,
    tokenizer: Any,
    train: list[RenderedConversation],
    heldout: list[RenderedConversation],
    settings: RunSettings,
    output_dir: Path,
    callbacks: list[Any],
) -> PackedTrainer:
    """The trainer, ready to `train()`. Its rows are already ids and labels; TRL takes them as they are."""
    rows = training_rows(train)
    arguments = SFTConfig(
        **common_arguments(settings, model, output_dir),
        packing=settings.packing,
        # Rows are cut to max_length already; TRL asks for None when it flattens without packing.
        max_length=settings.max_length if settings.packing else None,
        padding_free=True,
        eval_packing=False,
    )
    return PackedTrainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_list(rows),
        eval_dataset=Dataset.from_list(training_rows(heldout)),
        processing_class=tokenizer,
        callbacks=callbacks,
        heldout=heldout,
    )
