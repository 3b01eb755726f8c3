"""What the page keeps in memory between clicks: one tokenizer, one loaded pair. Everything else is on disk."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_app.data.checkup.inspection import Inspection, inspect_data
from sft_app.data.reading import PREVIEWED, LoadedData, load_data, open_data
from sft_app.data.sources.data_files import locate_data
from sft_app.data.sources.rows import Progress
from sft_app.errors import DataError, ModelError
from sft_app.runs import Run, find_run, list_runs
from sft_app.settings import DataSettings, RunSettings
from sft_app.summary import summarise_run
from sft_app.ui.views import run_label

if TYPE_CHECKING:
    from sft_app.compare.pair import LoadedPair


class Superseded(Exception):
    """Another check-up has been asked for meanwhile."""


@dataclass
class PageContext:
    """Made once by `build_page` and handed to the tabs."""

    home: Path
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _data_lock: threading.Lock = field(default_factory=threading.Lock)
    _inspection_lock: threading.Lock = field(default_factory=threading.Lock)
    _tokenizers: dict[str, Any] = field(default_factory=dict)
    _data: tuple[Any, LoadedData] | None = None
    _inspection: tuple[Any, Inspection] | None = None
    _asked: dict[str, int] = field(default_factory=dict)
    _pair: LoadedPair | None = None
    _pair_key: tuple[str, int] | None = None

    def data(self, settings: DataSettings) -> LoadedData:
        """The first conversations, read again only when the file or the settings have changed. Raises: DataError."""
        key = (settings, _stamp(settings))
        with self._data_lock:  # several events of one change ask at the same time
            if self._data is None or self._data[0] != key:
                self._data = (key, load_data(open_data(settings, self.home), PREVIEWED))
            return self._data[1]

    def fetch(self, settings: DataSettings, on_progress: Progress) -> None:
        """Fetches a data set from the Hub, anew where it has changed there. Raises: DataError."""
        open_data(settings, self.home, on_progress)
        with self._data_lock:
            self._data = None

    def inspection_key(self, settings: RunSettings) -> int:
        """The same for the same data and settings."""
        return hash((settings, _stamp(settings)))

    def inspect(self, session: str, settings: RunSettings, on_progress: Progress) -> Inspection:
        """The check-up of the data with the model's tokenizer, for one browser page (`session`).

        Raises:
            Superseded: the same page asks for another meanwhile, or has asked for this one already.
            AppError: the data cannot be used; a model that cannot be loaded only leaves the lengths out.
        """
        key = self.inspection_key(settings)
        if self._asked.get(session) == key:
            raise Superseded  # the one at work will show it
        self._asked[session] = key

        def tell(share: float) -> None:
            if self._asked.get(session) != key:
                raise Superseded
            on_progress(share)

        try:
            with self._inspection_lock:
                tell(0.0)
                if self._inspection is None or self._inspection[0] != key:
                    self._inspection = (key, self._inspect(settings, tell))
                return self._inspection[1]
        finally:
            if self._asked.get(session) == key:
                del self._asked[session]

    def _inspect(self, settings: RunSettings, on_progress: Progress) -> Inspection:
        try:
            tokenizer = self.tokenizer(settings.model)
        except ModelError:
            tokenizer = None
        return inspect_data(self.data(settings.reading()).file, settings, tokenizer, on_progress)

    def tokenizer(self, model: str) -> Any:
        """Loads it on first use. Raises: ModelError."""
        from sft_app.models.catalog import resolve_model
        from sft_app.models.loading import load_tokenizer

        with self._lock:
            if model not in self._tokenizers:
                self._tokenizers = {model: load_tokenizer(resolve_model(model, None, self.home), self.home)}
            return self._tokenizers[model]

    def pair(self, run: Run) -> LoadedPair:
        """The run's two sides, loaded unless they are the ones already in memory. Raises: AppError."""
        from sft_app.compare.pair import load_pair
        from sft_app.models.loading import free_memory

        with self._lock:
            key = (run.id, run.adapter_dir.stat().st_mtime_ns if run.has_adapter() else 0)
            if self._pair is None or self._pair_key != key:
                self._pair = None
                free_memory()
                self._pair, self._pair_key = load_pair(run, self.home), key
            return self._pair

    def release_pair(self) -> None:
        """Gives the memory to a run that is about to start."""
        if self._pair is not None:
            from sft_app.models.loading import free_memory

            self._pair = None
            free_memory()

    def run_to_show(self) -> Run | None:
        """The run at work, else the newest."""
        runs = list_runs(self.home)
        return next((run for run in runs if not run.status().has_ended()), runs[0] if runs else None)

    def comparable_runs(self) -> list[tuple[str, str]]:
        """(label, id) of every run with an adapter, the newest first."""
        return [(run_label(summarise_run(run)), run.id) for run in list_runs(self.home) if run.has_adapter()]

    def find(self, run_id: str | None) -> Run | None:
        """None when there is no such run (any more)."""
        return next((run for run in list_runs(self.home) if run.id == run_id), None)

    def get(self, run_id: str | None) -> Run:
        """Raises: RunError when none is chosen or it is gone."""
        return find_run(self.home, run_id or "")


def _stamp(settings: DataSettings) -> int | None:
    """When the file was last changed; None for a data set of the Hub."""
    try:
        return locate_data(settings.data).stat().st_mtime_ns
    except DataError:
        return None
