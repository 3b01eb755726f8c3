"""What the files of a run folder say, as types: `settings.json`, `status.json`, `metrics.jsonl`, `snapshots.jsonl`.

Every record ignores keys that it does not know, which a newer version may have written.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

from sft_app.runtime.processes import Started, seconds_since
from sft_app.settings import RunSettings

RunState = Literal["queued", "preparing", "training", "scoring", "finished", "stopped", "failed", "interrupted"]
ENDED: frozenset[RunState] = frozenset({"finished", "stopped", "failed", "interrupted"})
RESUMABLE: frozenset[RunState] = frozenset({"stopped", "failed", "interrupted"})


def _nan_for_null(value: Any) -> Any:
    return math.nan if value is None else value


def null_for_nan(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _time_or_none(text: Any) -> str | None:
    """A time with its zone, as `utc_now` writes it; None for anything else."""
    try:
        return text if datetime.fromisoformat(text).tzinfo else None
    except (TypeError, ValueError):
        return None


def _seconds_or_none(value: Any) -> float | None:
    return value if isinstance(value, (int, float)) and 0 <= value < math.inf else None


# A measured number: JSON has no word for NaN and infinity, so null stands for them in files.
Number = Annotated[float, BeforeValidator(_nan_for_null), PlainSerializer(null_for_nan)]
# The same where it may not have been measured: then the key is missing, and the value is None.
OptionalNumber = Annotated[float | None, BeforeValidator(_nan_for_null), PlainSerializer(null_for_nan)]
StepNumber = Annotated[int, Field(ge=0, lt=2**63)]
Pid = Annotated[int, Field(gt=0, lt=2**31)]
# A damaged time or duration is one that is not known: the rest of the status still holds.
UtcTime = Annotated[str | None, BeforeValidator(_time_or_none)]
Seconds = Annotated[float | None, BeforeValidator(_seconds_or_none)]


class Record(BaseModel):
    """A value as it stands in a file: it does not change, and unknown keys are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    def as_record(self) -> dict[str, Any]:
        """The plain values for a file: the keys that were given, in the order of the fields."""
        return self.model_dump(exclude_unset=True)


class StepMetrics(Record):
    """A line of `metrics.jsonl`: what was measured at a step, either while training or on the held-out rows.

    What was not measured is None; what was measured and is not a number is NaN.
    """

    step: StepNumber
    elapsed_seconds: OptionalNumber = None
    loss: OptionalNumber = None
    heldout_loss: OptionalNumber = None
    learning_rate: OptionalNumber = None
    grad_norm: OptionalNumber = None
    tokens_per_second: OptionalNumber = None
    memory_gib: OptionalNumber = None


class WatchAnswer(Record):
    """An answer to a watch prompt; `broken`: it ended where the model's numbers became infinite."""

    prompt: str
    answer: str
    finished: bool = False
    broken: bool = False


class Snapshot(Record):
    """A line of `snapshots.jsonl`: the answers to the watch prompts at a step."""

    step: StepNumber
    answers: list[WatchAnswer] = []


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
    created_utc: UtcTime


class RunStatus(BaseModel):
    """`status.json`: where the run is now. A process's start is as `processes.process_started` names it.

    `started_moment` is when the work began and `worked_seconds` how long it took, which the times of day cannot tell,
    since a clock can be set; both are missing in what earlier versions wrote.

    `kept_step` is the step whose weights `adapter/` has, `precision` the torch dtype that the base computes in while it
    is trained. The supervisor will tell how its worker ended, so while it lives the run goes on, also in the moments
    without a worker.
    """

    state: RunState = "queued"
    step: StepNumber = 0
    total_steps: StepNumber = 0
    kept_step: StepNumber | None = None
    precision: str = ""
    pid: Pid | None = None
    pid_started: Started | None = None
    supervisor_pid: Pid | None = None
    supervisor_started: Started | None = None
    message: str = ""
    hint: str = ""
    created_utc: str = ""
    started_utc: UtcTime = None
    ended_utc: UtcTime = None
    started_moment: str | None = None
    worked_seconds: Seconds = None

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
