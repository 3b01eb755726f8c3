"""The textbook way: transformers' own `Trainer`, a padding collator, next-token loss. Same data, same run folder."""

from __future__ import annotations

from datasets import Dataset
from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments

from sft_app.data.tokens import IGNORED, training_rows
from sft_app.training.arguments import TrainingJob, common_arguments
from sft_app.training.heldout import HeldoutEvaluation


class ClassicTrainer(HeldoutEvaluation, Trainer):
    """`Trainer` with our held-out evaluation and nothing else of ours."""


def build_classic_trainer(job: TrainingJob) -> ClassicTrainer:
    """The trainer, ready to `train()`; each row is one conversation, padded to the longest of its batch."""
    return ClassicTrainer(
        model=job.model,
        args=TrainingArguments(**common_arguments(job)),
        train_dataset=Dataset.from_list(training_rows(job.train)),
        eval_dataset=Dataset.from_list(training_rows(job.heldout)),
        data_collator=DataCollatorForSeq2Seq(job.tokenizer, label_pad_token_id=IGNORED),
        processing_class=job.tokenizer,
        callbacks=job.callbacks,
        heldout=job.heldout,
    )
