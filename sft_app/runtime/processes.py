"""Recognise a recorded process, and measure elapsed time even if the clock is changed.

A pid alone does not identify a process, because the system reuses it once the process has ended.
"""

from __future__ import annotations

import time
from functools import cache
from pathlib import Path

import psutil

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
# Earlier versions wrote the start as seconds since the epoch, which shift when the clock is set.
EpochSeconds = float
Started = str | EpochSeconds


def process_started(pid: int) -> Started:
    """Return when a running process started: the machine's boot id and the clock ticks since boot.

    Changing the clock affects neither. If the system does not report them, it is seconds since the epoch.

    Raises: psutil.NoSuchProcess.
    """
    return _ticks_since_boot(pid) or psutil.Process(pid).create_time()


def process_is_alive(pid: int | None, started: Started | None) -> bool:
    """Return whether the process with this pid and start is still running."""
    if pid is None or started is None:
        return False
    try:
        if isinstance(started, str):
            is_same = _ticks_since_boot(pid) == started
        else:
            is_same = abs(psutil.Process(pid).create_time() - started) < 1.0
        return is_same and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def moment() -> str | None:
    """Return the present, for `seconds_since` in any process until the machine restarts; None without a boot id."""
    return f"{boot_id()}/{time.monotonic()}" if boot_id() else None


def seconds_since(earlier: str | None) -> float | None:
    """Return the seconds since a `moment`, whatever happened to the clock; None if the machine has restarted."""
    boot, _, seconds = (earlier or "").partition("/")
    if not boot or boot != boot_id():
        return None
    try:
        return max(0.0, time.monotonic() - float(seconds))
    except ValueError:  # not a moment at all
        return None


@cache
def boot_id() -> str:
    """Return an id that changes each time the machine starts; "" if there is none. Source: Linux, random(4)."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""


def _ticks_since_boot(pid: int) -> str | None:
    """Return the start in clock ticks. The program's name, which precedes it, may contain spaces and parentheses.

    Source: Linux, proc_pid_stat(5), field 22.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    return f"{boot_id()}/{int(stat.rpartition(b')')[2].split()[19])}" if boot_id() else None
