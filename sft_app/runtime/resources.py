"""Memory and disk space: what is free, what this process takes, and the sentence for what does not fit."""

from __future__ import annotations

import math
import re
import shutil
import sys
from contextlib import suppress
from pathlib import Path

import psutil

# Of the memory that a model's weights take: what it needs to be loaded and to answer. Loading holds a shard or a layer
# twice for a moment, and a conversation has its activations and its cache of keys and values.
LOADED_MODEL_FACTOR = 1.2


def free_memory_gib(device: str) -> float:
    """Memory of the device, `cpu` or `cuda`, that is free now. Imports torch for a GPU."""
    if device == "cpu":
        return min(psutil.virtual_memory().available, _left_to_container()) / 2**30
    import torch

    return torch.cuda.mem_get_info(0)[0] / 2**30


def reset_peak_resident() -> None:
    """Make `peak_resident_gib` start over, where the system allows it. Source: Linux, proc_pid_clear_refs(5)."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_resident_gib() -> float:
    """The most of the machine's memory that this process has held, since `reset_peak_resident` where that works."""
    try:  # `getrusage` would include the parent process, whose memory the child had for a moment
        found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        found = None
    if found:
        return int(found.group(1)) / 2**20
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def free_disk_gib(folder: Path) -> float:
    """Free space on the disk that the folder is on, or will be on once it is created."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    return shutil.disk_usage(existing).free / 2**30


def shortage(what: str, needed_gib: float, free_gib: float, resource: str = "memory") -> str:
    """That `what` does not fit, as a sentence without its period, so that the place or a reason can follow."""
    return f"{what} needs {needed_gib:.1f} GiB of {resource}, but only {free_gib:.1f} GiB is free"


def _left_to_container(limits: Path = Path("/sys/fs/cgroup")) -> float:
    """Bytes that this container may still take; infinite without a limit. Cached files count as used, but are given
    back when needed.

    Source: the kernel's documentation of cgroup v2, memory.max, memory.current and memory.stat.
    """
    try:
        limit = (limits / "memory.max").read_text().strip()
        used = int((limits / "memory.current").read_text())
        stat = dict(line.split() for line in (limits / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return math.inf
    return math.inf if limit == "max" else int(limit) - used + int(stat.get("inactive_file", 0))
