"""Handle requests to end a worker.

The machine sends SIGTERM (a reboot, a container that stops). The user writes a `stop` file to keep what was learned, or
`cancel` to keep nothing.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from sft_app.runs.folder import Run
from sft_app.runtime.operating_system import WAKE_SIGNAL, wake_thread

STOP_POLL_SECONDS = 0.25
# Quick work is still finished: a step that has started and, after an earlier stop, each part of the remaining work.
STEP_SECONDS, EARLY_STOP_GRACE_SECONDS = 3.0, 5.0
# Time for a cancelled worker, which may be inside a library that does not return.
CANCEL_GRACE_SECONDS = 5.0
# A worker's exit statuses other than 0 and 1.
OUT_OF_MEMORY_EXIT, BUSY_EXIT, CANCELLED_EXIT = 75, 76, 77
TERMINATED_EXIT = 128 + signal.SIGTERM


class Terminated(BaseException):
    """Raised when the machine asks the process to end. Not an `Exception`, so that nothing handles it as an error."""


class StopRequested(BaseException):
    """Raised when the user asks the run to stop, in work that may be interrupted."""


class Cancelled(BaseException):
    """Raised when the user wants to keep nothing of the run."""


class Termination:
    """Handles SIGTERM: raises `Terminated` at once, or only notes the request while deferred.

    While `watching`, a stop interrupts `stoppable` work with `StopRequested`, and a cancellation any work with
    `Cancelled`: a thread looks for the two files and wakes the main thread with a signal.
    """

    def __init__(self) -> None:
        self.is_requested = False
        self._is_held_back = False
        self.stop_noticed: float | None = None
        self._cancel_noticed: float | None = None
        self._part: tuple[float, float] | None = None  # its start, and the seconds it has after a stop
        self._watches = False

    def __call__(self, *_: object) -> None:
        self.is_requested = True
        if not self._is_held_back:
            raise Terminated

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Defer SIGTERM within the block; the caller checks `is_requested` afterwards."""
        with self._deferring(True):
            yield

    @contextmanager
    def immediate(self) -> Iterator[None]:
        """Allow SIGTERM to interrupt the block, inside `deferred`.

        Raises: Terminated, also for an earlier request.
        """
        with self._deferring(False):
            if self.is_requested:
                raise Terminated
            yield

    @contextmanager
    def watching(self, run: Run) -> Iterator[None]:
        """Watch for stop and cancel files within the block, in the main thread.

        Raises: Cancelled.
        """
        before, ending = signal.signal(WAKE_SIGNAL, self._wake), threading.Event()
        self._look(run)
        self._watches = True
        thread = threading.Thread(target=self._watch, args=(run, ending, threading.get_ident()), daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._watches = False
            ending.set()
            thread.join()
            signal.signal(WAKE_SIGNAL, before)

    @contextmanager
    def stoppable(self, seconds: float = 0.0, began: float | None = None) -> Iterator[None]:
        """Let a stop interrupt the block `seconds` after it is noticed.

        A stop from before the block gets a little longer, so that a small run has something to keep.

        Raises: StopRequested.
        """
        before, self._part = self._part, (time.monotonic() if began is None else began, seconds)
        try:
            self._break_off_if_due()
            yield
        finally:
            self._part = before

    def _break_off_if_due(self) -> None:
        if self._part is None or self.stop_noticed is None:
            return
        began, seconds = self._part
        due = self.stop_noticed + seconds if self.stop_noticed >= began else began + EARLY_STOP_GRACE_SECONDS
        if time.monotonic() >= due:
            self._part = None  # only once
            raise StopRequested

    def _look(self, run: Run) -> bool:
        """Return whether the main thread must be woken."""
        now = time.monotonic()
        if self.stop_noticed is None and run.stop_is_requested():
            self.stop_noticed = now
        if self._cancel_noticed is None and run.cancel_is_requested():
            self._cancel_noticed = now
        return self.stop_noticed is not None or self._cancel_noticed is not None

    def _watch(self, run: Run, ending: threading.Event, main_thread: int) -> None:
        is_first = True
        while not ending.wait(0.0 if is_first else STOP_POLL_SECONDS):
            is_first = False
            if self._look(run):
                wake_thread(main_thread)
            if self._cancel_noticed is not None and time.monotonic() - self._cancel_noticed > CANCEL_GRACE_SECONDS:
                os._exit(CANCELLED_EXIT)  # the next process that reads the run removes the rest

    def _wake(self, *_: object) -> None:
        if not self._watches:
            return
        if self._cancel_noticed is not None:
            self._watches = False
            raise Cancelled
        self._break_off_if_due()

    @contextmanager
    def _deferring(self, value: bool) -> Iterator[None]:
        before = self._is_held_back
        try:
            self._is_held_back = value
            yield
        finally:
            self._is_held_back = before
