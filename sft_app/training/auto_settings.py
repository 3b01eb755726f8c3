"""Resolve the settings left on automatic when a run starts, and write them into the run."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

import torch

from sft_app.data.checkup.inspection import LENGTH_SAMPLE_SIZE
from sft_app.data.checkup.lengths import measure_lengths
from sft_app.data.checkup.sampling import Sample
from sft_app.data.conversation import make_conversation
from sft_app.data.reading import Example
from sft_app.errors import ModelError
from sft_app.models.hardware import Hardware
from sft_app.runs.folder import Run
from sft_app.runtime.files import iterate_jsonl, write_json_atomically
from sft_app.settings import RunSettings
from sft_app.training.distributed import is_first_rank

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def resolve_max_length(run: Run, tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the run's `max_length`, computing it and writing it to `settings.json` if it is not set.

    It uses the check-up's sample, so that the page predicts the same number.

    Raises:
        DataError: the chat template accepts no conversation.
    """
    record = run.record()
    if record.settings.max_length is not None:
        return record.settings.max_length
    sample: Sample[Example] = Sample(LENGTH_SAMPLE_SIZE)
    for row in heapq.merge(*map(iterate_jsonl, (run.train_file, run.heldout_file)), key=lambda row: row["row"]):
        sample.offer(Example(row["row"], make_conversation(row["messages"])))
    max_length = measure_lengths(tokenizer, sample.items, None, sample.offered).max_length
    record.settings = record.settings.model_copy(update={"max_length": max_length})
    if is_first_rank():
        write_json_atomically(run.settings_file, record.model_dump())
    return max_length


def resolve_precision(run: Run, settings: RunSettings, hardware: Hardware) -> str:
    """Return the name of the torch dtype the base computes in, and write it to the run's status.

    A resumed run keeps its dtype; with another one, its losses would not continue from where they were.

    Raises:
        ModelError: float16 without a GPU.
    """
    began_in = run.status().precision
    dtype = began_in or settings.compute_dtype(hardware.dtype)
    if dtype == "float16" and not torch.cuda.is_available():
        advice = "Resume the run on a machine with a GPU." if began_in else "Set dtype to auto."
        raise ModelError(f"Training in float16 needs a GPU, and this machine has none. {advice}")
    run.update_status(precision=dtype)
    return dtype
