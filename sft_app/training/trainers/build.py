"""The trainer that the settings ask for. Only its own libraries are imported."""

from __future__ import annotations

from typing import Any

import torch

from sft_app.training.trainers.arguments import TrainingJob, training_dtype, widen_trainable


def build_trainer(job: TrainingJob) -> Any:
    """The trainer, ready to `train()`."""
    if job.settings.trainer == "classic":
        from sft_app.training.trainers.classic import build_classic_trainer as build
    else:
        from sft_app.training.trainers.sft import build_sft_trainer as build
    trainer = build(job)
    if training_dtype(job.model) == torch.float16:
        widen_trainable(trainer.model)
    return trainer
