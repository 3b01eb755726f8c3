"""The arithmetic that a CPU trains in: what its processor reports, and one measurement that is kept for the machine.

The decision must not depend on what else the machine is doing: two identical runs would differ from their first step.
"""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path
from typing import Any

from filelock import FileLock
from pydantic import TypeAdapter, ValidationError

from sft_app.runtime.files import write_json_atomically
from sft_app.runtime.home import app_home, speedups_file

CPU_INFO = Path("/proc/cpuinfo")
# Names of processor features, as the Linux kernel and torch spell them. Arm has one of its own.
BFLOAT16_UNITS = {"amx_bf16": "AMX", "avx512_bf16": "AVX-512 bfloat16", "bf16": "Arm bfloat16"}
PROBE_SIZE = 256
ROUNDS = 40
WORTHWHILE = 1.3
"""How much faster bfloat16 must be. With units it is 2 to 8 times as fast, so noise does not reach the threshold."""


def cpu_dtype() -> tuple[str, str]:
    """(dtype, reason): `bfloat16` where the processor reports units for it and they are worthwhile, else `float32`.

    Without such units bfloat16 is emulated, and a hundred times slower on some processors. Imports torch.
    """
    unit = bfloat16_unit()
    if unit is None:
        return "float32", "the processor reports no bfloat16 units"
    speedup = _kept_speedup()
    dtype = "bfloat16" if speedup >= WORTHWHILE else "float32"
    return dtype, f"{unit}; bfloat16 measured {speedup:.1f} times as fast as float32, once for this machine"


def bfloat16_unit() -> str | None:
    """The name of the processor's unit for bfloat16 matrix products, or None. Imports torch.

    Source: `flags` (x86) and `Features` (Arm) of /proc/cpuinfo; `torch.cpu.get_capabilities` elsewhere.
    """
    import torch

    try:
        lines = CPU_INFO.read_text().splitlines()
        features = {word for line in lines if line.startswith(("flags", "Features")) for word in line.split()}
    except OSError:
        capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
        features = {name for name, there in capabilities.items() if there}
    return next((unit for feature, unit in BFLOAT16_UNITS.items() if feature in features), None)


def measure_speedup() -> float:
    """How many times as fast a bfloat16 matrix product is as a float32 one: the best of many rounds that alternate.

    Other work only ever makes a product slower, so that the best of each is what the processor can do.
    """
    import torch

    size = PROBE_SIZE
    operands = {dtype: torch.ones(size, size, dtype=dtype) for dtype in (torch.float32, torch.bfloat16)}
    best = dict.fromkeys(operands, float("inf"))
    for _ in range(ROUNDS):
        for dtype, matrix in operands.items():
            start = time.perf_counter()
            matrix @ matrix
            best[dtype] = min(best[dtype], time.perf_counter() - start)
    return best[torch.float32] / best[torch.bfloat16]


def _kept_speedup() -> float:
    """The measurement in `machine.json` of the app's home; made, and kept there, when this machine has none yet."""
    file = speedups_file(app_home())
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{file}.lock"):
            return _read_or_measure(file)
    except OSError:  # a home that cannot be written to
        return measure_speedup()


def _read_or_measure(file: Path) -> float:
    machine, kept = _machine(), _read(file)
    if machine not in kept:
        kept[machine] = measure_speedup()
        write_json_atomically(file, kept)
    return kept[machine]


def _read(file: Path) -> dict[str, float]:
    """The measurements of every machine that this home has been on; none where the file is missing or damaged."""
    try:
        return TypeAdapter(dict[str, float]).validate_json(file.read_bytes())
    except (OSError, ValidationError):
        return {}


def _machine() -> str:
    """What the measurement depends on: the processor, torch's version, and limits that are set for its kernels."""
    import torch

    limits = [os.environ.get(name, "") for name in ("ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY")]
    return " | ".join([cpu_name(), f"torch {torch.__version__}", *filter(None, limits)])


def cpu_name() -> str:
    """As the processor calls itself."""
    try:
        lines = CPU_INFO.read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
