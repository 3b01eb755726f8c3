"""Turn settings into the arguments that `SFTConfig` and `TrainingArguments` share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from datasets import Dataset
from torch.optim.lr_scheduler import LambdaLR

from sft_app.data.tokens import RenderedConversation
from sft_app.models.hardware import detect_hardware
from sft_app.settings import RunSettings, with_schedule
from sft_app.training.optional_deps import PROJECT_NAME

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainingArguments


@dataclass(frozen=True)
class TrainingJob:
    """Holds what a trainer is built from. `train` has the columns `input_ids` and `labels`.

    `heldout` are evaluated during training; `judging` are the held-out conversations that the result is judged by, if
    these are others.

    A job that `is_resumed` continues from a checkpoint and already knows the base's held-out loss, and computes its
    steps in the `step_precision` it began with.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    train: Dataset
    heldout: list[RenderedConversation]
    settings: RunSettings
    output_dir: Path
    callbacks: list[Any]
    is_resumed: bool = False
    step_precision: str = ""
    judging: list[RenderedConversation] | None = None


def common_arguments(job: TrainingJob) -> dict[str, Any]:
    """Build the arguments. Evaluation, saving and the held-out loss at step 0 (the base model's) are always on.

    There is no `save_total_limit`: `HeldoutEvaluation` deletes old checkpoints itself.
    """
    settings, model = with_schedule(job.settings, len(job.train)), job.model
    # FSDP moves its shard of the model to the GPU itself.
    on_gpu = model.device.type == "cuda" or bool(settings.fsdp and torch.cuda.is_available())
    checkpointing = on_gpu if settings.gradient_checkpointing is None else settings.gradient_checkpointing
    compute_dtype = chosen_step_dtype(settings, training_dtype(model), on_gpu)
    if job.step_precision:
        compute_dtype = getattr(torch, job.step_precision)
    return {
        "output_dir": str(job.output_dir),
        "use_cpu": not on_gpu and model.device.type != "mps",
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
        "activation_checkpointing": checkpointing and not settings.fsdp,
        "activation_checkpointing_kwargs": {
            "use_reentrant": False,
            "every_n_layers": settings.checkpoint_every_n_layers,
        },
        "neftune_noise_alpha": packed_neftune_alpha(settings),
        "fsdp": settings.fsdp or None,
        "fsdp_config": {"activation_checkpointing": checkpointing} if settings.fsdp else None,
        "eval_strategy": "steps",
        "eval_steps": settings.eval_steps,
        "eval_on_start": not job.is_resumed,
        "save_strategy": "steps",
        "save_steps": settings.eval_steps,
        "metric_for_best_model": "eval_loss",
        "load_best_model_at_end": settings.load_best_model_at_end,
        "logging_steps": 1,
        "logging_strategy": "steps",
        "logging_nan_inf_filter": False,  # it would replace a non-finite loss by the mean of others
        "disable_tqdm": True,
        "report_to": settings.report_to,
        "run_name": settings.name or job.output_dir.parent.name,
        "project": PROJECT_NAME,
        "seed": settings.seed,
    }


def packed_neftune_alpha(settings: RunSettings) -> float | None:
    """Return NEFTune's alpha, adjusted for packed rows.

    The noise is alpha over the root of a row's length times width, and a packed row is longer than a conversation by
    about the number of conversations in it. Source: Jain et al. 2023, "NEFTune", arXiv 2310.05914.
    """
    alpha = settings.neftune_noise_alpha
    if alpha is None or not settings.is_packed():
        return alpha
    return alpha * math.sqrt(settings.per_device_train_batch_size)


def training_dtype(model: PreTrainedModel) -> torch.dtype:
    """Return the dtype of the base's weights; for a 4-bit model, that which they are unpacked to."""
    quantization = getattr(model.config, "quantization_config", None)
    dtype: torch.dtype = getattr(quantization, "bnb_4bit_compute_dtype", None) or next(model.parameters()).dtype
    return dtype


def chosen_step_dtype(settings: RunSettings, weights: torch.dtype, on_gpu: bool) -> torch.dtype:
    """Return the dtype to compute steps in: that of the weights, but half precision for `full` on a GPU.

    Autocast then keeps its weights and their updates in float32.
    """
    if settings.method != "full" or weights != torch.float32 or not on_gpu:
        return weights
    dtype: torch.dtype = getattr(torch, settings.step_dtype(detect_hardware().dtype, "cuda"))
    return dtype


def step_dtype(arguments: TrainingArguments) -> torch.dtype:
    """Return the dtype that a trainer's steps compute in, from its arguments."""
    return torch.bfloat16 if arguments.bf16 else torch.float16 if arguments.fp16 else torch.float32


def cast_trainable_to_float32(model: PreTrainedModel) -> None:
    """Cast trained weights to float32, whatever the base computes in.

    TRL casts the adapters of a 4-bit base to bfloat16, whose steps are 0.4 % of a weight: smaller updates are lost.
    GPUs before compute capability 8.0 only emulate it, and float16's gradients need float32 too.
    """
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def make_schedule(optimizer: Any, kind: str, warmup: int, total: int) -> LambdaLR:
    """Build a schedule of `total` optimizer steps; at least the last one is at or past the full rate."""
    rising = min(warmup, total - 1)
    return LambdaLR(optimizer, lambda step: learning_rate_factor(step, kind, rising, total))


def learning_rate_factor(step: int, kind: str, warmup: int, total: int) -> float:
    """Return the learning rate's factor at step 0 … `total` - 1, never 0, since such a step would learn nothing.

    After the warm-up, it is transformers' schedule of this name, whose own warm-up starts with a step at rate 0.
    """
    if kind == "constant":
        return 1.0
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if kind == "constant_with_warmup":
        return 1.0
    left = max(0, total - step) / (total - warmup)
    return left if kind == "linear" else 0.5 * (1 + math.cos(math.pi * (1 - left)))
