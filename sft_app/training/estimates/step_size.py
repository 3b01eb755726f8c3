"""Choose how a step is computed on a GPU: how many conversations at once, and which layers are recomputed.

A step's conversations, and so its gradient, stay the same. Few large batches use a GPU better than many small ones, and
recomputing activations (checkpointing) costs up to a third of the time, so the fastest step that fits is chosen.
"""

from __future__ import annotations

from collections.abc import Iterator
from operator import itemgetter

from sft_app.models.hardware import Hardware
from sft_app.models.shapes import ModelShape
from sft_app.settings import RunSettings
from sft_app.training.estimates.memory import LargestBatch, estimate_memory
from sft_app.training.estimates.speed import MachineSpeed, computed_per_step, shared_prefix_tokens, step_seconds
from sft_app.training.estimates.workload import Workload

# The share of the free memory that a step may fill; the rest is for what the estimate does not know.
USABLE_SHARE = 0.9
# A step that is slower than the fastest one by no more than this is preferred if it takes less memory.
SLOWER = 1.02
# Recompute every layer, every second, third or fourth, or none.
CHECKPOINTED: tuple[int, ...] = (1, 2, 3, 4, 0)


def choose_step_size(
    settings: RunSettings, work: Workload, shape: ModelShape, hardware: Hardware, speed: MachineSpeed
) -> RunSettings:
    """Return the settings with the automatic ones chosen: batches, and which layers are recomputed.

    If nothing fits, it is the step that takes least memory. Nothing changes on a CPU, where large batches gain nothing,
    or with FSDP, which needs less memory than the estimate.
    """
    if hardware.device != "cuda" or settings.fsdp:
        return settings
    room = USABLE_SHARE * hardware.memory_free_gib
    dtype = settings.step_dtype(hardware.dtype, "cuda")

    def gib(choice: RunSettings) -> float:
        return estimate_memory(shape, choice, largest_batch(choice, work, "cuda"), "cuda", dtype).total

    def seconds(choice: RunSettings) -> float:
        return step_seconds(choice, shape, speed, *computed_per_step(choice, work, "cuda"))

    choices = [(gib(choice), choice) for choice in _choices(settings)]
    fitting = [(needed, seconds(choice), choice) for needed, choice in choices if needed <= room]
    if not fitting:
        return min(choices, key=itemgetter(0))[1]
    fastest = min(duration for _, duration, _ in fitting)
    return min((one for one in fitting if one[1] <= SLOWER * fastest), key=itemgetter(0))[2]


def _choices(settings: RunSettings) -> Iterator[RunSettings]:
    """Yield the settings of every step that the automatic settings allow."""
    for batch in _batches(settings):
        for every in _checkpointed(settings):
            yield settings.model_copy(
                update={
                    "per_device_train_batch_size": batch,
                    "gradient_accumulation_steps": _per_device(settings) // batch,
                    "gradient_checkpointing": every > 0,
                    "checkpoint_every_n_layers": max(1, every),
                }
            )


def _batches(settings: RunSettings) -> list[int]:
    """Return the micro-batches that divide a step's rows on one device evenly."""
    rows = _per_device(settings)
    if not settings.auto_find_batch_size:
        return [settings.per_device_train_batch_size]
    return [batch for batch in range(1, rows + 1) if rows % batch == 0]


def _checkpointed(settings: RunSettings) -> tuple[int, ...]:
    if settings.gradient_checkpointing is None:
        return CHECKPOINTED
    return (settings.checkpoint_every_n_layers,) if settings.gradient_checkpointing else (0,)


def _per_device(settings: RunSettings) -> int:
    return settings.per_device_train_batch_size * settings.batches_per_step()


def largest_batch(settings: RunSettings, work: Workload, device: str) -> LargestBatch:
    """Return the largest micro-batch on one device: the longest conversations together, or completely filled rows."""
    rows = settings.per_device_train_batch_size
    filled = settings.row_length(work.max_length)
    if filled is not None:
        share = 1.0 if settings.trainer == "classic" else work.row_trained / work.row_tokens
        return LargestBatch(rows * filled, round(rows * filled * share))
    together = work.longest(rows)
    shared = (rows - 1) * shared_prefix_tokens(settings, work, device)
    tokens = int(together[0].sum()) - shared if settings.is_packed() else rows * int(together[0][0])
    return LargestBatch(tokens, int(together[1].sum()))
