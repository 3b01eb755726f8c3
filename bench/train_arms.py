"""Measure one arm of `bench.train` in a separate process, with the same model, data, adapter and steps as the others.

`ours` is the app's own trainer as a run uses it. The others follow the libraries' front pages: only model, data,
adapter, learning rate and steps are set, and whatever they need to start on this machine.
"""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

from bench.machine import peak_memory_gib
from sft_app.data.tokens import RenderedConversation
from sft_app.evaluation.scorecard import mean_loss, score_conversations
from sft_app.models.hardware import detect_hardware
from sft_app.models.lora_targets import attach_lora
from sft_app.runtime.files import read_jsonl
from sft_app.settings import RunSettings, parse_settings

ARMS = ("ours", "trl", "trl+bf16", "trl+bf16+packing", "hf")


@dataclass(frozen=True)
class Spec:
    """What all arms share. `dtype` is the precision that is fast on this machine; `trl` alone keeps TRL's float32."""

    model_dir: str
    data_dir: str
    examples_per_step: int
    steps: int
    max_length: int
    method: str
    dtype: str
    seed: int = 42
    learning_rate: float = 2e-4


class StepClock(TrainerCallback):
    """Records seconds, tokens without padding, and losses of the optimizer steps, without evaluation and saving."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.tokens: list[int] = []
        self.losses: list[float] = []
        self.first_step_done = 0.0

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.tokens.append(0)
        self.began = _now()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.seconds.append(_now() - self.began)
        if not self.first_step_done:
            self.first_step_done = time.time() - psutil.Process().create_time()

    def count(self, trainer: Any) -> None:
        """Count the tokens in each batch of this trainer, however the batch was made."""
        step = trainer.training_step

        def counted(model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
            mask = inputs.get("attention_mask")
            self.tokens[-1] += int(mask.sum()) if mask is not None else inputs["input_ids"].numel()
            return step(model, inputs, *args, **kwargs)

        trainer.training_step = counted

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        self.losses += [logs["loss"]] if logs and "loss" in logs else []


def measure_arm(arm: str, spec: Spec) -> dict[str, Any]:
    """Train one arm and return its measurements; all arms' `loss_before` and `loss_after` use the same evaluator."""
    train, heldout = (load_rows(Path(spec.data_dir) / name) for name in ("train.jsonl", "heldout.jsonl"))
    tokenizer = AutoTokenizer.from_pretrained(spec.model_dir)
    model = load_model("float32" if arm == "trl" else spec.dtype, spec)
    before = mean_loss(score_conversations(model, heldout))
    clock = StepClock()
    with tempfile.TemporaryDirectory() as folder:
        build = build_ours if arm == "ours" else build_library
        trainer = build(arm, spec, model, tokenizer, train, clock, folder)
        clock.count(trainer)
        trainer.train()
    peak = peak_memory_gib()
    return {
        "arm": arm,
        "seconds": clock.seconds,
        "tokens": clock.tokens,
        "losses": clock.losses,
        "first_step_done": clock.first_step_done,
        "peak_gib": peak,
        "loss_before": before,
        "loss_after": mean_loss(score_conversations(trainer.model, heldout)),
    }


def settings_of(spec: Spec) -> RunSettings:
    values = {
        name: value for name, value in asdict(spec).items() if name in ("dtype", "method", "learning_rate", "seed")
    }
    batch = min(4, spec.examples_per_step)
    shape = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": spec.examples_per_step // batch}
    schedule = {"max_steps": spec.steps, "eval_steps": float(spec.steps + 1), "warmup_ratio": 0.0}
    kept = {
        "max_length": spec.max_length,
        "load_best_model_at_end": False,
        "lr_scheduler_type": "constant",
        "replay": 0,
    }
    return parse_settings({**values, **shape, **schedule, **kept})


def load_model(dtype: str, spec: Spec) -> Any:
    """Load the base with a seeded adapter."""
    quantization = _four_bit(dtype, is_ours=dtype == spec.dtype) if spec.method == "qlora" else None
    model = AutoModelForCausalLM.from_pretrained(
        spec.model_dir,
        dtype=getattr(torch, dtype),
        device_map={"": detect_hardware().device},
        quantization_config=quantization,
    )
    torch.manual_seed(spec.seed)
    return attach_lora(model, settings_of(spec))


