"""Train with transformers' own `Trainer`: a causal-LM collator and next-token loss.

A row is one conversation, padded to the longest in its batch, whose answers are trained. With `block_size`, it is a
block of running text instead, as in pretraining, and every token is trained, questions and role markers included. The
held-out loss is that of the answers in both cases, so that runs can be compared.
"""

from __future__ import annotations

from datasets import Dataset
from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments

from sft_app.data.tokens import IGNORED, training_rows
from sft_app.training.trainers.arguments import TrainingJob, common_arguments
from sft_app.training.trainers.gradient_check_mixin import CheckedPaddingMixin, make_probe
from sft_app.training.trainers.heldout import HeldoutEvaluation


class ClassicTrainer(CheckedPaddingMixin, HeldoutEvaluation, Trainer):
    """Adds held-out evaluation and the gradient check to `Trainer`."""


def build_classic_trainer(job: TrainingJob) -> ClassicTrainer:
    """Build the trainer, ready to `train()` on rows that are already conversations or blocks."""
    return ClassicTrainer(
        model=job.model,
        args=TrainingArguments(**common_arguments(job)),
        train_dataset=job.train,
        eval_dataset=Dataset.from_list(training_rows(job.heldout)),
        # `DataCollatorForLanguageModeling` would not train any token that is also the padding token, which in many
        # models ends an answer.
        data_collator=DataCollatorForSeq2Seq(job.tokenizer, label_pad_token_id=IGNORED),
        processing_class=job.tokenizer,
        callbacks=job.callbacks,
        heldout=job.heldout,
        judging=job.judging,
        probe=[] if job.settings.block_size else make_probe(job),
    )
