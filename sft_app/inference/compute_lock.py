"""Let one computation of this process run at a time, and leave a core to a run that trains beside it."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from types import TracebackType

import torch

from sft_app.inference.device import active_run


class ComputeLock:
    """A lock that is held while a model computes, because that changes which adapters are active and how strongly.

    While a run of another process is active on this processor, half of the threads are used. The threads of a process
    wait for each other by spinning, so two processes with a thread for each core take eight to nine times as long, not
    twice (docs/LOG.md).
    """

    def __init__(self, home: Path, device: str) -> None:
        self._home, self._device = home, device
        self._lock = threading.Lock()
        self._threads = 0

    def __enter__(self) -> None:
        self._lock.acquire()
        try:
            self._threads = torch.get_num_threads()
            if self._device == "cpu" and self._is_beside_a_run():
                torch.set_num_threads(max(1, self._threads // 2))
        except BaseException:
            self._lock.release()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)
        self._lock.release()

    def locked(self) -> bool:
        """Return whether a computation is running."""
        return self._lock.locked()

    def _is_beside_a_run(self) -> bool:
        run = active_run(self._home) if not torch.cuda.is_available() else None
        return run is not None and run.status().pid != os.getpid()