def build_ours(arm: str, spec: Spec, model: Any, tokenizer: Any, train: list[Any], clock: Any, folder: str) -> Any:
    from sft_app.training.trainers.arguments import TrainingJob
    from sft_app.training.trainers.sft import build_sft_trainer

    rows = Dataset.from_list([row.as_training_row() for row in train])
    job = TrainingJob(model, tokenizer, rows, train[:1], settings_of(spec), Path(folder), [clock], is_resumed=True)
    return build_sft_trainer(job)


def build_library(arm: str, spec: Spec, model: Any, tokenizer: Any, train: list[Any], clock: Any, folder: str) -> Any:
    """Build the trainer of `trl…` and `hf`. Two rows of a padded batch replace the app's four packed conversations."""
    from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments
    from trl import SFTConfig, SFTTrainer

    has_gpu = torch.cuda.is_available()
    batch = min(8, spec.examples_per_step)
    common = {
        "output_dir": folder,
        "use_cpu": not has_gpu,
        "bf16": spec.dtype == "bfloat16" and (arm != "trl" or has_gpu),
        "max_steps": spec.steps,
        "learning_rate": spec.learning_rate,
        "lr_scheduler_type": "constant",
        "per_device_train_batch_size": batch,
        "gradient_accumulation_steps": spec.examples_per_step // batch,
        "save_strategy": "no",
        "logging_steps": 1,
        "report_to": "none",
        "disable_tqdm": True,
        "seed": spec.seed,
    }
    rows = Dataset.from_list([row.as_training_row() for row in train])
    if arm == "hf":
        collator = DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=-100)
        arguments = TrainingArguments(**common)
        return Trainer(model, arguments, collator, rows, processing_class=tokenizer, callbacks=[clock])
    if arm.endswith("packing"):
        filled = sum(len(row.input_ids) for row in train) / spec.max_length / spec.steps
        common |= {"packing": True, "per_device_train_batch_size": 1, "gradient_accumulation_steps": round(filled) or 1}
    arguments = SFTConfig(**common, max_length=spec.max_length)
    return SFTTrainer(model, args=arguments, train_dataset=rows, processing_class=tokenizer, callbacks=[clock])


def gradient_cosine(spec: Spec) -> float:
    """Return the cosine of the adapter's gradients over four conversations between the app's packed step and the
    library's own loss of each conversation alone."""
    train = load_rows(Path(spec.data_dir) / "train.jsonl")[:4]
    tokenizer = AutoTokenizer.from_pretrained(spec.model_dir)
    model = load_model(spec.dtype, spec)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.02)
    trained = sum(row.trained for row in train)
    model.train()
    for row in train:
        ids, labels = (
            torch.tensor([row.as_training_row()[key]], device=model.device) for key in ("input_ids", "labels")
        )
        with torch.autocast(model.device.type, torch.bfloat16, enabled=spec.dtype == "bfloat16"):
            loss = model(input_ids=ids, labels=labels, use_cache=False).loss
        (loss * row.trained / trained).backward()
    alone = _adapter_gradients(model)
    model.zero_grad()
    with tempfile.TemporaryDirectory() as folder:
        trainer = build_ours("ours", spec, model, tokenizer, train, StepClock(), folder)
        batch = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
        trainer.training_step(trainer.model, batch, num_items_in_batch=torch.tensor(trained))
    return torch.cosine_similarity(alone, _adapter_gradients(model), dim=0).item()


def load_rows(path: Path) -> list[RenderedConversation]:
    return [RenderedConversation(row["input_ids"], row["labels"], len(row["input_ids"])) for row in read_jsonl(path)]


def _adapter_gradients(model: Any) -> torch.Tensor:
    return torch.cat([p.grad.double().flatten().cpu() for p in model.parameters() if p.grad is not None])


def _four_bit(dtype: str, is_ours: bool) -> Any:
    """Return the 4-bit config. TRL's command line uses NF4 without double quantisation, in the model's precision."""
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=is_ours,
        bnb_4bit_compute_dtype=getattr(torch, dtype),
    )


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
