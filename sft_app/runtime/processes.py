"""Which process is meant (a pid alone may have been given to another since), which one has a folder to itself, how long
ago something was whatever was done to the clock, and how much memory this process took."""

from __future__ import annotations

import os
import re
import sys
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

import psutil

try:
    import fcntl
except ImportError:  # not a Unix; nothing is locked there
    fcntl = None  # type: ignore[assignment]

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
# A start as earlier versions wrote it: seconds since the epoch, which move when the clock is set.
EpochSeconds = float
Started = str | EpochSeconds


def process_started(pid: int) -> Started:
    """When a living process began: the boot of the machine, and the clock ticks from there, which no change of the
    clock moves. Where the system does not tell them, seconds since the epoch, as it noted them then.

    Raises: psutil.NoSuchProcess.
    """
    return _ticks_since_boot(pid) or psutil.Process(pid).create_time()


def process_is_alive(pid: int | None, started: Started | None) -> bool:
    """Whether that very process still runs."""
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


def take_lock(file: Path, seconds: float = 2.0) -> int | None:
    """The lock's file descriptor; None when another process still has it after so many seconds.

    It is held until the descriptor is closed in this process and in those that inherited it, however they end; so a
    child that was started with it has the lock from its first moment on, and when its parent has been killed.
    Source: Linux, flock(2). Raises: OSError, when the file cannot be opened.
    """
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    until = time.monotonic() + seconds
    while not _flock(descriptor, shared=False):
        if time.monotonic() > until:
            os.close(descriptor)
            return None
        time.sleep(0.02)  # who only looks has it for a moment
    return descriptor


def inherited_lock(file: Path, descriptor: int) -> int | None:
    """The descriptor, if it is this file's; this process hands it on to none of its own."""
    try:
        if not os.path.samestat(os.fstat(descriptor), file.stat()):
            return None
    except OSError:
        return None
    os.set_inheritable(descriptor, False)
    return descriptor


def is_locked(file: Path) -> bool:
    """Whether a process has the lock now."""
    try:
        descriptor = os.open(file, os.O_RDWR)
    except OSError:
        return False
    try:
        return not _flock(descriptor, shared=True)
    finally:
        os.close(descriptor)


def _flock(descriptor: int, shared: bool) -> bool:
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def moment() -> str | None:
    """Now, for `seconds_since` in any process until the machine is started again; None where that cannot be known."""
    return f"{boot_id()}/{time.monotonic()}" if boot_id() else None


def seconds_since(earlier: str | None) -> float | None:
    """What has passed since a `moment`, whatever was done to the clock; None for one before the machine started."""
    boot, _, seconds = (earlier or "").partition("/")
    if not boot or boot != boot_id():
        return None
    try:
        return max(0.0, time.monotonic() - float(seconds))
    except ValueError:  # not a moment at all
        return None


@cache
def boot_id() -> str:
    """Another one each time the machine starts; empty where the system has none. Source: Linux, random(4)."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""


def _ticks_since_boot(pid: int) -> str | None:
    """Source: Linux, proc_pid_stat(5), field 22; the name of the program before it may hold anything."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    return f"{boot_id()}/{int(stat.rpartition(b')')[2].split()[19])}" if boot_id() else None


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
