"""What differs between operating systems: signals, detached processes, and files that another process has open.

Decisions take the system as an argument or from `IS_WINDOWS`, so that tests can ask for each. Only Linux was tried.
"""

from __future__ import annotations

import _thread
import os
import signal
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

IS_WINDOWS = os.name == "nt"
# The signal that wakes the main thread; Windows has no signals for the user, and SIGBREAK (Ctrl-Break) does the same.
WAKE_SIGNAL: signal.Signals = getattr(signal, "SIGUSR1", getattr(signal, "SIGBREAK", signal.SIGTERM))
# SIGKILL, which Windows does not name.
KILL_SIGNAL = 9
# Source: Windows, process creation flags, DETACHED_PROCESS and CREATE_NEW_PROCESS_GROUP.
DETACHED_PROCESS, CREATE_NEW_PROCESS_GROUP = 0x8, 0x200
RETRY_SECONDS, RETRIES = 0.02, 50
Result = TypeVar("Result")


def wake_thread(thread: int) -> None:
    """Run the handler of `WAKE_SIGNAL` in this thread, the main one, interrupting a call that blocks if possible."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(thread, WAKE_SIGNAL)
    else:
        _thread.interrupt_main(WAKE_SIGNAL)


def child_options(inherited: Sequence[int], is_detached: bool, is_windows: bool = IS_WINDOWS) -> dict[str, Any]:
    """Return the options of `subprocess.Popen` for a child that survives the terminal its parent runs in.

    Windows cannot pass file descriptors on, so nothing is inherited there.
    """
    if is_windows:
        return {"creationflags": DETACHED_PROCESS | CREATE_NEW_PROCESS_GROUP if is_detached else 0}
    return {"pass_fds": tuple(inherited), "start_new_session": is_detached}


def flush_flags(is_folder: bool, is_windows: bool = IS_WINDOWS) -> int | None:
    """Return the flags to open a file or folder with to flush it to disk; None if the system cannot flush it.

    Windows flushes only files that are open for writing, and no folders.
    """
    if is_windows:
        return None if is_folder else os.O_RDWR
    return os.O_RDONLY


def while_open_elsewhere(action: Callable[[], Result], is_windows: bool = IS_WINDOWS) -> Result:
    """Do something with a file; Windows refuses while another process has it open, which lasts for a moment.

    Raises: OSError, also if it is refused for a second.
    """
    for _ in range(RETRIES if is_windows else 0):
        try:
            return action()
        except PermissionError:
            time.sleep(RETRY_SECONDS)
    return action()
