"""Describe the machine of a measurement, measure its matrix products, and save reports."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from sft_app.runtime.resources import peak_resident_gib


def machine() -> dict[str, Any]:
    import psutil

    from sft_app.runtime.environment import package_versions

    memory = psutil.virtual_memory().total / 2**30
    facts = {"cores": psutil.cpu_count(), "memory_gib": round(memory, 1), "versions": package_versions()}
    return {**facts, **accelerator()}


def accelerator() -> dict[str, Any]:
    """Return the accelerator's name and the precision in which it is fast."""
    from sft_app.models.hardware import detect_hardware

    hardware = detect_hardware()
    return {"device": hardware.device, "name": hardware.name, "dtype": hardware.dtype, "why": hardware.reason}


def peak_memory_gib() -> float:
    """Return this process's peak memory: of the GPU if there is one, else of the machine."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    return peak_resident_gib()


def matrix_teraflops(dtype: str, seconds: float = 1.0) -> float:
    """Measure matrix products of the size of a training step, as a ceiling to compare a step with."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    size = 8192 if device == "cuda" else 1024
    left, right = (torch.randn(size, size, dtype=getattr(torch, dtype), device=device) for _ in range(2))
    for _ in range(2):
        left @ right
    done, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds:
        left @ right
        if device == "cuda":
            torch.cuda.synchronize()
        done += 1
    return 2 * size**3 * done / elapsed / 1e12


def save_report(report: dict[str, Any], path: Path | None) -> None:
    """Save the report as JSON if `path` is given."""
    if path:
        path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
