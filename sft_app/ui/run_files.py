"""Cached reads of run folders for a page that polls: a file is read again only if it has changed."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from sft_app.runs.folder import Run
from sft_app.runs.records import ENDED, Snapshot, StepMetrics
from sft_app.runs.summary import RunSummary, summarise_run
from sft_app.runtime.files import JsonlTail
from sft_app.storage.copies import COPY_RECORD

TAILS_KEPT = 16
T = TypeVar("T")


@dataclass
class RunFiles:
    """The files of the runs in `home`, read by several threads."""

    home: Path
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _tails: dict[Path, JsonlTail[Any]] = field(default_factory=dict)
    _summaries: dict[str, tuple[Any, RunSummary]] = field(default_factory=dict)

    def metrics(self, run: Run) -> list[StepMetrics]:
        """Return what `run.metrics()` returns, reading only new lines of the file."""
        return self._records(run.metrics_file, StepMetrics)

    def snapshots(self, run: Run) -> list[Snapshot]:
        """Return what `run.snapshots()` returns, reading only new lines of the file."""
        return self._records(run.snapshots_file, Snapshot)

    def summary(self, run: Run) -> RunSummary:
        """Return what `summarise_run` returns, cached for ended runs."""
        state, stamp = run.status().state, files_stamp(run)
        known = self._summaries.get(run.id)
        if known is None or known[0] != stamp or state not in ENDED:
            known = self._summaries[run.id] = (stamp, summarise_run(run, self.metrics(run)))
        return known[1]

    def _records(self, path: Path, kind: type[T]) -> list[T]:
        with self._lock:
            tail = self._tails.pop(path) if path in self._tails else JsonlTail(path, kind)
            self._tails[path] = tail
            while len(self._tails) > TAILS_KEPT:
                del self._tails[next(iter(self._tails))]  # the least recently used
            return tail.records()


def files_stamp(run: Run) -> list[Any]:
    """Return a value that changes when any file of this run that the page shows has changed."""
    files = [run.metrics_file, run.snapshots_file, run.adapter_dir, run.status_file, run.stop_file]
    files.append(run.path / COPY_RECORD)
    return [run.id, *(_changed_at(file) for file in files)]


def _changed_at(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size
