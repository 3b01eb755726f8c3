"""Suggest changes to the settings: what makes a run fit into memory, the cheapest first, or uses spare memory well."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sft_app.data.checkup.lengths import QUICKLY_MEASURED, measure_lengths
from sft_app.data.checkup.sampling import Sample
from sft_app.data.reading import Example, Reading, no_conversation, open_data
from sft_app.models.gpu_support import has_usable_gpu
from sft_app.models.loading import load_tokenizer
from sft_app.runtime.progress import ProgressCallback
from sft_app.settings import RunSettings
from sft_app.training.preflight.measuring import DryRunOutOfMemory, measure_run
from sft_app.training.preflight.plan import Machine, Preflight

SHORTEST = 128
METHOD_CHANGES = {
    "qlora": "use a 4-bit base model (QLoRA)",
    "lora": "train an adapter instead of all weights (LoRA)",
}


@dataclass(frozen=True)
class Suggestion:
    """Suggested settings, a sentence that explains the changes, and the preflight of the changed run."""

    changes: dict[str, Any]
    sentence: str
    preflight: Preflight


def look_ahead(
    settings: RunSettings, home: Path, with_measuring: bool, on_progress: ProgressCallback | None = None
) -> tuple[Preflight, Suggestion | None]:
    """Read the data once and estimate what the run will take; also measure it on a GPU or with `with_measuring`.

    Raises:
        AppError: the data or the model cannot be used, or the dry run failed.
    """
    machine, file = Machine(home), open_data(settings.reading(), home)
    reading, sample = Reading(file), Sample[Example](QUICKLY_MEASURED)
    for example in reading:
        sample.offer(example)
    if not sample.offered:
        raise no_conversation(file, reading.rejected)
    tokenizer = load_tokenizer(machine.model(settings), home, settings.chat_template, settings.enable_thinking)
    lengths = measure_lengths(tokenizer, sample.items, None, sample.offered)
    measured, ran_out_of_memory = None, False
    if with_measuring or has_usable_gpu():
        sized = machine.with_step_size(settings, lengths)
        try:
            measured = measure_run(sized, sample.items, lengths, home, on_progress)
        except DryRunOutOfMemory:
            ran_out_of_memory = True
    size = file.path.stat().st_size
    preflight = machine.preflight(settings, lengths, size, measured)
    preflight = replace(preflight, ran_out_of_memory=ran_out_of_memory)
    return preflight, suggest_change(settings, preflight, lambda changed: machine.preflight(changed, lengths, size))


def suggest_change(
    settings: RunSettings, now: Preflight, plan: Callable[[RunSettings], Preflight]
) -> Suggestion | None:
    """Suggest the cheapest change that makes a run fit into memory, or 16-bit weights if it fits without 4-bit ones.

    Changes are tried in this order: a smaller micro-batch (with as many conversations per step), gradient
    checkpointing, an adapter instead of all weights, a 4-bit base, shorter conversations, which lose text, and the
    starter. If a dry run needed more memory than estimated, the estimates for the changed settings are scaled by the
    same factor. None if nothing helps or everything is fine.
    """
    underestimate = now.memory_gib / now.memory.total
    if now.fits_memory:
        return _suggest_16_bit(settings, now, plan, max(1.0, underestimate))
    for changes in _changes_to_try(settings, now):
        changed = plan(settings.model_copy(update=changes))
        if underestimate * changed.memory.total <= changed.memory_free_gib:
            return Suggestion(changes, _sentence(settings, changes), changed)
    return None


def _suggest_16_bit(
    settings: RunSettings, now: Preflight, plan: Callable[[RunSettings], Preflight], underestimate: float
) -> Suggestion | None:
    """Suggest LoRA instead of QLoRA on a GPU where it fits, and where the step it leaves room for is no slower."""
    if settings.method != "qlora" or now.device != "cuda":
        return None
    changes = {"method": "lora"}
    found = plan(settings.model_copy(update=changes))
    if underestimate * found.memory.total > found.memory_free_gib or found.seconds > plan(settings).seconds:
        return None
    sentence = (
        f"LoRA on 16-bit weights fits too ({found.memory.total:.1f} of {found.memory_free_gib:.1f} GiB). It is more "
        "exact than QLoRA, and no slower here."
    )
    return Suggestion(changes, sentence, found)


def _changes_to_try(settings: RunSettings, now: Preflight) -> Iterator[dict[str, Any]]:
    """Yield changes to try: those that cost least first, and each on its own before it is combined with others."""
    rungs: list[dict[str, Any]] = [{}]
    if settings.gradient_checkpointing is not True or settings.checkpoint_every_n_layers > 1:
        rungs.append({"gradient_checkpointing": True, "checkpoint_every_n_layers": 1})
    as_chosen = list(rungs)
    if settings.method == "full":
        rungs += [{**rung, "method": "lora"} for rung in as_chosen]
    if settings.method != "qlora" and not settings.fsdp:
        rungs += [{**rung, "method": "qlora"} for rung in as_chosen]
    whole, max_length = list(rungs), now.max_length
    while (max_length := max_length // 2) >= SHORTEST:
        rungs += [{**rung, "max_length": max_length} for rung in whole]
    if settings.model != "starter":
        rungs.append({"model": "starter", "revision": None})
    for rung in rungs:
        for smaller in _smaller_batches(settings, now.rows_per_step // settings.num_processes):
            if rung or smaller:
                yield {**smaller, **rung}


def _smaller_batches(settings: RunSettings, rows: int) -> Iterator[dict[str, Any]]:
    """Yield no change, then ever smaller micro-batches that add up to these `rows` per step of a GPU."""
    yield {}
    for smaller in range(settings.per_device_train_batch_size - 1, 0, -1):
        if rows % smaller == 0:
            yield {"per_device_train_batch_size": smaller, "gradient_accumulation_steps": rows // smaller}


def _sentence(settings: RunSettings, changes: dict[str, Any]) -> str:
    actions = []
    if "model" in changes:
        actions.append("use the starter model")
    if "method" in changes:
        actions.append(METHOD_CHANGES[changes["method"]])
    if "max_length" in changes:
        actions.append(f"cut conversations off at {changes['max_length']:,} tokens")
    if "gradient_checkpointing" in changes:
        actions.append("recompute activations (gradient_checkpointing)")
    if "per_device_train_batch_size" in changes:
        batch, together = changes["per_device_train_batch_size"], changes["gradient_accumulation_steps"]
        covers = "each step still covers the same number of conversations"
        actions.append(f"use batches of {batch} and accumulate {together} ({covers})")
    return f"To make it fit: {'; '.join(actions)}."
