"""Resolve the settings left on automatic when a run starts, and write them into the run."""

from __future__ import annotations

import heapq
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute
import torch
from datasets import Dataset

from sft_app.data.checkup.inspection import LENGTH_SAMPLE_SIZE
from sft_app.data.checkup.lengths import measure_lengths
from sft_app.data.checkup.sampling import Sample
from sft_app.data.conversation import make_conversation
from sft_app.data.reading import Example
from sft_app.data.tokens import IGNORED
from sft_app.errors import ModelError
from sft_app.models.catalog import recorded_model
from sft_app.models.hardware import Hardware
from sft_app.models.shapes import read_shape
from sft_app.runs.folder import Run
from sft_app.runtime.files import iterate_jsonl, write_json_atomically
from sft_app.runtime.resources import CUDA_CONTEXT_GIB
from sft_app.settings import RunSettings, replayed_conversations
from sft_app.training.distributed import broadcast_from_first_rank, is_first_rank
from sft_app.training.estimates.memory import checkpointed_layers
from sft_app.training.estimates.speed import measure_speed
from sft_app.training.estimates.step_size import choose_step_size
from sft_app.training.estimates.workload import Workload

# The step size depends on the longest conversations.
MEASURED_ROWS = 1000

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
    for row in heapq.merge(*map(iterate_jsonl, run.data_files()), key=lambda row: row["row"]):
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


def resolve_step_size(run: Run, settings: RunSettings, train: Dataset, hardware: Hardware) -> RunSettings:
    """Return the settings with the batches and the recomputed layers that suit this GPU, and write them to the status.

    They are chosen once: a resumed run keeps them, and so does one that started again because memory ran out. All
    ranks use those of the first.
    """
    status = run.status()
    if hardware.device.startswith("cuda") and status.micro_batch is None:
        # This process has its CUDA context already, and the estimate counts it.
        free = hardware.memory_free_gib + CUDA_CONTEXT_GIB
        hardware = replace(hardware, device="cuda", memory_free_gib=free)
        work, shape = _workload(train, settings), read_shape(recorded_model(run), run.home)
        settings = choose_step_size(
            settings, work, shape, hardware, measure_speed("cuda", settings.step_dtype(hardware.dtype, "cuda"))
        )
        batch, every = settings.per_device_train_batch_size, checkpointed_layers(settings, "cuda")
    else:
        batch, every = status.micro_batch or 0, status.checkpoint_every or 0
    batch, every = broadcast_from_first_rank((batch, every))
    if not batch:
        return settings
    run.update_status(micro_batch=batch, checkpoint_every=every)
    rows = settings.per_device_train_batch_size * settings.batches_per_step()
    chosen = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": rows // batch}
    if settings.gradient_checkpointing is None:
        chosen |= {"gradient_checkpointing": every > 0, "checkpoint_every_n_layers": max(1, every)}
    return settings.model_copy(update=chosen)


def _workload(train: Dataset, settings: RunSettings) -> Workload:
    """Return what the tokenized rows are, represented by the longest of them."""
    lengths = np.asarray(pyarrow.compute.list_value_length(train.data.column("input_ids")))
    longest = np.argsort(-lengths, kind="stable")[:MEASURED_ROWS]
    trained = [sum(label != IGNORED for label in labels) for labels in train.select(longest)["labels"]]
    return Workload(
        tokens=lengths[longest],
        trained=np.array(trained),
        conversations=len(train),
        heldout=0,
        max_length=settings.max_length or int(lengths.max()),
        replayed=replayed_conversations(settings, len(train)),
    )
