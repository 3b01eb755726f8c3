"""Measure what a run takes with a dry run: a few optimizer steps on the largest batch, in its own process.

Run as `python -m sft_app.training.preflight.dry_run RUN_DIR PARENT_PID`; the training data in that folder are the
conversations of the batch, and the base model scores the held-out ones first. It uses the worker's trainer without
evaluation and checkpoints.
"""

from __future__ import annotations

import itertools
import logging
import os
import shutil
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import torch
import transformers
from datasets import Dataset
from transformers import TrainerCallback

from sft_app.errors import AppError
from sft_app.evaluation.power import loss_spread
from sft_app.evaluation.scorecard import score_conversations
from sft_app.models.catalog import recorded_model
from sft_app.models.loading import load_tokenizer
from sft_app.runs.folder import Run
from sft_app.runtime.children import end_with_parent
from sft_app.runtime.files import write_json_atomically
from sft_app.runtime.resources import CUDA_CONTEXT_GIB, is_out_of_memory, peak_resident_gib, reset_peak_resident
from sft_app.settings import RunSettings
from sft_app.training.auto_settings import resolve_max_length
from sft_app.training.estimates.workload import MEASURED_FILE
from sft_app.training.termination import OUT_OF_MEMORY_EXIT
from sft_app.training.tokenized_dataset import load_tokenized_dataset, tokenize_file
from sft_app.training.trainable import load_trainable
from sft_app.training.trainers.arguments import TrainingJob
from sft_app.training.trainers.build import build_trainer

STEPS = 2
# The first step is not timed, because libraries choose kernels and the optimizer creates its moments in it.
WARM_UP = 1
MAX_ACCUMULATION = 2


class StepClock(TrainerCallback):
    """Writes the current step into the run folder and records when each step ended."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.times = [time.monotonic()]

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.run.update_status(state="training", message="Measuring.", total_steps=state.max_steps)
        self.times = [time.monotonic()]

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.times.append(time.monotonic())
        self.run.update_status(step=state.global_step)

    def seconds_per_step(self) -> float:
        """Return the seconds of the fastest step, because other work on the machine only makes steps slower."""
        spent = [after - before for before, after in itertools.pairwise(self.times)]
        return min(spent[WARM_UP:])


def main(run_dir: str, parent: str) -> int:
    """Measure the run and write `measured.json` into its folder; if that fails, the run's status says why.

    Returns `OUT_OF_MEMORY_EXIT` if the memory ran out, otherwise 0. Ends with its parent, which reads the result.
    """
    run = Run(Path(run_dir))
    end_with_parent(int(parent), lambda: shutil.rmtree(run.path, ignore_errors=True))
    logging.disable(logging.WARNING)
    try:
        write_json_atomically(run.path / MEASURED_FILE, measure(run, run.record().settings))
        run.update_status(state="finished", message="")
    except AppError as error:
        run.update_status(state="failed", message=str(error))
    except Exception as error:  # last chance to tell the user; the traceback goes to the log
        traceback.print_exc()
        if is_out_of_memory(error):
            return OUT_OF_MEMORY_EXIT
        run.update_status(state="failed", message=f"It could not be measured: {type(error).__name__}: {error}")
    return 0


def measure(run: Run, settings: RunSettings) -> dict[str, float | None]:
    """Train a few steps and return the values of a `DryRunResult`.

    `peak_gib` is the memory of the whole process, or of the GPU if there is one.
    """
    run.update_status(state="preparing", pid=os.getpid(), message="Loading the model.")
    transformers.set_seed(settings.seed)
    tokenizer = load_tokenizer(recorded_model(run), run.home, settings.chat_template, settings.enable_thinking)
    settings = settings.model_copy(update={"max_length": resolve_max_length(run, tokenizer)})
    accumulation = min(settings.batches_per_step(), MAX_ACCUMULATION)
    batches = accumulation * (STEPS + WARM_UP)
    short = settings.model_copy(update={"max_steps": STEPS + WARM_UP, "gradient_accumulation_steps": accumulation})
    rows = load_tokenized_dataset(run, tokenizer, settings.max_length or 0, settings.block_size)
    heldout = list(tokenize_file(run.heldout_file, tokenizer, settings.max_length or 0))
    clock, model = StepClock(run), load_trainable(run, short, rows[0]["input_ids"])
    spread = loss_spread(score_conversations(model, heldout))  # before training: a new adapter changes nothing
    trainer = _trainer(
        TrainingJob(model, tokenizer, _repeated(rows, batches), heldout, short, run.checkpoints_dir, [clock])
    )
    forget_peak_of_gpu()
    reset_peak_resident()  # reading the model's file counts too, although that memory can be reclaimed
    trainer.train()
    per_step = settings.batches_per_step()
    return {
        "peak_gib": peak_gib(),
        "seconds_per_step": clock.seconds_per_step() * per_step / accumulation,
        "tokens_per_step": trainer.tokens_seen / batches * per_step,
        "trained_per_step": sum(label >= 0 for labels in rows["labels"] for label in labels) * per_step,
        "loss_spread": spread,
    }


def _trainer(job: TrainingJob) -> Any:
    trainer = build_trainer(job)
    trainer.args.eval_on_start = False
    trainer.args.eval_strategy = trainer.args.save_strategy = transformers.IntervalStrategy("no")
    trainer.args.load_best_model_at_end = False
    return trainer


def _repeated(rows: Dataset, batches: int) -> Dataset:
    """Repeat the rows so that every batch contains all of them, whatever the order."""
    return rows.select(list(range(len(rows))) * batches)


def forget_peak_of_gpu() -> None:
    """Free what scoring has cached on a GPU, so that only training counts."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak_gib() -> float:
    """Return the peak memory of training: the GPU's if it has its own, else the process's."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_reserved() / 2**30 + CUDA_CONTEXT_GIB
    on_apple_gpu: int = torch.mps.driver_allocated_memory() if torch.backends.mps.is_available() else 0
    return peak_resident_gib() + on_apple_gpu / 2**30


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
