"""Choose the device that generates answers, even while a run is training on the GPU."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

from sft_app.errors import ModelError, RunError
from sft_app.inference.sides import Side
from sft_app.models.hardware import Hardware, cpu_hardware, detect_hardware
from sft_app.models.shapes import read_shape
from sft_app.runs.directory import list_runs
from sft_app.runs.folder import Run
from sft_app.runtime.resources import CUDA_CONTEXT_GIB, LOADED_MODEL_FACTOR, free_memory_gib, shortage

# Bytes per weight in 4 bits, with its share of the scales.
FOUR_BIT_BYTES = 0.55
# How much more memory a run may take than it has so far, if no preflight has estimated it.
RUN_GROWTH = 1.5


def choose_device(side: Side, home: Path, models: int = 1) -> tuple[Hardware, str]:
    """Choose the GPU, or the CPU if the base does not fit, and return it with a note about the choice.

    `dtype` of the returned hardware is the comparison's; memory is needed for `models` models of the base's size. On a
    GPU, `memory_free_gib` is what may be used: what an active run will still need is left to it.

    Raises: ModelError if no device has enough memory.
    """
    hardware = detect_hardware()
    if hardware.device == "mps" and side.in_4bit:
        on_cpu, note = _on_cpu(side, home, cpu_hardware(), models)
        return on_cpu, " and ".join(filter(None, ["answered on the CPU because the base is loaded in 4 bits", note]))
    if hardware.device == "cpu":
        return _on_cpu(side, home, hardware, models)
    run, dtype = active_run(home), comparison_dtype(hardware, side.dtype)
    usable = _usable_gib(hardware.memory_free_gib, run)
    needed = models * _needed_gib(side, home, dtype)
    if needed <= usable:
        return replace(hardware, dtype=dtype, memory_free_gib=usable), ""
    why = shortage("the model", needed, usable, "the GPU's memory")
    why += f", because {active_run_note(home)}" if run else ""
    try:
        on_cpu, note = _on_cpu(side, home, cpu_hardware(), models)
    except ModelError:
        raise ModelError(f"The model does not fit in memory: {why}. Wait, or stop whatever is using it.") from None
    return on_cpu, " and ".join(filter(None, [f"answered on the CPU because {why}", note]))


def usable_memory_gib(device: str, home: Path) -> float:
    """Return the free memory of the device, without what an active run will still need of a GPU."""
    free = free_memory_gib(device)
    return free if device == "cpu" else _usable_gib(free, active_run(home))


def _usable_gib(free_gib: float, run: Run | None) -> float:
    import torch

    context = 0.0 if torch.cuda.is_initialized() else CUDA_CONTEXT_GIB
    return max(0.0, free_gib - context - (memory_still_needed_gib(run) if run else 0.0))


def memory_still_needed_gib(run: Run) -> float:
    """Return how much more GPU memory a run may take than it holds now; infinite if that is not known.

    What it will need is its preflight's estimate or measurement, which its folder records. Without one, it is what
    training has needed so far and half as much again. While it trains, it keeps what it has once taken.
    """
    try:
        needed = run.record().memory_gib
    except RunError:
        return math.inf
    measured = [row.memory_gib for row in run.metrics() if row.memory_gib is not None and row.memory_gib > 0]
    peak = max(measured, default=0.0)
    held = peak if run.status().state == "training" else 0.0
    if needed is None:
        needed = RUN_GROWTH * peak if peak else math.inf
    return max(0.0, needed - held)


def limit_gpu_memory(hardware: Hardware, home: Path) -> None:
    """Keep this process from taking more of the GPU than `choose_device` has found usable, while a run is active.

    Beyond the limit, a request in this process fails, not the run. Without a run there is no limit.
    """
    import torch

    if hardware.device != "cuda":
        return
    own = torch.cuda.memory_reserved() / 2**30
    share = (own + hardware.memory_free_gib) / hardware.memory_gib if active_run(home) else 1.0
    torch.cuda.set_per_process_memory_fraction(min(1.0, share))


def comparison_dtype(hardware: Hardware, requested: str = "auto") -> str:
    """Return the dtype for comparisons if memory allows: the training dtype on an NVIDIA GPU, else float32."""
    if hardware.device != "cuda":
        return "float32"
    return hardware.dtype if requested == "auto" else requested


def _on_cpu(side: Side, home: Path, hardware: Hardware, models: int) -> tuple[Hardware, str]:
    """Choose a CPU's dtype: float32 if it fits, otherwise the run's.

    In float32, two rows of a batch give the same tokens as each alone; in narrower dtypes they often do not.

    Raises: ModelError if there is not enough memory for either.
    """
    free, dtype, exact = free_memory_gib("cpu"), _requested_dtype(side, hardware), comparison_dtype(hardware)
    exactly = models * _needed_gib(side, home, exact)
    if exactly <= free:
        return replace(hardware, dtype=exact), ""
    needed = models * _needed_gib(side, home, dtype)
    if needed > free:
        raise ModelError(f"{shortage(side.base.name, needed, free)}. Choose a smaller model.")
    return replace(hardware, dtype=dtype), f"computed in {dtype} because {shortage(exact, exactly, free)}"


def _requested_dtype(side: Side, hardware: Hardware) -> str:
    return hardware.dtype if side.dtype == "auto" else side.dtype


def slowdown_note(home: Path) -> str:
    """Return a note that a run is training on this machine, or an empty string."""
    work = active_run_note(home)
    return f"{work} on this machine, so this takes longer" if work else ""


def active_run(home: Path) -> Run | None:
    """Return the run that is active now, or None."""
    return next((run for run in list_runs(home) if not run.status().is_settled()), None)


def active_run_note(home: Path) -> str:
    """Return which run is active now and its state, or an empty string."""
    run = active_run(home)
    return f"run {run.id} is {run.status().state}" if run else ""


def _needed_gib(side: Side, home: Path, dtype: str) -> float:
    """Return the memory needed to load the side's base and generate with it. In 4 bits are only its linear layers."""
    import torch

    each: int = getattr(torch, dtype).itemsize
    shape = read_shape(side.base, home)
    in_4bit = shape.linear_weights if side.in_4bit else 0
    weights = in_4bit * FOUR_BIT_BYTES + (shape.parameters - in_4bit) * each
    return LOADED_MODEL_FACTOR * weights / 2**30
