"""Which process is meant (a pid alone may have been given to another since), and how much memory this one took."""

from __future__ import annotations

import re
import sys
from contextlib import suppress
from pathlib import Path

import psutil


def process_started(pid: int) -> float:
    """When a living process began, in seconds since the epoch. Raises: psutil.NoSuchProcess."""
    return psutil.Process(pid).create_time()


def process_is_alive(pid: int | None, started: float | None) -> bool:
    """Whether that very process still runs."""
    if pid is None or started is None:
        return False
    try:
        process = psutil.Process(pid)
        return abs(process.create_time() - started) < 1.0 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def forget_peak() -> None:
    """Lets `peak_resident_gib` begin anew, where the system can. Source: Linux, proc_pid_clear_refs(5)."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_resident_gib() -> float:
    """The most of the machine's memory that this process has held; since `forget_peak`, if that could be done."""
    try:  # `getrusage` would tell the size of the process that started this one, if that was larger
        found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        found = None
    if found:
        return int(found.group(1)) / 2**20
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
