"""Long work for a page, which ends when the page stops it, or no longer asks for it.

gradio drops the generator of an event that is cancelled, or whose tab was closed. What it does then ends only when
Python's collector comes by, which can take minutes; a merge would go on all that time. So the work is done in a thread
of its own, and an event only looks at it.
"""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Generator, Iterator
from typing import Generic, TypeVar

from sft_app.export.merged import Step

Result = TypeVar("Result")
LOOK_SECONDS = 0.3
# A page that has not looked for so long has gone. A busy machine may keep one that has not from looking for some of it.
GONE_SECONDS = 15.0


class Watched(Generic[Result]):
    """`steps` at work, from its first step to its end."""

    def __init__(self, steps: Generator[Step, None, Result]) -> None:
        self._steps, self._looked = steps, time.monotonic()
        self._step: Step | None = None
        self._result: Result | None = None
        self._error: BaseException | None = None
        self._is_stopped = threading.Event()
        # With the visitor's login, which stands in the context of the event.
        self._thread = threading.Thread(target=contextvars.copy_context().run, args=[self._work], daemon=True)

    def stop(self) -> None:
        """The work ends before its next step."""
        self._is_stopped.set()

    def watch(self) -> Generator[Step, None, Result | None]:
        """Starts the work and gives its newest step again and again; None when it was stopped.

        Raises: as `steps` does.
        """
        self._thread.start()
        while self._thread.is_alive():
            self._looked = time.monotonic()
            if self._step is not None:
                yield self._step
            self._thread.join(LOOK_SECONDS)
        if self._error is not None:
            raise self._error
        return self._result

    def _work(self) -> None:
        try:
            for step in self._until_the_end():
                self._step = step
                if self._is_stopped.is_set() or time.monotonic() - self._looked > GONE_SECONDS:
                    self._steps.close()
                    return
        except Exception as error:  # raised where the work is watched
            self._error = error

    def _until_the_end(self) -> Iterator[Step]:
        self._result = yield from self._steps
