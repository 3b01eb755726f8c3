"""Let one computation of this process run at a time, and leave a core to a run that trains beside it."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from types import TracebackType
from typing import ClassVar

import torch

from sft_app.inference.device import active_run


class ComputeLock:
    """A lock that is held while a model computes, because that changes which adapters are active and how strongly.

    While a run of another process is active on this processor, half of the threads are used. The threads of a process
    wait for each other by spinning, so two processes with a thread for each core take eight to nine times as long, not
    twice (docs/LOG.md).
    """

    most_threads: ClassVar[int] = 0
    """The largest number of threads that this process has had so far."""

    def __init__(self, home: Path, device: str) -> None:
        self._home, self._device = home, device
        self._lock = threading.Lock()
        # A thread may still have half of them from a computation that has moved on.
        ComputeLock.most_threads = max(ComputeLock.most_threads, torch.get_num_threads())
        self._all_threads = self._wanted = ComputeLock.most_threads

    def __enter__(self) -> ComputeLock:
        self._lock.acquire()
        try:
            is_beside = self._device == "cpu" and self._is_beside_a_run()
            self._wanted = max(1, self._all_threads // 2) if is_beside else self._all_threads
            self.use_threads()
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._wanted != self._all_threads:  # part of this is set for the process, so always undo it
            torch.set_num_threads(self._all_threads)
        self._lock.release()

    def use_threads(self) -> None:
        """Use as many threads as were decided on; call it where a generator may have moved to another thread."""
        if torch.get_num_threads() != self._wanted:
            torch.set_num_threads(self._wanted)

    def locked(self) -> bool:
        """Return whether a computation is running."""
        return self._lock.locked()

    def _is_beside_a_run(self) -> bool:
        run = active_run(self._home) if not torch.cuda.is_available() else None
        return run is not None and run.status().pid != os.getpid()
