"""Choose the device that generates answers, even while a run is training on the GPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from sft_app.errors import ModelError
from sft_app.inference.sides import Side
from sft_app.models.hardware import Hardware, detect_hardware
from sft_app.models.shapes import read_shape
from sft_app.runs.directory import list_runs
from sft_app.runtime.resources import LOADED_MODEL_FACTOR, free_memory_gib, shortage

# Bytes per weight in 4 bits, with its share of the scales.
FOUR_BIT_BYTES = 0.55


def choose_device(side: Side, home: Path, models: int = 1) -> tuple[Hardware, str]:
    """Choose the GPU, or the CPU if the base does not fit, and return it with a note about the choice.

    `dtype` of the returned hardware is the comparison's; memory is needed for `models` models of the base's size.

    Raises: ModelError if no device has enough memory.
    """
    hardware = detect_hardware()
    if hardware.device == "cpu":
        return _on_cpu(side, home, hardware, models)
    dtype = comparison_dtype(hardware, side.dtype)
    needed = _needed_gib(side, home, dtype)
    if needed <= hardware.memory_free_gib:
        return replace(hardware, dtype=dtype), ""
    why = shortage("the model", needed, hardware.memory_free_gib, "the GPU's memory")
    why += f", because {work}" if (work := active_run_note(home)) else ""
    free = free_memory_gib("cpu")
    if _needed_gib(side, home, "float32") > free:
        raise ModelError(f"The model does not fit in memory: {why}. Wait, or stop whatever is using the memory.")
    on_cpu = replace(hardware, device="cpu", dtype="float32", memory_free_gib=free)
    return on_cpu, f"answered on the CPU because {why}"


def comparison_dtype(hardware: Hardware, requested: str = "auto") -> str:
    """Return the dtype for comparisons if memory allows: float32 on a CPU, the training dtype on a GPU."""
    if hardware.device == "cpu":
        return "float32"
    return hardware.dtype if requested == "auto" else requested


def _on_cpu(side: Side, home: Path, hardware: Hardware, models: int) -> tuple[Hardware, str]:
    """Choose a CPU's dtype: float32 if it fits, otherwise the run's.

    In float32, two rows of a batch give the same tokens as each alone; in narrower dtypes they often do not.

    Raises: ModelError if there is not enough memory for either.
    """
    free, dtype, exact = free_memory_gib("cpu"), _requested_dtype(side, hardware), comparison_dtype(hardware)
    exactly = _needed_gib(side, home, exact)
    if models * exactly <= free:
        return replace(hardware, dtype=exact), ""
    needed = _needed_gib(side, home, dtype)
    if needed > free:
        raise ModelError(f"{shortage(side.base.name, needed, free)}. Choose a smaller model.")
    if dtype == exact:
        return replace(hardware, dtype=dtype), ""
    return replace(hardware, dtype=dtype), f"computed in {dtype} because {shortage(exact, models * exactly, free)}"


def _requested_dtype(side: Side, hardware: Hardware) -> str:
    return hardware.dtype if side.dtype == "auto" else side.dtype


def slowdown_note(home: Path) -> str:
    """Return a note that a run is training on this machine, or an empty string."""
    work = active_run_note(home)
    return f"{work} on this machine, so this takes longer" if work else ""


def active_run_note(home: Path) -> str:
    """Return which run is active now and its state, or an empty string."""
    for run in list_runs(home):
        if not run.status().is_settled():
            return f"run {run.id} is {run.status().state}"
    return ""


def _needed_gib(side: Side, home: Path, dtype: str) -> float:
    """Return the memory needed to load the side's base and generate with it."""
    import torch

    each = FOUR_BIT_BYTES if side.in_4bit else getattr(torch, dtype).itemsize
    return LOADED_MODEL_FACTOR * read_shape(side.base, home).parameters * each / 2**30
