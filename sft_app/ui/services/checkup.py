"""The check-up of the data: one at a time, cancelled when no page waits for it."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from sft_app.data.checkup.inspection import Inspection, inspect_data
from sft_app.errors import ModelError
from sft_app.runtime.progress import ProgressCallback
from sft_app.settings import DataSettings, RunSettings
from sft_app.ui.services.data import DataService
from sft_app.ui.services.lengths import LengthService
from sft_app.ui.services.models import ModelService


class Superseded(Exception):
    """The browser page has requested another check-up, or is already waiting for this one."""


@dataclass
class CheckupService:
    """Caches the last check-up. `_requested` is the key of the newest one that each browser page (session) awaits."""

    data: DataService
    models: ModelService
    lengths: LengthService
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _last: tuple[int, Inspection] | None = None
    _requested_lock: threading.Lock = field(default_factory=threading.Lock)
    _requested: dict[str, int] = field(default_factory=dict)

    def key(self, settings: DataSettings) -> int:
        """Return the same number for the same data and settings."""
        return hash(self.data.key(settings))

    def inspect(self, session: str, settings: RunSettings, on_progress: ProgressCallback) -> Inspection:
        """Check the data with the model's tokenizer, for one browser page (`session`).

        Raises:
            Superseded: the page requests another check-up meanwhile, or has already requested this one.
            AppError: the data cannot be used. If only the model cannot be loaded, the lengths are left out.
        """
        self.data.access.check_data(settings)
        key = self.key(settings)
        with self._requested_lock:
            if self._requested.get(session) == key:
                raise Superseded  # the first event that requested it will show it
            self._requested[session] = key

        def report(share: float) -> None:
            if self._requested.get(session) != key:
                raise Superseded
            on_progress(share)

        try:
            with self._lock:
                report(0.0)
                if self._last is None or self._last[0] != key:
                    self._last = (key, self._inspect(settings, report))
                return self._last[1]
        finally:
            if self._requested.get(session) == key:
                del self._requested[session]

    def end(self, session: str, settings: RunSettings | None) -> None:
        """Cancel this page's check-up unless it is for these settings."""
        key = None if settings is None else self.key(settings)
        with self._requested_lock:  # another may be requested between reading and removing
            if self._requested.get(session) != key:
                self._requested.pop(session, None)

    def _inspect(self, settings: RunSettings, on_progress: ProgressCallback) -> Inspection:
        file = self.data.load(settings.reading()).file  # first, so that an error in the data shows immediately
        try:
            tokenizer = self.models.tokenizer(settings)
        except ModelError:
            tokenizer = None
        inspection = inspect_data(file, settings, tokenizer, on_progress)
        if inspection.lengths is not None:
            self.lengths.remember(settings, inspection.lengths)
        return inspection
