"""Describe this machine for `doctor` and for bug reports."""

from __future__ import annotations

import platform
import shutil
from pathlib import Path
from typing import Any

from sft_app.models.hardware import detect_hardware
from sft_app.models.starter import starter_is_ready
from sft_app.runtime.environment import package_versions


def diagnose(home: Path) -> dict[str, Any]:
    """Return facts about the machine, ready to print. Memory and disk are in GiB."""
    hardware = detect_hardware()
    home.mkdir(parents=True, exist_ok=True)
    return {
        "device": hardware.device,
        "name": hardware.name,
        "cores": hardware.cores,
        "dtype": hardware.dtype,
        "dtype_reason": hardware.reason,
        "memory_gib": round(hardware.memory_gib, 1),
        "memory_free_gib": round(hardware.memory_free_gib, 1),
        "disk_free_gib": round(shutil.disk_usage(home).free / 2**30, 1),
        "home": str(home),
        "starter_ready": starter_is_ready(home),
        "python": platform.python_version(),
        **package_versions(),
    }
