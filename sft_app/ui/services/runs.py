"""The runs that the visitor may see, and the start of a new one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sft_app.runs.directory import choose_run, list_runs, queued_runs
from sft_app.runs.folder import Run
from sft_app.runs.summary import RunSummary
from sft_app.settings import RunSettings
from sft_app.ui.run_files import RunFiles
from sft_app.ui.services.access import Access
from sft_app.ui.services.models import ModelService


@dataclass(frozen=True)
class RunService:
    """Lists, finds and starts runs. `files` caches the contents of run folders."""

    home: Path
    access: Access
    models: ModelService
    files: RunFiles

    def visible(self) -> list[Run]:
        """Return the runs that the visitor may see, newest first."""
        return [run for run in list_runs(self.home) if self.access.sees(run)]

    def queued(self) -> list[Run]:
        """Return the visible queued runs in queue order."""
        return [run for run in queued_runs(self.home) if self.access.sees(run)]

    def summaries(self) -> list[RunSummary]:
        """Return a summary of each run that the visitor may see."""
        return [self.files.summary(run) for run in self.visible()]

    def find(self, run_id: str | None) -> Run | None:
        """Return the run, or None if it does not exist or is not visible."""
        return next((run for run in self.visible() if run.id == run_id), None)

    def get(self, run_id: str | None) -> Run:
        """Return the run. Raises: RunError if none is selected, it does not exist, or it is someone else's."""
        return choose_run(self.visible(), run_id or "")

    def current(self) -> Run | None:
        """Return the run that is active, else the newest."""
        runs = self.visible()
        return next((run for run in runs if not run.status().has_ended()), runs[0] if runs else None)

    def is_any_active(self) -> bool:
        """Return whether anyone's run is training or queued."""
        return any(not run.status().has_ended() for run in list_runs(self.home))

    def submit(self, settings: RunSettings, memory_gib: float | None = None) -> Run:
        """Start or queue a run for this visitor, which needs `memory_gib` by its preflight. Raises: AppError."""
        from sft_app.models.catalog import fetch_if_restricted, resolve_model
        from sft_app.training.launch import submit_run

        self.access.check_settings(settings)
        if self.access.hosting.is_hosted:
            fetch_if_restricted(resolve_model(settings.model, settings.revision, self.home), self.home)
        self.models.release()
        return submit_run(settings, self.home, self.access.visitor().name or "", memory_gib)
