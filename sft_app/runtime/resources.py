"""Measure memory and disk space, and describe a shortage."""

from __future__ import annotations

import importlib
import math
import re
import shutil
import sys
from contextlib import suppress
from pathlib import Path

import psutil

# The memory needed to load a model and generate, relative to its weights. Loading briefly holds a shard or layer
# twice, and a conversation needs activations and a key-value cache.
LOADED_MODEL_FACTOR = 1.2
# What torch takes of a GPU before the first tensor: a CUDA context with its kernels.
CUDA_CONTEXT_GIB = 0.5
# What the libraries write when memory runs out without torch's own error: CUDA, HIP, Triton, NCCL and MPS ("out of
# memory"), cuBLAS and cuDNN ("ALLOC_FAILED", and a handle that cannot be created), the driver, and torch on a CPU.
OUT_OF_MEMORY_TEXT = re.compile(
    r"\bout of memory\b|_STATUS_ALLOC_FAILED\b|_STATUS_NOT_INITIALIZED when calling .?cublas\w*Create\b"
    r"|\b(cuda|hip)ErrorMemoryAllocation\b|_ERROR_OUT_OF_MEMORY\b"
    r"|DefaultCPUAllocator: (can't allocate|not enough) memory",
    re.IGNORECASE,
)
NOT_ENOUGH_MEMORY = "There is not enough memory for this. Stop whatever else is using it, or choose a smaller model."
# bitsandbytes writes this line and exits with status 1, without an exception. Source: its csrc/ops.cuh.
BITSANDBYTES_OUT_OF_MEMORY = re.compile(r"^Error out of memory at line \d+ in file ", re.MULTILINE)


def free_memory_gib(device: str) -> float:
    """Return the free memory of the device. Imports torch for `cuda`; the GPU of `mps` uses the machine's memory."""
    if device in ("cpu", "mps"):
        return min(psutil.virtual_memory().available, _left_to_container()) / 2**30
    import torch

    return torch.cuda.mem_get_info(0)[0] / 2**30


def is_out_of_memory(error: BaseException | None) -> bool:
    """Return whether this error, or one that it was raised from, means that memory has run out."""
    while error is not None:
        if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
            return True
        if isinstance(error, RuntimeError) and OUT_OF_MEMORY_TEXT.search(str(error)):
            return True
        error = error.__cause__
    return False


def reset_peak_resident() -> None:
    """Reset `peak_resident_gib` if the system supports it. Source: Linux, proc_pid_clear_refs(5)."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_resident_gib() -> float:
    """Return this process's peak resident memory, since `reset_peak_resident` if that is supported."""
    try:  # `getrusage` would include the memory briefly shared with the parent process
        match = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        match = None
    if match:
        return int(match.group(1)) / 2**20
    windows_peak: int | None = getattr(psutil.Process().memory_info(), "peak_wset", None)
    if windows_peak is not None:
        return windows_peak / 2**30
    resource = importlib.import_module("resource")
    unit = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30)


def free_disk_gib(folder: Path) -> float:
    """Return the free space on the disk the folder is on, or will be on once it is created."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    return shutil.disk_usage(existing).free / 2**30


def shortage(what: str, needed_gib: float, free_gib: float, resource: str = "memory") -> str:
    """Say that `what` does not fit, without a full stop, so that a location or a reason can follow."""
    return f"{what} needs {needed_gib:.1f} GiB of {resource}, but only {free_gib:.1f} GiB is free"


def _left_to_container(limits: Path = Path("/sys/fs/cgroup")) -> float:
    """Return the bytes this container may still use; infinity without a limit. Cached files count as used, although
    the kernel frees them when needed.

    Source: the kernel's documentation of cgroup v2, memory.max, memory.current and memory.stat.
    """
    try:
        limit = (limits / "memory.max").read_text().strip()
        used = int((limits / "memory.current").read_text())
        stat = dict(line.split() for line in (limits / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return math.inf
    return math.inf if limit == "max" else int(limit) - used + int(stat.get("inactive_file", 0))
