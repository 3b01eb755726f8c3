"""What a worker does when the machine asks it to end (SIGTERM): a reboot, a container that is stopped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class Terminated(BaseException):
    """The machine asked the process to end. No `Exception`, so that nothing takes it for an error on its way."""


class Termination:
    """A signal handler: it ends the work at once with `Terminated`, or while held back only notes the request."""

    def __init__(self) -> None:
        self.is_requested = False
        self._is_held_back = False

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
    def _holding(self, value: bool) -> Iterator[None]:
        before = self._is_held_back
        try:
            self._is_held_back = value
            yield
        finally:
            self._is_held_back = before
