"""What this machine can do, found out by looking rather than by a table of names."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from sft_app.models.precision import cpu_dtype, cpu_name
from sft_app.runtime.resources import free_memory_gib
from sft_app.settings import Method, RunSettings, TrainerKind, parse_settings

GPU_NOTES = Path("/proc/driver/nvidia/gpus")


@dataclass(frozen=True)
class Hardware:
    """`device` is `cuda` or `cpu`; `dtype` a torch dtype's name; memory in GiB."""

    device: str
    name: str
    dtype: str
    reason: str
    memory_gib: float
    memory_free_gib: float
    cores: int


def detect_hardware() -> Hardware:
    """Imports torch."""
    import torch

    return _cuda_hardware() if torch.cuda.is_available() else _cpu_hardware()


def has_nvidia_gpu() -> bool:
    """A guess without importing torch, good enough to choose a form's default."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "unset").strip() in ("", "-1")
    return not hidden and (Path("/dev/nvidia0").exists() or shutil.which("nvidia-smi") is not None)


def describe_machine() -> str:
    """In words and without importing torch, e.g. `2 cores, AMD EPYC, 8 GiB of memory`, after the GPUs if there are any.

    Source for the names of the GPUs: the files that NVIDIA's kernel driver keeps.
    """
    gpus = [name for file in sorted(GPU_NOTES.glob("*/information")) for name in _noted_model(file)]
    cores = psutil.cpu_count(logical=False) or os.cpu_count() or 1
    memory = f"{psutil.virtual_memory().total / 2**30:.0f} GiB of memory"
    named = [f"{gpus.count(name)} × {name}" for name in dict.fromkeys(gpus)] if has_nvidia_gpu() else []
    return ", ".join([*named, f"{cores} cores", cpu_name(), memory])


def _noted_model(file: Path) -> list[str]:
    try:
        lines = file.read_text(errors="replace").splitlines()
    except OSError:
        return []
    return [line.partition(":")[2].strip() for line in lines if line.startswith("Model:")]


def default_method(trainer: TrainerKind = "sft") -> Method:
    """The classic way trains every weight. Else an adapter: 4-bit saves the memory that a GPU is short of; on a CPU it
    only costs time."""
    if trainer == "classic":
        return "full"
    return "qlora" if has_nvidia_gpu() else "lora"


def complete_settings(chosen: Mapping[str, Any]) -> RunSettings:
    """The settings of a new run, from what a person chose; page, command line, config file and API all ask here.

    What is not chosen comes from the preset; the method from the trainer and this machine. Raises: SettingsError.
    """
    return parse_settings({"method": default_method(chosen.get("trainer", "sft")), **chosen})


def _cuda_hardware() -> Hardware:
    import torch

    properties = torch.cuda.get_device_properties(0)
    # `torch.cuda.is_bf16_supported()` also says yes where bfloat16 is only emulated.
    has_bfloat16 = (properties.major, properties.minor) >= (8, 0)
    return Hardware(
        device="cuda",
        name=properties.name,
        dtype="bfloat16" if has_bfloat16 else "float16",
        reason=f"compute capability {properties.major}.{properties.minor}",
        memory_gib=properties.total_memory / 2**30,
        memory_free_gib=free_memory_gib("cuda"),
        cores=os.cpu_count() or 1,
    )


def _cpu_hardware() -> Hardware:
    dtype, reason = cpu_dtype()
    return Hardware(
        device="cpu",
        name=cpu_name(),
        dtype=dtype,
        reason=reason,
        memory_gib=psutil.virtual_memory().total / 2**30,
        memory_free_gib=free_memory_gib("cpu"),
        cores=psutil.cpu_count(logical=False) or os.cpu_count() or 1,
    )
