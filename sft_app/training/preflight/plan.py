"""Estimate what a run will take before it starts: steps, tokens, memory, disk space and time.

`training/preflight/measuring` measures memory and time instead.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sft_app.data.checkup.lengths import TokenLengths
from sft_app.data.split import judging_size
from sft_app.models.catalog import ModelRef, resolve_model
from sft_app.models.hardware import Hardware, detect_hardware
from sft_app.models.shapes import ModelShape, read_shape
from sft_app.runtime.resources import free_disk_gib
from sft_app.settings import RunSettings, replay_obstacle, with_recipe, without_replay_of_text
from sft_app.training.estimates.disk import disk_needed_gib
from sft_app.training.estimates.memory import MemoryParts, checkpointed_layers, estimate_memory
from sft_app.training.estimates.speed import (
    MachineSpeed,
    seconds_for,
    tokens_per_step,
)
from sft_app.training.estimates.step_size import choose_step_size, largest_batch
from sft_app.training.estimates.workload import DryRunResult, Workload, plan_workload
from sft_app.training.preflight.machine_speed import machine_speed


@dataclass(frozen=True)
class Preflight:
    """What a run will take. `tokens_per_step` is the mean without padding; disk and memory are in GiB.

    `experts` says whether those of a mixture are trained, and is empty for other models. A step computes `batch` rows
    at once, `accumulation` times; every `checkpoint_every`-th layer is recomputed, none if it is 0.

    Of the `heldout` conversations, `judging` judge the result and the others choose the weights; it is None if a file
    judges. `memory_gib` and `seconds` come from the dry run if there is a `measured`, else from the estimate.
    """

    data: str
    model: str
    device: str
    parameters: int
    trainable: int
    conversations: int
    heldout: int
    judging: int | None
    max_length: int
    steps: int
    passes: float
    learning_rate: float
    rows_per_step: int
    row_length: int | None
    tokens_per_step: float
    memory: MemoryParts
    memory_free_gib: float
    disk_needed_gib: float
    disk_free_gib: float
    seconds: float
    measured: DryRunResult | None = None
    experts: str = ""
    ran_out_of_memory: bool = False
    """Whether a dry run ran out of memory: the run needs more than is free, whatever the estimate says."""
    batch: int = 1
    accumulation: int = 1
    checkpoint_every: int = 0
    replayed: int = 0
    """How many general conversations a pass has on top of one's own."""
    why_not_replayed: str = ""

    @property
    def memory_gib(self) -> float:
        """Return the memory the run needs, with the margin; at least what is free if a dry run ran out of memory."""
        if self.ran_out_of_memory:
            return max(self.memory.total, self.memory_free_gib)
        return self.memory.total if self.measured is None else self.measured.peak_gib + self.memory.margin

    @property
    def row_name(self) -> str:
        return "conversations" if self.row_length is None else f"rows of {self.row_length:,} tokens"

    @property
    def fits_memory(self) -> bool:
        return not self.ran_out_of_memory and self.memory_gib <= self.memory_free_gib

    @property
    def fits_disk(self) -> bool:
        return self.disk_needed_gib <= self.disk_free_gib

    def as_json(self) -> dict[str, Any]:
        """Return the values that `train --dry-run --json` prints."""
        own = asdict(self) | {"memory": asdict(self.memory) | {"total": self.memory.total}}
        share = self.trainable / self.parameters
        fits = {"memory_gib": self.memory_gib, "fits_memory": self.fits_memory, "fits_disk": self.fits_disk}
        return own | {"trainable_share": share, **fits}


