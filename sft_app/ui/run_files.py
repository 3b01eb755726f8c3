"""What run folders say, for a page that looks every second: nothing is read again that has not changed."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sft_app.runs.folder import Run
from sft_app.runs.records import ENDED
from sft_app.runs.summary import summarise_run
from sft_app.runtime.files import JsonlTail
from sft_app.storage.copies import COPY_RECORD

TAILS_KEPT = 16


@dataclass
class RunFiles:
    """The files of the runs in `home`, read by several threads."""

    home: Path
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _tails: dict[Path, JsonlTail] = field(default_factory=dict)
    _summaries: dict[str, tuple[Any, dict[str, Any]]] = field(default_factory=dict)

    def metrics(self, run: Run) -> list[dict[str, Any]]:
        """As `run.metrics()`, without reading a long file anew at every look."""
        return self._rows(run.metrics_file)

    def snapshots(self, run: Run) -> list[dict[str, Any]]:
        """As `run.snapshots()`, without reading a long file anew at every look."""
        return self._rows(run.snapshots_file)

    def summary(self, run: Run) -> dict[str, Any]:
        """As `summarise_run`."""
        state, stamp = run.status().state, files_stamp(run)
        known = self._summaries.get(run.id)
        if known is None or known[0] != stamp or state not in ENDED:
            known = self._summaries[run.id] = (stamp, summarise_run(run, self.metrics(run)))
        return known[1]

    def _rows(self, path: Path) -> list[dict[str, Any]]:
        with self._lock:
            tail = self._tails.pop(path, None) or JsonlTail(path)
            self._tails[path] = tail
            while len(self._tails) > TAILS_KEPT:
                del self._tails[next(iter(self._tails))]  # the one that was asked for the longest ago
            return tail.rows()


def files_stamp(run: Run) -> list[Any]:
    """The same as long as nobody has written anything that the page shows of this run."""
    files = [run.metrics_file, run.snapshots_file, run.adapter_dir, run.path / "status.json", run.path / "stop"]
    files.append(run.path / COPY_RECORD)
    return [run.id, *(_changed_at(file) for file in files)]


def _changed_at(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size
