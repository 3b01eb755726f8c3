"""Settings to the arguments that `SFTConfig` and `TrainingArguments` share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sft_app.data.tokens import RenderedConversation
from sft_app.settings import RunSettings


@dataclass(frozen=True)
class TrainingJob:
    """What a trainer is built from. A job that `is_resumed` goes on from a checkpoint that was evaluated already."""

    model: Any
    tokenizer: Any
    train: list[RenderedConversation]
    heldout: list[RenderedConversation]
    settings: RunSettings
    output_dir: Path
    callbacks: list[Any]
    is_resumed: bool = False


def common_arguments(job: TrainingJob) -> dict[str, Any]:
    """Evaluation, saving and the held-out loss at step 0 (which is the base model's) are always on."""
    settings, model = job.settings, job.model
    on_gpu = model.device.type == "cuda"
    checkpointing = on_gpu if settings.gradient_checkpointing is None else settings.gradient_checkpointing
    compute_dtype = training_dtype(model)
    return {
        "output_dir": str(job.output_dir),
        "use_cpu": not on_gpu,
        "bf16": compute_dtype == torch.bfloat16,
        "fp16": compute_dtype == torch.float16,
        "num_train_epochs": settings.num_train_epochs,
        "max_steps": settings.max_steps,
        "learning_rate": settings.resolved_learning_rate(),
        "lr_scheduler_type": settings.lr_scheduler_type,
        "warmup_steps": settings.warmup_ratio,
        "weight_decay": settings.weight_decay,
        "max_grad_norm": settings.max_grad_norm,
        "per_device_train_batch_size": settings.per_device_train_batch_size,
        "gradient_accumulation_steps": settings.gradient_accumulation_steps,
        "activation_checkpointing": checkpointing,
        "activation_checkpointing_kwargs": {"use_reentrant": False},
        "eval_strategy": "steps",
        "eval_steps": settings.eval_steps,
        "eval_on_start": not job.is_resumed,
        "save_strategy": "steps",
        "save_steps": settings.eval_steps,
        "save_total_limit": 2,
        "logging_steps": 1,
        "logging_strategy": "steps",
        "disable_tqdm": True,
        "report_to": "none",
        "seed": settings.seed,
    }


def training_dtype(model: Any) -> torch.dtype:
    """What the base computes in: for a 4-bit model not the dtype of its packed weights."""
    quantization = getattr(model.config, "quantization_config", None)
    return getattr(quantization, "bnb_4bit_compute_dtype", None) or next(model.parameters()).dtype


def widen_trainable(model: Any) -> None:
    """float16 gradients need float32 weights to step on. TRL casts the adapters of a 4-bit base to bfloat16, which
    GPUs before compute capability 8.0 only emulate."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
