"""Detect what this machine can do by measuring it instead of looking names up in a table."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from sft_app.models.apple_gpu import DEVICE as APPLE_DEVICE
from sft_app.models.apple_gpu import apple_gpu_problem, has_apple_gpu
from sft_app.models.gpu_state import GpuState, gpu_state_from_torch, read_gpu_state
from sft_app.models.gpu_support import has_kernels, has_nvidia_gpu, has_usable_gpu
from sft_app.models.precision import cpu_dtype, cpu_name
from sft_app.runtime.environment import is_zero_gpu
from sft_app.runtime.resources import free_memory_gib
from sft_app.settings import Method, RunSettings, TrainerKind, parse_settings

GPU_INFORMATION = Path("/proc/driver/nvidia/gpus")


@dataclass(frozen=True)
class Hardware:
    """Describes the device that models run on.

    `device` is `cuda`, `mps` or `cpu`, `dtype` the name of a torch dtype; memory is in GiB.
    """

    device: str
    name: str
    dtype: str
    reason: str
    memory_gib: float
    memory_free_gib: float
    cores: int


def detect_hardware() -> Hardware:
    """Detect the GPU, or the CPU if there is none that torch can use. Imports torch.

    Takes no memory on the GPU, unless this process uses it already or no other way answers.
    """
    import torch

    if not torch.cuda.is_available():
        return _apple_hardware() if has_apple_gpu() and not apple_gpu_problem() else cpu_hardware()
    uses_gpu = torch.cuda.is_initialized() or is_zero_gpu(os.environ)  # a child process cannot use a lent GPU
    gpu = (None if uses_gpu else read_gpu_state()) or gpu_state_from_torch()
    # Builds for other vendors' cards name their kernels in another way.
    is_usable = not torch.version.cuda or has_kernels(gpu.capability, torch.cuda.get_arch_list())
    return _cuda_hardware(gpu) if is_usable else cpu_hardware()


def describe_machine() -> str:
    """Describe the machine in words without importing torch, such as `2 cores, AMD EPYC, 8 GiB of memory`.

    GPUs come first. Source of their names: the files of NVIDIA's kernel driver.
    """
    gpus = [name for file in sorted(GPU_INFORMATION.glob("*/information")) for name in _gpu_model(file)]
    cores = psutil.cpu_count(logical=False) or os.cpu_count() or 1
    memory = f"{psutil.virtual_memory().total / 2**30:.0f} GiB of memory"
    named = [f"{gpus.count(name)} × {name}" for name in dict.fromkeys(gpus)] if has_nvidia_gpu() else []
    return ", ".join([*named, f"{cores} cores", cpu_name(), memory])


def _gpu_model(file: Path) -> list[str]:
    try:
        lines = file.read_text(errors="replace").splitlines()
    except OSError:
        return []
    return [line.partition(":")[2].strip() for line in lines if line.startswith("Model:")]


def default_method(trainer: TrainerKind = "sft", model: str = "") -> Method:
    """Return the default method: `full` for the classic trainer, otherwise an adapter.

    QLoRA saves GPU memory. On a CPU 4-bit weights only cost time, and the small starter fits on any GPU without them.
    """
    if trainer == "classic":
        return "full"
    return "qlora" if has_usable_gpu() and model != "starter" else "lora"


def complete_settings(chosen: Mapping[str, Any]) -> RunSettings:
    """Complete the settings of a new run from what the user chose.

    The page, command line, config file and API all use it. Everything else comes from the preset; the method depends on
    the trainer, the model and this machine.

    Raises: SettingsError.
    """
    method = default_method(chosen.get("trainer", "sft"), chosen.get("model", "starter"))
    return parse_settings({"method": method, **chosen})


def _cuda_hardware(gpu: GpuState) -> Hardware:
    # `torch.cuda.is_bf16_supported()` is also true if bfloat16 is only emulated.
    has_bfloat16 = gpu.capability >= (8, 0)
    return Hardware(
        device="cuda",
        name=gpu.name,
        dtype="bfloat16" if has_bfloat16 else "float16",
        reason="compute capability {}.{}".format(*gpu.capability),
        memory_gib=gpu.memory_gib,
        memory_free_gib=gpu.memory_free_gib,
        cores=os.cpu_count() or 1,
    )


def _apple_hardware() -> Hardware:
    import torch

    memory_gib = torch.mps.recommended_max_memory() / 2**30
    return Hardware(
        device=APPLE_DEVICE,
        name="Apple GPU",
        dtype="float32",
        reason="a trial step in float32 agrees with the processor's",
        memory_gib=memory_gib,
        memory_free_gib=min(memory_gib, free_memory_gib(APPLE_DEVICE)),
        cores=os.cpu_count() or 1,
    )


def cpu_hardware() -> Hardware:
    """Describe the CPU. Imports torch."""
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
