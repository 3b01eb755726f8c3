"""Lock files. On Unix child processes inherit the locks, which end with the last process that has them."""

from __future__ import annotations

import importlib
import os
import time
from pathlib import Path
from types import ModuleType

from sft_app.runtime.operating_system import IS_WINDOWS

RETRY_SECONDS = 0.02
# The system's own module for locks: it exists on this kind of system only.
_system: ModuleType = importlib.import_module("msvcrt" if IS_WINDOWS else "fcntl")


def take_lock(file: Path, seconds: float = 2.0) -> int | None:
    """Lock the file and return the lock's file descriptor; None if another process still has it after `seconds`.

    The lock lasts until the descriptor is closed in this process and all that inherited it, however they end. So a
    child that inherits it has the lock from the start, even if its parent is killed. On Windows nothing is inherited:
    there the lock ends with this process's descriptor, and the child takes its own.
    Source: Linux, flock(2); Windows, _locking. Raises: OSError if the file cannot be opened.
    """
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    until = time.monotonic() + seconds
    while not _try_lock(descriptor, shared=False):
        if time.monotonic() > until:
            os.close(descriptor)
            return None
        time.sleep(RETRY_SECONDS)  # `is_locked` in another process takes it for a moment
    return descriptor


def inherited_lock(file: Path, descriptor: int) -> int | None:
    """Return the descriptor if it belongs to this file, else None; children of this process will not inherit it."""
    try:
        if IS_WINDOWS or not os.path.samestat(os.fstat(descriptor), file.stat()):
            return None
    except OSError:
        return None
    os.set_inheritable(descriptor, False)
    return descriptor


def is_locked(file: Path) -> bool:
    """Return whether a process has the lock now."""
    try:
        descriptor = os.open(file, os.O_RDWR)
    except OSError:
        return False
    try:
        return not _try_lock(descriptor, shared=True)
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int, shared: bool) -> bool:
    """Lock the file, or on Windows its first byte, which has no shared locks; return whether that succeeded."""
    try:
        if _system.__name__ == "msvcrt":
            _system.locking(descriptor, _system.LK_NBLCK, 1)
        else:
            _system.flock(descriptor, (_system.LOCK_SH if shared else _system.LOCK_EX) | _system.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True
