"""What the page keeps in memory between clicks: one tokenizer, one loaded pair. Everything else is on disk."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_app.data.formats import LoadedData, load_conversations
from sft_app.data.sources import locate_data
from sft_app.runs import Run, find_run, list_runs
from sft_app.summary import summarise_run
from sft_app.ui.views import run_label

if TYPE_CHECKING:
    from sft_app.compare.pair import LoadedPair


@dataclass
class PageContext:
    """Made once by `build_page` and handed to the tabs."""

    home: Path
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _tokenizers: dict[str, Any] = field(default_factory=dict)
    _data: tuple[Any, LoadedData] | None = None
    _pair: LoadedPair | None = None
    _pair_key: tuple[str, int] | None = None

    def data(self, source: str, format: str) -> LoadedData:
        """A data file's conversations, read again only when the file or the layout has changed. Raises: DataError."""
        path = locate_data(source)
        key = (path, path.stat().st_mtime_ns, format)
        if self._data is None or self._data[0] != key:
            self._data = (key, load_conversations(path, format))
        return self._data[1]

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
