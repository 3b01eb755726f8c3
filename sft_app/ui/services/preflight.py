"""Estimates of what a run will take, computed or measured by a dry run."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sft_app.errors import AppError
from sft_app.models.gpu_support import has_usable_gpu
from sft_app.runtime.progress import ProgressCallback
from sft_app.settings import RunSettings
from sft_app.ui.services.data import DataService
from sft_app.ui.services.lengths import LengthService

if TYPE_CHECKING:
    from sft_app.training.estimates.workload import DryRunResult
    from sft_app.training.preflight.fitting import Suggestion
    from sft_app.training.preflight.plan import Machine, Preflight


@dataclass
class PreflightService:
    """Caches the results of dry runs, by settings without the run's name; `_too_large` are those that did not fit."""

    home: Path
    data: DataService
    lengths: LengthService
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _machine: Machine | None = None
    _measured: dict[RunSettings, DryRunResult] = field(default_factory=dict)
    _too_large: set[RunSettings] = field(default_factory=set)

    def estimate(self, settings: RunSettings) -> tuple[Preflight, Suggestion | None]:
        """Return what a run will take, measured if possible, and changes that make it fit. Raises: AppError."""
        from sft_app.training.preflight.fitting import suggest_change

        lengths, size = self.lengths.measure(settings), self._data_bytes(settings)
        machine, found = self._this_machine(), self._preflight(settings)
        return found, suggest_change(settings, found, lambda changed: machine.preflight(changed, lengths, size))

    def expected_memory_gib(self, settings: RunSettings) -> float | None:
        """Return the GPU memory the run will need, measured if possible; None if it needs none or is not known."""
        try:
            return self._preflight(settings).memory_gib if has_usable_gpu() else None
        except AppError:
            return None

    def measure(self, settings: RunSettings, on_progress: ProgressCallback) -> None:
        """Do a dry run, whose result `estimate` then uses. Raises: AppError."""
        from sft_app.training.preflight.measuring import DryRunOutOfMemory, measure_run

        examples, lengths = self.data.load(settings.reading()).examples, self.lengths.measure(settings)
        key, sized = _without_name(settings), self._this_machine().with_step_size(settings, lengths)
        self._too_large.discard(key)
        try:
            self._measured[key] = measure_run(sized, examples, lengths, self.home, on_progress)
        except DryRunOutOfMemory:
            self._too_large.add(key)
            self._measured.pop(key, None)

    def is_measured(self, settings: RunSettings) -> bool:
        return _without_name(settings) in (self._measured.keys() | self._too_large)

    def _preflight(self, settings: RunSettings) -> Preflight:
        lengths, key = self.lengths.measure(settings), _without_name(settings)
        measured = self._measured.get(key)
        found = self._this_machine().preflight(settings, lengths, self._data_bytes(settings), measured)
        return replace(found, ran_out_of_memory=key in self._too_large)

    def _data_bytes(self, settings: RunSettings) -> int:
        return self.data.load(settings.reading()).file.path.stat().st_size

    def _this_machine(self) -> Machine:
        from sft_app.training.preflight.plan import Machine

        with self._lock:
            self._machine = self._machine or Machine(self.home)
            return self._machine


def _without_name(settings: RunSettings) -> RunSettings:
    """Remove the run's name, which does not affect measurements."""
    return settings.model_copy(update={"name": ""})
