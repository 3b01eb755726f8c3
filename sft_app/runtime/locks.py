"""Lock files. Child processes inherit the locks, which end with the last process that has them."""

from __future__ import annotations

import os
import time
from pathlib import Path

try:
    import fcntl
except ImportError:  # not a Unix system; nothing is locked there
    fcntl = None  # type: ignore[assignment]

RETRY_SECONDS = 0.02


def take_lock(file: Path, seconds: float = 2.0) -> int | None:
    """Lock the file and return the lock's file descriptor; None if another process still has it after `seconds`.

    The lock lasts until the descriptor is closed in this process and all that inherited it, however they end. So a
    child that inherits it has the lock from the start, even if its parent is killed.
    Source: Linux, flock(2). Raises: OSError if the file cannot be opened.
    """
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    until = time.monotonic() + seconds
    while not _flock(descriptor, shared=False):
        if time.monotonic() > until:
            os.close(descriptor)
            return None
        time.sleep(RETRY_SECONDS)  # `is_locked` in another process takes it for a moment
    return descriptor


def inherited_lock(file: Path, descriptor: int) -> int | None:
    """Return the descriptor if it belongs to this file, else None; children of this process will not inherit it."""
    try:
        if not os.path.samestat(os.fstat(descriptor), file.stat()):
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