def check_plan(
    settings: RunSettings,
    work: Workload,
    shape: ModelShape,
    hardware: Hardware,
    speed: MachineSpeed,
    disk_gib: tuple[float, float],
    measured: DryRunResult | None = None,
) -> Preflight:
    """Build the preflight of these settings. `disk_gib` is what the run needs and what is free."""
    asked = settings.model_copy(update={"format": "text"}) if work.is_text else settings
    settings = _completed(settings, work, shape, hardware, speed)
    dtype = settings.step_dtype(hardware.dtype, hardware.device)
    batch, steps = largest_batch(settings, work, hardware.device), count_steps(settings, work)
    return Preflight(
        data=settings.data,
        model=settings.model,
        device=hardware.device,
        parameters=shape.parameters,
        trainable=shape.trainable(settings),
        conversations=work.conversations,
        heldout=work.heldout,
        judging=judging_size(work.heldout, settings),
        max_length=work.max_length,
        steps=steps,
        passes=_passes(settings, work),
        learning_rate=settings.resolved_learning_rate(),
        rows_per_step=settings.rows_per_step(),
        row_length=settings.row_length(work.max_length),
        tokens_per_step=tokens_per_step(settings, work),
        memory=estimate_memory(shape, settings, batch, hardware.device, dtype),
        memory_free_gib=hardware.memory_free_gib,
        disk_needed_gib=disk_gib[0],
        disk_free_gib=disk_gib[1],
        seconds=seconds_for(settings, work, shape, speed, steps, measured),
        measured=measured,
        experts=shape.experts(settings),
        batch=settings.per_device_train_batch_size,
        accumulation=settings.batches_per_step(),
        checkpoint_every=checkpointed_layers(settings, hardware.device),
        replayed=work.replayed,
        why_not_replayed=replay_obstacle(asked) if asked.replay else "",
    )


def _completed(
    settings: RunSettings, work: Workload, shape: ModelShape, hardware: Hardware, speed: MachineSpeed
) -> RunSettings:
    """Return the settings with what the run will choose for this data, model and machine."""
    settings = without_replay_of_text(settings, work.is_text)
    chosen = with_recipe(settings, work.conversations, shape.hidden_size, shape.model_type)
    return choose_step_size(chosen, work, shape, hardware, speed)


def _passes(settings: RunSettings, work: Workload) -> float:
    """Return how often the run sees each conversation."""
    if settings.max_steps < 0:
        return settings.passes()
    return settings.max_steps / _steps_per_pass(settings, work)


def count_steps(settings: RunSettings, work: Workload) -> int:
    """Return the number of optimizer steps as transformers counts them; the last one of an epoch may be smaller."""
    if settings.max_steps > 0:
        return settings.max_steps
    return max(1, math.ceil(settings.passes() * _steps_per_pass(settings, work)))


def _steps_per_pass(settings: RunSettings, work: Workload) -> int:
    filled = settings.row_length(work.max_length)
    conversations = work.conversations + work.replayed
    rows = conversations if filled is None else math.ceil(conversations * work.row_tokens / filled)
    batches = math.ceil(rows / (settings.per_device_train_batch_size * settings.num_processes))
    return max(1, math.ceil(batches / settings.batches_per_step()))


@dataclass(frozen=True)
class Machine:
    """Looks up disk space, models and hardware for preflights, and asks the Hub only once per model."""

    home: Path
    _models: dict[tuple[str, str | None], ModelRef] = field(default_factory=dict)
    _shapes: dict[ModelRef, ModelShape] = field(default_factory=dict)

    def preflight(
        self, settings: RunSettings, lengths: TokenLengths, data_bytes: int, measured: DryRunResult | None = None
    ) -> Preflight:
        """Return the preflight of a run. Imports torch. Raises: AppError if the model or data cannot be used."""
        ref, hardware = self.model(settings), detect_hardware()
        disk = disk_needed_gib(settings, ref.folder(self.home), data_bytes), self._disk_free_gib()
        work, speed = plan_workload(lengths, settings), machine_speed(hardware, settings)
        return check_plan(settings, work, self.shape(ref), hardware, speed, disk, measured)

    def with_step_size(self, settings: RunSettings, lengths: TokenLengths) -> RunSettings:
        """Return the settings with the step that suits this machine now. The run chooses again, in the same way.

        Raises: AppError if the model or data cannot be used.
        """
        hardware = detect_hardware()
        work, speed = plan_workload(lengths, settings), machine_speed(hardware, settings)
        return _completed(settings, work, self.shape(self.model(settings)), hardware, speed)

    def model(self, settings: RunSettings) -> ModelRef:
        """Find the base model in the settings. Raises: AppError if it is unknown."""
        name = settings.model, settings.revision
        if name not in self._models:
            self._models[name] = resolve_model(*name, self.home)
        return self._models[name]

    def shape(self, ref: ModelRef) -> ModelShape:
        if ref not in self._shapes:
            self._shapes[ref] = read_shape(ref, self.home)
        return self._shapes[ref]

    def _disk_free_gib(self) -> float:
        self.home.mkdir(parents=True, exist_ok=True)
        return free_disk_gib(self.home)
