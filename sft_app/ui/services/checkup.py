"""The check-up of the data: one at a time, and none that nobody waits for any more."""

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
    """The same browser page has asked for another check-up, or is waiting for this one already."""


@dataclass
class CheckupService:
    """Keeps the last check-up. `_wanted` is the newest one that each browser page (session) waits for."""

    data: DataService
    models: ModelService
    lengths: LengthService
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _last: tuple[int, Inspection] | None = None
    _wanted_lock: threading.Lock = field(default_factory=threading.Lock)
    _wanted: dict[str, int] = field(default_factory=dict)

    def key(self, settings: DataSettings) -> int:
        """Return the same number for the same data and settings."""
        return hash(self.data.key(settings))

    def inspect(self, session: str, settings: RunSettings, on_progress: ProgressCallback) -> Inspection:
        """Check the data with the model's tokenizer, for one browser page (`session`).

        Raises:
            Superseded: the same page asks for another meanwhile, or has asked for this one already.
            AppError: the data cannot be used; a model that cannot be loaded only leaves the lengths out.
        """
        self.data.access.check_data(settings)
        key = self.key(settings)
        with self._wanted_lock:
            if self._wanted.get(session) == key:
                raise Superseded  # the event that asked first will show it
            self._wanted[session] = key

        def report(share: float) -> None:
            if self._wanted.get(session) != key:
                raise Superseded
            on_progress(share)

        try:
            with self._lock:
                report(0.0)
                if self._last is None or self._last[0] != key:
                    self._last = (key, self._inspect(settings, report))
                return self._last[1]
        finally:
            if self._wanted.get(session) == key:
                del self._wanted[session]

    def end(self, session: str, settings: RunSettings | None) -> None:
        """End this page's check-up if it is of anything else than these settings."""
        key = None if settings is None else self.key(settings)
        with self._wanted_lock:  # another may be asked for between reading and removing
            if self._wanted.get(session) != key:
                self._wanted.pop(session, None)

    def _inspect(self, settings: RunSettings, on_progress: ProgressCallback) -> Inspection:
        file = self.data.load(settings.reading()).file  # first, since what is wrong with it shows at once
        try:
            tokenizer = self.models.tokenizer(settings.model)
        except ModelError:
            tokenizer = None
        inspection = inspect_data(file, settings, tokenizer, on_progress)
        if inspection.lengths is not None:
            self.lengths.remember(settings, inspection.lengths)
        return inspection
