"""Build the trainer the settings ask for, importing only its own libraries."""

from __future__ import annotations

from typing import Any

from sft_app.training.trainers.arguments import TrainingJob, cast_trainable_to_float32


def build_trainer(job: TrainingJob) -> Any:
    """Build the trainer, ready to `train()`."""
    if job.settings.trainer == "classic":
        from sft_app.training.trainers.classic import build_classic_trainer as build
    else:
        from sft_app.training.trainers.sft import build_sft_trainer as build
    trainer = build(job)
    cast_trainable_to_float32(trainer.model)
    return trainer
