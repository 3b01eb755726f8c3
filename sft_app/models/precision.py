"""Choose the precision a CPU trains in, from its features and one measurement that is cached per machine.

The choice must not depend on what else the machine is doing, or two identical runs would differ from the first step.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from sft_app.runtime.files import read_json, write_json_atomically
from sft_app.runtime.home import app_home, speedups_file

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CPU_INFO = Path("/proc/cpuinfo")
# Processor features as the Linux kernel and torch spell them; Arm has its own.
BFLOAT16_UNITS = {"amx_bf16": "AMX", "avx512_bf16": "AVX-512 bfloat16", "bf16": "Arm bfloat16"}
MATRIX_SIZE = 256
ROUNDS = 40
MIN_SPEEDUP = 1.3
"""Required speedup of bfloat16. Units make it 2 to 8 times as fast, so noise does not reach the threshold."""


def cpu_dtype() -> tuple[str, str]:
    """Return (dtype, reason): `bfloat16` if the processor has units for it that are fast enough, otherwise `float32`.

    Without such units bfloat16 is emulated, and a hundred times slower on some processors. Imports torch.
    """
    unit = bfloat16_unit()
    if unit is None:
        return "float32", "the processor reports no bfloat16 units"
    speedup = _cached_speedup()
    dtype = "bfloat16" if speedup >= MIN_SPEEDUP else "float32"
    return dtype, f"{unit}; bfloat16 measured {speedup:.1f} times as fast as float32, once for this machine"


def bfloat16_unit() -> str | None:
    """Return the name of the processor's unit for bfloat16 matrix products, or None. Imports torch.

    Source: `flags` (x86) and `Features` (Arm) in /proc/cpuinfo; `torch.cpu.get_capabilities` elsewhere.
    """
    import torch

    try:
        lines = CPU_INFO.read_text().splitlines()
        features = {word for line in lines if line.startswith(("flags", "Features")) for word in line.split()}
    except OSError:
        capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
        features = {name for name, there in capabilities.items() if there}
    return next((unit for feature, unit in BFLOAT16_UNITS.items() if feature in features), None)


def overflows(model: PreTrainedModel, ids: Sequence[int]) -> bool:
    """Return whether the model's logits for these tokens are not finite, which its own precision may be too narrow for.

    Models trained in bfloat16 may compute numbers beyond float16's largest one, 65,504; Gemma 3 does.
    """
    import torch

    with torch.no_grad():
        logits = model(input_ids=torch.tensor([list(ids)], device=model.device), use_cache=False).logits
    return not bool(torch.isfinite(logits).all())


def measure_speedup() -> float:
    """Measure how many times faster a bfloat16 matrix product is than a float32 one, as a ratio of best times.

    The rounds alternate. Other work can only slow a product down, so the best time is what the processor can do.
    """
    import torch

    size = MATRIX_SIZE
    operands = {dtype: torch.ones(size, size, dtype=dtype) for dtype in (torch.float32, torch.bfloat16)}
    best = dict.fromkeys(operands, float("inf"))
    for _ in range(ROUNDS):
        for dtype, matrix in operands.items():
            start = time.perf_counter()
            matrix @ matrix
            best[dtype] = min(best[dtype], time.perf_counter() - start)
    return best[torch.float32] / best[torch.bfloat16]


def _cached_speedup() -> float:
    """Return the speedup cached in the home's `machine.json`, measuring and saving it the first time."""
    machine = _machine()
    return measured_once([machine], lambda: {machine: measure_speedup()})[machine]


def measured_once(names: Sequence[str], measure: Callable[[], dict[str, float]]) -> dict[str, float]:
    """Return the numbers of these names cached in the home's `machine.json`, measuring and saving them the first time.

    A name includes what its number depends on, because the file is that of every machine that used this home.
    """
    file = speedups_file(app_home())
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{file}.lock"):
            return _read_or_measure(file, names, measure)
    except OSError:  # a home that cannot be written to
        return measure()


def _read_or_measure(file: Path, names: Sequence[str], measure: Callable[[], dict[str, float]]) -> dict[str, float]:
    kept = read_json(file, dict[str, float]) or {}
    if not set(names) <= kept.keys():
        kept |= measure()
        write_json_atomically(file, kept)
    return {name: kept[name] for name in names}


def _machine() -> str:
    """Return a key for what the measurement depends on: the processor, torch's version, and limits on its kernels."""
    import torch

    limits = [os.environ.get(name, "") for name in ("ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY")]
    return " | ".join([cpu_name(), f"torch {torch.__version__}", *filter(None, limits)])


def cpu_name() -> str:
    """Return the processor's own name for itself."""
    try:
        lines = CPU_INFO.read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
