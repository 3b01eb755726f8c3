"""The textbook way: transformers' own `Trainer`, a padding collator, next-token loss. Same data, same run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments

from sft_app.data.tokens import IGNORED, RenderedConversation, training_rows
from sft_app.settings import RunSettings
from sft_app.training.arguments import common_arguments
from sft_app.training.heldout import HeldoutEvaluation


class ClassicTrainer(HeldoutEvaluation, Trainer):
    """`Trainer` with our held-out evaluation and nothing else of ours."""


def build_classic_trainer(
    model: Any,
    tokenizer: Any,
    train: list[RenderedConversation],
    heldout: list[RenderedConversation],
    settings: RunSettings,
    output_dir: Path,
    callbacks: list[Any],
) -> ClassicTrainer:
    """The trainer, ready to `train()`; each row is one conversation, padded to the longest of its batch."""
    return ClassicTrainer(
        model=model,
        args=TrainingArguments(**common_arguments(settings, model, output_dir)),
        train_dataset=Dataset.from_list(training_rows(train)),
        eval_dataset=Dataset.from_list(training_rows(heldout)),
        data_collator=DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=IGNORED),
        processing_class=tokenizer,
        callbacks=callbacks,
        heldout=heldout,
    )
