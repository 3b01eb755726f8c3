"""Take training steps on random weights for `bench/gpu.py`: the app's, and TRL's as it comes."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from datasets import Dataset

from sft_app.data.tokens import RenderedConversation
from sft_app.models.catalog import ModelRef
from sft_app.models.hardware import detect_hardware
from sft_app.models.loading import keep_4bit_differentiable, load_base, load_tokenizer
from sft_app.models.lora_targets import attach_lora
from sft_app.models.shapes import read_shape
from sft_app.settings import RunSettings, parse_settings
from sft_app.training.estimates.memory import LargestBatch, estimate_memory
from sft_app.training.trainers.arguments import TrainingJob
from sft_app.training.trainers.build import build_trainer

STEPS = 4


@dataclass(frozen=True)
class Base:
    """A model folder, how many times as many layers the model has that it stands for, and the tokens of a
    conversation, half of which are trained."""

    folder: Path
    home: Path
    depth: float = 1.0
    tokens: int = 256

    def at_once(self, tokens: int) -> int:
        """Return the number of conversations in a batch of this many tokens."""
        return max(1, tokens // self.tokens)

    @property
    def ref(self) -> ModelRef:
        return ModelRef("base", str(self.folder), None, "local folder")

    def settings(self, **chosen: Any) -> RunSettings:
        """Return settings for a few steps with this model."""
        few = {
            "max_steps": STEPS,
            "eval_steps": STEPS + 1.0,
            "load_best_model_at_end": False,
            "warmup_ratio": 0.0,
            "replay": 0,
        }
        return parse_settings({"model": str(self.folder), "max_length": 16 * self.tokens, **few, **chosen})

    def load(self, settings: RunSettings) -> Any:
        """Load the model for training, with a fresh adapter unless all weights are trained."""
        hardware = detect_hardware()
        dtype = settings.compute_dtype(hardware.dtype)
        model = load_base(self.ref, self.home, hardware, dtype, in_4bit=settings.method == "qlora")
        if settings.method == "full":
            return model
        keep_4bit_differentiable(model, True)
        return attach_lora(model, settings)


def conversations(count: int, vocabulary: int, tokens: int) -> list[RenderedConversation]:
    """Return conversations of random tokens, of which the second half is trained."""
    random = torch.Generator().manual_seed(0)
    ids = torch.randint(3, vocabulary, (count, tokens), generator=random).tolist()
    return [RenderedConversation(row, [-100] * (tokens // 2) + row[tokens // 2 :], tokens) for row in ids]


def make_trainer(base: Base, tokens: int, **chosen: Any) -> Any:
    """Return a trainer of the app whose steps have this many tokens, computed at once."""
    at_once = base.at_once(tokens)
    settings = base.settings(per_device_train_batch_size=at_once, gradient_accumulation_steps=1, **chosen)
    model = base.load(settings)
    rows = conversations(at_once * STEPS, model.config.get_text_config().vocab_size, base.tokens)
    train = Dataset.from_list([row.as_training_row() for row in rows])
    tokenizer = load_tokenizer(base.ref, base.home)
    trainer = build_trainer(TrainingJob(model, tokenizer, train, rows[:1], settings, base.home / "out", []))
    trainer.args.eval_on_start = False
    trainer.args.eval_strategy = trainer.args.save_strategy = transformers.IntervalStrategy("no")
    return trainer


def measure_steps(base: Base, tokens: int, **chosen: Any) -> dict[str, Any]:
    """Time the app's steps and compare the peak of the memory with the formula, scaled to the model's real depth."""
    trainer = make_trainer(base, tokens, **chosen)
    settings, found = base.settings(**chosen), timed_training(trainer)
    shape, device = read_shape(base.ref, base.home), detect_hardware().device
    done = base.at_once(tokens) * base.tokens
    alone = settings.model_copy(update={"gradient_accumulation_steps": 1})
    formula = estimate_memory(shape, alone, LargestBatch(done, done // 2), device, step_dtype_name(trainer))
    repeated = int(trainer.args.activation_checkpointing)
    passes = 4 + 2 * repeated + (2 if settings.method == "full" else 0)
    flops = done * (passes * shape.linear_weights + 2 * shape.vocabulary * shape.hidden_size)
    return {
        "tokens": done,
        "checkpointing": bool(repeated),
        "seconds": found["seconds"],
        "tokens_per_second_at_full_depth": done / (found["seconds"] * base.depth),
        "teraflops": flops / found["seconds"] / 1e12,
        "peak_gib": found["peak_gib"],
        "formula_gib": formula.expected - formula.process,
        "is_finite": found["is_finite"],
        "notice": trainer.notice,
    }


def step_dtype_name(trainer: Any) -> str:
    return "bfloat16" if trainer.args.bf16 else "float16" if trainer.args.fp16 else "float32"


def timed_training(trainer: Any) -> dict[str, Any]:
    """Train, and return the seconds of the fastest step after the first, the GPU's peak memory, and the losses."""
    seconds, losses, step = [], [], trainer.training_step

    def timed(*args: Any, **kwargs: Any) -> Any:
        synchronise()
        start = time.perf_counter()
        loss = step(*args, **kwargs)
        synchronise()
        seconds.append(time.perf_counter() - start)
        losses.append(float(loss.detach()))
        return loss

    trainer.training_step = timed
    reset_peak()
    trainer.train()
    finite = all(torch.isfinite(torch.tensor(losses)).tolist())
    return {"seconds": min(seconds[1:]), "peak_gib": peak_gib(), "losses": losses, "is_finite": finite}


def measure_trl(base: Base, tokens: int | None) -> dict[str, Any]:
    """Time TRL's own QLoRA step: with its defaults, or packed to the same number of tokens."""
    from trl import SFTConfig, SFTTrainer

    model = base.load(base.settings(method="qlora"))
    at_once = 8 if tokens is None else base.at_once(tokens)
    rows = conversations(at_once * STEPS, model.config.get_text_config().vocab_size, base.tokens)
    hardware = detect_hardware()
    arguments = SFTConfig(
        output_dir=str(base.home / "trl"),
        use_cpu=hardware.device == "cpu",
        bf16=hardware.dtype == "bfloat16",
        max_steps=STEPS,
        per_device_train_batch_size=at_once,
        padding_free=tokens is not None,
        max_length=None if tokens is not None else 1024,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    train = Dataset.from_list([row.as_training_row() for row in rows])
    trainer = SFTTrainer(
        model, args=arguments, train_dataset=train, processing_class=load_tokenizer(base.ref, base.home)
    )
    found = timed_training(trainer)
    done = at_once * base.tokens
    return {"tokens": done, "seconds": found["seconds"], "tokens_per_second": done / found["seconds"]} | {
        "peak_gib": found["peak_gib"]
    }


def synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def reset_peak() -> None:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak_gib() -> float:
    """Return the peak of the GPU's memory since `reset_peak`; 0 on a CPU."""
    return torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else 0.0
