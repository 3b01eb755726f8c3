"""Two optimizer steps on the largest batch, in a throwaway process: what a run will really take.

Run as `python -m sft_app.training.preflight.dry_run RUN_DIR`; the training data of that run are the conversations of
the batch. The trainer is the worker's own; only evaluation, checkpoints and the rest of the data are left out.
"""

from __future__ import annotations

import itertools
import logging
import os
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
from sft_app.models.catalog import recorded_model
from sft_app.models.loading import load_tokenizer
from sft_app.runs.folder import Run
from sft_app.runtime.files import write_json_atomically
from sft_app.runtime.resources import peak_resident_gib, reset_peak_resident
from sft_app.settings import RunSettings
from sft_app.training.open_settings import settle_max_length
from sft_app.training.preflight.workload import MEASURED_FILE
from sft_app.training.token_rows import render_rows, token_rows
from sft_app.training.trainers.arguments import TrainingJob
from sft_app.training.trainers.build import build_trainer
from sft_app.training.worker import load_trainable

STEPS = 2
# The first is not timed: libraries choose their kernels in it, and the optimizer makes its moments.
WARM_UP = 1
MOST_ACCUMULATION = 2


class StepClock(TrainerCallback):
    """Tells the run folder at which step it is, and keeps when each began and ended."""

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
        """Of the fastest, since other work on the machine only ever makes one slower."""
        spent = [after - before for before, after in itertools.pairwise(self.times)]
        return min(spent[WARM_UP:])


def main(run_dir: str) -> int:
    """Writes `measured.json` into the run folder, or says in its status why not."""
    run = Run(Path(run_dir))
    logging.disable(logging.WARNING)
    try:
        write_json_atomically(run.path / MEASURED_FILE, measure(run, run.record().settings))
        run.update_status(state="finished", message="")
    except torch.OutOfMemoryError:
        run.update_status(state="failed", message="The GPU does not have enough memory for it.")
    except AppError as error:
        run.update_status(state="failed", message=str(error))
    except Exception as error:  # the last place that can tell the reader; the traceback goes to the log
        traceback.print_exc()
        run.update_status(state="failed", message=f"It could not be measured: {type(error).__name__}: {error}")
    return 0


def measure(run: Run, settings: RunSettings) -> dict[str, float]:
    """`peak_gib` of the whole process (on a GPU: of its memory), `seconds_per_step`, and the `tokens_per_step` and
    `trained_per_step` it was measured with."""
    run.update_status(state="preparing", pid=os.getpid(), message="Loading the model.")
    transformers.set_seed(settings.seed)
    tokenizer = load_tokenizer(recorded_model(run), run.home)
    settings = settings.model_copy(update={"max_length": settle_max_length(run, tokenizer)})
    accumulation = min(settings.gradient_accumulation_steps, MOST_ACCUMULATION)
    batches = accumulation * (STEPS + WARM_UP)
    short = settings.model_copy(update={"max_steps": STEPS + WARM_UP, "gradient_accumulation_steps": accumulation})
    rows = token_rows(run, tokenizer, settings.max_length or 0, settings.block_size)
    heldout = list(render_rows(run.heldout_file, tokenizer, settings.max_length or 0))
    clock, model = StepClock(run), load_trainable(run, short)
    trainer = _trainer(
        TrainingJob(model, tokenizer, _repeated(rows, batches), heldout, short, run.checkpoints_dir, [clock])
    )
    reset_peak_resident()  # a model's file counts while it is read, and is given back as soon as memory is short
    trainer.train()
    per_step = settings.gradient_accumulation_steps
    return {
        "peak_gib": peak_gib(),
        "seconds_per_step": clock.seconds_per_step() * per_step / accumulation,
        "tokens_per_step": trainer.tokens_seen / batches * per_step,
        "trained_per_step": sum(label >= 0 for labels in rows["labels"] for label in labels) * per_step,
    }


def _trainer(job: TrainingJob) -> Any:
    trainer = build_trainer(job)
    trainer.args.eval_on_start = False
    trainer.args.eval_strategy = trainer.args.save_strategy = transformers.IntervalStrategy("no")
    trainer.args.load_best_model_at_end = False
    return trainer


def _repeated(rows: Dataset, batches: int) -> Dataset:
    """Each batch has all the rows, in whatever order they are drawn."""
    return rows.select(list(range(len(rows))) * batches)


def peak_gib() -> float:
    """The most memory that training took: of the GPU if there is one, else resident."""
    return torch.cuda.max_memory_reserved() / 2**30 if torch.cuda.is_available() else peak_resident_gib()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
