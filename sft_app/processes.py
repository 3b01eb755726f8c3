"""Which process is meant: a pid alone may have been given to another since."""

from __future__ import annotations

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
