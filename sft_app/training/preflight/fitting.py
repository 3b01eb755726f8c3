"""Which change of the settings makes a run fit into memory, the one that costs least first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sft_app.data.checkup.lengths import QUICKLY_MEASURED, measure_lengths
from sft_app.data.checkup.sampling import Sample
from sft_app.data.reading import Example, Reading, no_conversation, open_data
from sft_app.data.rows import Progress
from sft_app.models.hardware import has_nvidia_gpu
from sft_app.models.loading import load_tokenizer
from sft_app.settings import RunSettings
from sft_app.training.preflight.measuring import measure_run
from sft_app.training.preflight.plan import Machine, Preflight

SHORTEST = 128


@dataclass(frozen=True)
class Suggestion:
    """Settings to change, why in a sentence, and what a run takes with them."""

    changes: dict[str, Any]
    sentence: str
    preflight: Preflight


def look_ahead(
    settings: RunSettings, home: Path, with_measuring: bool, on_progress: Progress | None = None
) -> tuple[Preflight, Suggestion | None]:
    """Reads the data once and says what the run will take; measured on a GPU, elsewhere where it is asked for.

    Raises:
        AppError: the data or the model cannot be used, or the dry run could not be done.
    """
    machine, file = Machine(home), open_data(settings.reading(), home)
    reading, sample = Reading(file), Sample[Example](QUICKLY_MEASURED)
    for example in reading:
        sample.offer(example)
    if not sample.offered:
        raise no_conversation(file, reading.rejected)
    lengths = measure_lengths(load_tokenizer(machine.model(settings), home), sample.items, None, sample.offered)
    is_measured = with_measuring or has_nvidia_gpu()
    measured = measure_run(settings, sample.items, lengths, home, on_progress) if is_measured else None
    size = file.path.stat().st_size
    found = machine.preflight(settings, lengths, size, measured)
    return found, suggest_fit(settings, found, lambda changed: machine.preflight(changed, lengths, size))


def suggest_fit(settings: RunSettings, now: Preflight, plan: Callable[[RunSettings], Preflight]) -> Suggestion | None:
    """None when it fits as it is, or nothing helps.

    Tried in this order: fewer conversations at once (each step learns from as many all the same), activations computed
    twice, shorter conversations, a 4-bit base, the starter. What a dry run found to be more than the formula says is
    taken to be so for the changed settings as well.
    """
    if now.fits_memory:
        return None
    beyond = now.memory_gib / now.memory.total
    for changes in _ladder(settings, now.max_length):
        changed = plan(settings.model_copy(update=changes))
        if beyond * changed.memory.total <= changed.memory_free_gib:
            return Suggestion(changes, _sentence(settings, changes), changed)
    return None


def _ladder(settings: RunSettings, max_length: int) -> Iterator[dict[str, Any]]:
    """Each rung keeps those below it; on each, the largest batch comes first."""
    rungs: list[dict[str, Any]] = [{}]
    if settings.gradient_checkpointing is not True:
        rungs.append({"gradient_checkpointing": True})
    while (max_length := max_length // 2) >= SHORTEST:
        rungs.append({**rungs[-1], "max_length": max_length})
    if settings.method != "qlora" and not settings.fsdp:
        rungs.append({**rungs[-1], "method": "qlora"})
    if settings.model != "starter":
        rungs.append({"model": "starter", "revision": None})
    for rung in rungs:
        for smaller in _smaller_batches(settings):
            if rung or smaller:
                yield {**smaller, **rung}


def _smaller_batches(settings: RunSettings) -> Iterator[dict[str, Any]]:
    """The same number of conversations a step, in more and smaller parts; the first is as it is."""
    batch, together = settings.per_device_train_batch_size, settings.gradient_accumulation_steps
    yield {}
    for smaller in range(batch - 1, 0, -1):
        if (batch * together) % smaller == 0:
            yield {
                "per_device_train_batch_size": smaller,
                "gradient_accumulation_steps": batch * together // smaller,
            }


def _sentence(settings: RunSettings, changes: dict[str, Any]) -> str:
    told = []
    if "model" in changes:
        told.append("use the starter model")
    if "method" in changes:
        told.append("use a 4-bit base model (QLoRA)")
    if "max_length" in changes:
        told.append(f"cut conversations off at {changes['max_length']:,} tokens")
    if "gradient_checkpointing" in changes:
        told.append("recompute activations (gradient_checkpointing)")
    if "per_device_train_batch_size" in changes:
        batch, together = changes["per_device_train_batch_size"], changes["gradient_accumulation_steps"]
        told.append(f"use batches of {batch} and accumulate {together} (each step still learns from the same number)")
    return f"To make it fit: {'; '.join(told)}."
