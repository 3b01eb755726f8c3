"""What asks a worker to end: the machine (SIGTERM: a reboot, a container that is stopped), or a person, who wants to
keep what was learnt (`stop` in the run folder) or nothing of it (`cancel`)."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from sft_app.runs.folder import Run

LOOK_SECONDS = 0.25
# What is quick is still done: a step that has begun, and after a stop that came before it, each part of the work.
STEP_SECONDS, EARLIER_STOP_SECONDS = 3.0, 5.0
# What a cancelled worker has, which may be in a library that does not come back.
CANCEL_SECONDS = 5.0
# Exit statuses that a worker ends with besides 0 and 1.
OUT_OF_MEMORY_EXIT, BUSY_EXIT, CANCELLED_EXIT = 75, 76, 77
TERMINATED_EXIT = 128 + signal.SIGTERM
WAKE = signal.SIGUSR1


class Terminated(BaseException):
    """The machine asked the process to end. No `Exception`, so that nothing takes it for an error on its way."""


class StopRequested(BaseException):
    """A person asked the run to stop, in a part that may break off."""


class Cancelled(BaseException):
    """A person wants nothing of the run."""


class Termination:
    """A handler for SIGTERM: it ends the work at once with `Terminated`, or while held back only notes the request.

    While `watching`, a stop ends the parts that are `stoppable` with `StopRequested`, and a cancellation whatever is
    at work with `Cancelled`: a thread looks for the two files and wakes the main thread with a signal.
    """

    def __init__(self) -> None:
        self.is_requested = False
        self._is_held_back = False
        self.stop_noticed: float | None = None
        self._cancel_noticed: float | None = None
        self._part: tuple[float, float] | None = None  # when it began, and what it has after a stop
        self._watches = False

    def __call__(self, *_: object) -> None:
        self.is_requested = True
        if not self._is_held_back:
            raise Terminated

    @contextmanager
    def held_back(self) -> Iterator[None]:
        """For work that must not break off anywhere; who does it looks at `is_requested`."""
        with self._holding(True):
            yield

    @contextmanager
    def let_through(self) -> Iterator[None]:
        """For a part within `held_back` that may break off. Raises: Terminated, also for an earlier request."""
        with self._holding(False):
            if self.is_requested:
                raise Terminated
            yield

    @contextmanager
    def watching(self, run: Run) -> Iterator[None]:
        """In the main thread. Raises: Cancelled."""
        before, ending = signal.signal(WAKE, self._wake), threading.Event()
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
            signal.signal(WAKE, before)

    @contextmanager
    def stoppable(self, seconds: float = 0.0, began: float | None = None) -> Iterator[None]:
        """For a part of work that a stop breaks off after so many seconds; one that came before it began, a little
        later, so that a small run has something to keep. Raises: StopRequested."""
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
        due = self.stop_noticed + seconds if self.stop_noticed >= began else began + EARLIER_STOP_SECONDS
        if time.monotonic() >= due:
            self._part = None  # once is enough
            raise StopRequested

    def _look(self, run: Run) -> bool:
        """Whether there is anything to wake the main thread for."""
        now = time.monotonic()
        if self.stop_noticed is None and run.stop_is_requested():
            self.stop_noticed = now
        if self._cancel_noticed is None and run.cancel_is_requested():
            self._cancel_noticed = now
        return self.stop_noticed is not None or self._cancel_noticed is not None

    def _watch(self, run: Run, ending: threading.Event, main_thread: int) -> None:
        is_first = True
        while not ending.wait(0.0 if is_first else LOOK_SECONDS):
            is_first = False
            if self._look(run):
                signal.pthread_kill(main_thread, WAKE)
            if self._cancel_noticed is not None and time.monotonic() - self._cancel_noticed > CANCEL_SECONDS:
                os._exit(CANCELLED_EXIT)  # whoever looks at the run next takes away what is left

    def _wake(self, *_: object) -> None:
        if not self._watches:
            return
        if self._cancel_noticed is not None:
            self._watches = False
            raise Cancelled
        self._break_off_if_due()

    @contextmanager
    def _holding(self, value: bool) -> Iterator[None]:
        before = self._is_held_back
        try:
            self._is_held_back = value
            yield
        finally:
            self._is_held_back = before
