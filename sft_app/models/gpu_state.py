"""Describe the GPU that torch would use, without taking memory on it in this process.

Asking torch for a GPU's memory creates a CUDA context, which keeps hundreds of MiB until the process ends. So this asks
the driver's `nvidia-smi` where its answer is certain to be about the same GPU, and elsewhere a short child process.
Run as `python -m sft_app.models.gpu_state` in that child.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from sft_app.runtime.children import ask_program, ask_python

QUERY = ("--query-gpu=name,compute_cap,memory.total,memory.free,mig.mode.current", "--format=csv,noheader,nounits")
QUERY_SECONDS, CHILD_SECONDS = 10.0, 120.0


@dataclass(frozen=True)
class GpuState:
    """Describes a GPU and its memory now. `capability` is the compute capability."""

    name: str
    capability: tuple[int, int]
    memory_gib: float
    memory_free_gib: float


def read_gpu_state() -> GpuState | None:
    """Describe the first GPU that torch would use, without CUDA in this process; None if neither way answers."""
    return _ask_driver() or _ask_child()


def gpu_state_from_torch() -> GpuState:
    """Describe this process's GPU, the first one unless chosen, with torch, which creates a CUDA context on it."""
    import torch

    device = torch.cuda.current_device()
    properties = torch.cuda.get_device_properties(device)
    free, total = torch.cuda.mem_get_info(device)
    return GpuState(properties.name, (properties.major, properties.minor), total / 2**30, free / 2**30)


def choose_line(lines: list[str], environment: Mapping[str, str]) -> str | None:
    """Return `nvidia-smi`'s line about CUDA's first GPU; None if that cannot be known.

    CUDA orders the GPUs by speed unless told otherwise, the driver by their place on the bus. A part of a GPU (MIG) has
    less memory than its line says.
    """
    visible = environment.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0].strip()
    is_ordered = len(lines) == 1 or environment.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"
    if not visible.isdigit() or int(visible) >= len(lines) or not is_ordered:
        return None
    return lines[int(visible)]


def parse_state(line: str) -> GpuState | None:
    """Parse a line of `nvidia-smi` with the fields of `QUERY`, memory in MiB; None if one is not known or MIG is on."""
    parts = [part.strip() for part in line.rsplit(",", 4)]
    try:
        name, capability, total, free, mig = parts
        major, minor = (int(digits) for digits in capability.split("."))
        return None if mig == "Enabled" else GpuState(name, (major, minor), float(total) / 1024, float(free) / 1024)
    except ValueError:
        return None


def _ask_driver() -> GpuState | None:
    program = shutil.which("nvidia-smi")
    answer = ask_program([program, *QUERY], QUERY_SECONDS) if program else None
    if answer is None or answer[0] != 0:
        return None
    line = choose_line(answer[1].strip().splitlines(), os.environ)
    return parse_state(line) if line else None


def _ask_child() -> GpuState | None:
    answer = ask_python(["-m", "sft_app.models.gpu_state"], CHILD_SECONDS)
    try:
        values = json.loads(answer[1].strip().splitlines()[-1]) if answer and answer[0] == 0 else None
        return GpuState(**{**values, "capability": tuple(values["capability"])}) if values else None
    except (ValueError, IndexError, TypeError, KeyError):
        return None


if __name__ == "__main__":
    print(json.dumps(asdict(gpu_state_from_torch())))  # noqa: T201 - the answer to the parent process
