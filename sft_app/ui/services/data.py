"""The data that the page shows: its first conversations, and datasets fetched from the Hub."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sft_app.data.reading import PREVIEWED, DataFile, LoadedData, load_data, open_data
from sft_app.data.sources.data_files import locate_data
from sft_app.errors import DataError
from sft_app.runtime.progress import ProgressCallback
from sft_app.settings import DataSettings
from sft_app.ui.services.access import Access


@dataclass
class DataService:
    """Reads data, and caches the last data read."""

    home: Path
    access: Access
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _loaded: tuple[Any, LoadedData] | None = None

    def load(self, settings: DataSettings) -> LoadedData:
        """Return the first conversations, read again only when the file or the settings changed. Raises: AppError."""
        self.access.check_data(settings)
        key = self.key(settings)
        with self._lock:  # several events of one change call this at the same time
            if self._loaded is None or self._loaded[0] != key:
                self._loaded = (key, load_data(open_data(settings, self.home), PREVIEWED))
            return self._loaded[1]

    def open(self, settings: DataSettings) -> DataFile:
        """Return the file and its layout, also of a file without a usable conversation. Raises: AppError."""
        self.access.check_data(settings)
        return open_data(settings, self.home)

    def fetch(self, settings: DataSettings, on_progress: ProgressCallback) -> None:
        """Download a dataset from the Hub, or update it if it has changed there. Raises: DataError."""
        open_data(settings, self.home, on_progress)
        with self._lock:
            self._loaded = None

    def key(self, settings: DataSettings) -> tuple[Any, ...]:
        """Return the same key for the same data, settings and visitor."""
        return (settings, _changed_ns(settings), self.access.whose())


def _changed_ns(settings: DataSettings) -> int | None:
    """Return when the file was last changed; None for a dataset on the Hub."""
    try:
        return locate_data(settings.data).stat().st_mtime_ns
    except DataError:
        return None
