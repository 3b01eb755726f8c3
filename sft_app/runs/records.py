"""What the two small files of a run folder say: `settings.json`, written once, and `status.json`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel

from sft_app.runtime.processes import Started, seconds_since
from sft_app.settings import RunSettings

State = Literal["queued", "preparing", "training", "scoring", "finished", "stopped", "failed", "interrupted"]
ENDED: frozenset[State] = frozenset({"finished", "stopped", "failed", "interrupted"})
RESUMABLE: frozenset[State] = frozenset({"stopped", "failed", "interrupted"})


class SourceRecord(BaseModel):
    """Where a run's data came from, and what became of its rows. `hub` has a Hub data set's commit and licence."""

    path: str
    sha256: str
    format: str
    columns: tuple[str, ...] = ()
    hub: dict[str, Any] = {}
    rows: int
    conversations: int
    rejected: int


class ModelRecord(BaseModel):
    """The model a run started from: what was asked for, and what that was at the time."""

    name: str
    location: str
    revision: str | None
    source: str


class RunRecord(BaseModel):
    """`settings.json`: everything needed to repeat the run. `machine` is in words, and empty where it was not noted.

    `owner` is who started it on a Space, by their name on the Hub.
    """

    settings: RunSettings
    source: SourceRecord
    model: ModelRecord
    versions: dict[str, str]
    machine: str = ""
    owner: str = ""
    created_utc: str


class RunStatus(BaseModel):
    """`status.json`: where the run is now. A process's start is as `processes.process_started` names it.

    `started_moment` is when the work began and `worked_seconds` how long it took, which the times of day cannot tell,
    since a clock can be set; both are missing in what earlier versions wrote.

    `kept_step` is the step whose weights `adapter/` has, `precision` the torch dtype that the base computes in while it
    is trained. The supervisor will tell how its worker ended, so while it lives the run goes on, also in the moments
    without a worker.
    """

    state: State = "queued"
    step: int = 0
    total_steps: int = 0
    kept_step: int | None = None
    precision: str = ""
    pid: int | None = None
    pid_started: Started | None = None
    supervisor_pid: int | None = None
    supervisor_started: Started | None = None
    message: str = ""
    hint: str = ""
    created_utc: str = ""
    started_utc: str | None = None
    ended_utc: str | None = None
    started_moment: str | None = None
    worked_seconds: float | None = None

    def has_ended(self) -> bool:
        return self.state in ENDED

    def is_settled(self) -> bool:
        """Whether no process has to be alive for this to be true."""
        return self.state == "queued" or self.has_ended()

    def elapsed_seconds(self, now: datetime | None = None) -> float:
        """Seconds from the start of the work to its end, or to `now`; 0 while queued.

        By the times of day only where the machine has been started again since, or the run is of an earlier version.
        """
        if self.started_utc is None:
            return 0.0
        measured = self.worked_seconds if self.ended_utc else seconds_since(self.started_moment)
        if measured is not None:
            return measured
        end = datetime.fromisoformat(self.ended_utc) if self.ended_utc else now or datetime.now(UTC)
        return max(0.0, (end - datetime.fromisoformat(self.started_utc)).total_seconds())


def utc_now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
