"""Which device answers, when a run may be training on it at the same time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from sft_app.errors import ModelError
from sft_app.inference.sides import Side
from sft_app.models.hardware import Hardware, detect_hardware
from sft_app.models.shapes import read_shape
from sft_app.runs.directory import list_runs
from sft_app.runtime.resources import LOADED_MODEL_FACTOR, free_memory_gib, shortage

# Of a number held in 4 bits, with its share of the scales.
FOUR_BIT_BYTES = 0.55


def choose_device(side: Side, home: Path, models: int = 1) -> tuple[Hardware, str]:
    """The GPU, or where it has no room for the side's base the CPU, with what there is to say of that; `dtype` of the
    hardware is what the comparison computes in. `models` of the base's size are to be in memory.

    Raises: ModelError when there is no room anywhere, with what the memory is needed for.
    """
    hardware = detect_hardware()
    if hardware.device == "cpu":
        return _on_cpu(side, home, hardware, models)
    dtype = comparison_dtype(hardware, side.dtype)
    needed = _needed_gib(side, home, dtype)
    if needed <= hardware.memory_free_gib:
        return replace(hardware, dtype=dtype), ""
    why = shortage("the model", needed, hardware.memory_free_gib, "the GPU's memory")
    why += f", because {work}" if (work := work_at_hand(home)) else ""
    free = free_memory_gib("cpu")
    if _needed_gib(side, home, "float32") > free:
        raise ModelError(
            f"There is no room for the model: {why}. Wait until there is, or stop what is using the memory."
        )
    on_cpu = replace(hardware, device="cpu", dtype="float32", memory_free_gib=free)
    return on_cpu, f"answered on the CPU because {why}"


def comparison_dtype(hardware: Hardware, asked: str = "auto") -> str:
    """What sides that are compared compute in, where there is room for it: a CPU in float32, a GPU as training does."""
    if hardware.device == "cpu":
        return "float32"
    return hardware.dtype if asked == "auto" else asked


def _on_cpu(side: Side, home: Path, hardware: Hardware, models: int) -> tuple[Hardware, str]:
    """In float32, where two rows give the tokens that each gives alone; in a narrower precision, which training may
    use, they often do not. That is only taken where float32 has no room, and told.

    Raises: ModelError when there is no room for it either.
    """
    free, dtype, exact = free_memory_gib("cpu"), _asked_dtype(side, hardware), comparison_dtype(hardware)
    exactly = _needed_gib(side, home, exact)
    if models * exactly <= free:
        return replace(hardware, dtype=exact), ""
    needed = _needed_gib(side, home, dtype)
    if needed > free:
        raise ModelError(f"{shortage(side.base.name, needed, free)}. Choose a smaller model.")
    if dtype == exact:
        return replace(hardware, dtype=dtype), ""
    return replace(hardware, dtype=dtype), f"computed in {dtype} because {shortage(exact, models * exactly, free)}"


def _asked_dtype(side: Side, hardware: Hardware) -> str:
    return hardware.dtype if side.dtype == "auto" else side.dtype


def slowed_down_by(home: Path) -> str:
    """What to say while a run is training on the same machine; empty when none is."""
    work = work_at_hand(home)
    return f"{work} on this machine, so this takes longer" if work else ""


def work_at_hand(home: Path) -> str:
    """Which run is training now; empty when none is."""
    for run in list_runs(home):
        if not run.status().is_settled():
            return f"run {run.id} is {run.status().state}"
    return ""


def _needed_gib(side: Side, home: Path, dtype: str) -> float:
    """To load the side's base and answer with it."""
    import torch

    each = FOUR_BIT_BYTES if side.in_4bit else getattr(torch, dtype).itemsize
    return LOADED_MODEL_FACTOR * read_shape(side.base, home).parameters * each / 2**30
