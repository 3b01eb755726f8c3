"""Long-running work for a page, which ends when the page stops it or is gone.

Gradio drops the generator of an event that is cancelled or whose tab was closed. The generator then ends only when
Python's garbage collector runs, which can take minutes, and a merge would continue all that time. So the work runs in
its own thread, and the event only polls it.
"""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Generator, Iterator
from typing import Generic, TypeVar

from sft_app.export.merged import Step

Result = TypeVar("Result")
WATCH_SECONDS = 0.3
# A page that has not polled for this long is gone. On a busy machine, polls can be late by several seconds.
GONE_SECONDS = 15.0
STOP_SECONDS = 5.0


class Watched(Generic[Result]):
    """Runs `steps` in a thread and reports the newest step."""

    def __init__(self, steps: Generator[Step, None, Result]) -> None:
        self._steps, self._last_poll = steps, time.monotonic()
        self._step: Step | None = None
        self._result: Result | None = None
        self._error: BaseException | None = None
        self._is_stopped = threading.Event()
        # In the event's context, which holds the visitor's login.
        self._thread = threading.Thread(target=contextvars.copy_context().run, args=[self._work], daemon=True)

    def stop(self) -> None:
        """End the work before its next step, which is only a moment away."""
        self._is_stopped.set()
        if self._thread.is_alive():
            self._thread.join(STOP_SECONDS)

    def watch(self) -> Generator[Step, None, Result | None]:
        """Start the work and yield its newest step repeatedly. Return its result, or None if it was stopped.

        Raises: as `steps` does.
        """
        self._thread.start()
        while self._thread.is_alive():
            self._last_poll = time.monotonic()
            if self._step is not None and not self._is_stopped.is_set():
                yield self._step
            self._thread.join(WATCH_SECONDS)
        if self._error is not None:
            raise self._error
        return self._result

    def _work(self) -> None:
        try:
            for step in self._run_steps():
                self._step = step
                if self._is_stopped.is_set() or time.monotonic() - self._last_poll > GONE_SECONDS:
                    self._steps.close()
                    return
        except Exception as error:  # raised again in `watch`
            self._error = error

    def _run_steps(self) -> Iterator[Step]:
        self._result = yield from self._steps
