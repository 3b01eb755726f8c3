"""Describe this machine for `doctor` and for bug reports."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

from sft_app.models.apple_gpu import apple_gpu_problem
from sft_app.models.gpu_support import gpu_problem
from sft_app.models.hardware import detect_hardware
from sft_app.models.starter import starter_is_ready
from sft_app.runtime.environment import package_versions
from sft_app.runtime.resources import free_disk_gib


def diagnose(home: Path) -> dict[str, Any]:
    """Return facts about the machine, ready to print. Memory and disk are in GiB."""
    hardware, problem = detect_hardware(), gpu_problem() or apple_gpu_problem()
    home.mkdir(parents=True, exist_ok=True)
    return {
        "device": hardware.device,
        "name": hardware.name,
        "cores": hardware.cores,
        **({"gpu_problem": problem} if problem else {}),
        "dtype": hardware.dtype,
        "dtype_reason": hardware.reason,
        "memory_gib": round(hardware.memory_gib, 1),
        "memory_free_gib": round(hardware.memory_free_gib, 1),
        "disk_free_gib": round(free_disk_gib(home), 1),
        "home": str(home),
        "starter_ready": starter_is_ready(home),
        "python": platform.python_version(),
        **package_versions(),
    }
