"""Define the contents of a run's files: `settings.json`, `status.json`, `metrics.jsonl`, `snapshots.jsonl`.

Every record ignores unknown keys, which a newer version may have written.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

from sft_app.runtime.processes import Started, seconds_since
from sft_app.settings import REMOVED_SETTINGS, RunSettings

RunState = Literal["queued", "preparing", "training", "scoring", "finished", "stopped", "failed", "interrupted"]
ENDED: frozenset[RunState] = frozenset({"finished", "stopped", "failed", "interrupted"})
RESUMABLE: frozenset[RunState] = frozenset({"stopped", "failed", "interrupted"})


def _nan_for_null(value: Any) -> Any:
    return math.nan if value is None else value


def null_for_nan(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _time_or_none(text: Any) -> str | None:
    """Return a time with a time zone, as written by `utc_now`; None for anything else."""
    try:
        return text if datetime.fromisoformat(text).tzinfo else None
    except (TypeError, ValueError):
        return None


def _amount_or_none(value: Any) -> float | None:
    return value if isinstance(value, (int, float)) and 0 <= value < math.inf else None


def _without_removed(settings: Any) -> Any:
    """Leave out the settings of earlier versions that no longer exist; any other unknown setting is an error."""
    return (
        {name: value for name, value in settings.items() if name not in REMOVED_SETTINGS}
        if isinstance(settings, dict)
        else settings
    )


# A measured number. JSON cannot express NaN and infinity, so files contain null instead.
Number = Annotated[float, BeforeValidator(_nan_for_null), PlainSerializer(null_for_nan)]
# The same for a number that may not have been measured: then the key is missing, and the value is None.
OptionalNumber = Annotated[float | None, BeforeValidator(_nan_for_null), PlainSerializer(null_for_nan)]
StepNumber = Annotated[int, Field(ge=0, lt=2**63)]
Pid = Annotated[int, Field(gt=0, lt=2**31)]
# A damaged time or amount counts as unknown, so that the rest of the status is still usable.
UtcTime = Annotated[str | None, BeforeValidator(_time_or_none)]
Amount = Annotated[float | None, BeforeValidator(_amount_or_none)]


class Record(BaseModel):
    """A value as stored in a file: immutable, with unknown keys ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    def as_record(self) -> dict[str, Any]:
        """Return the plain values for a file: the keys that were set, in the order of the fields."""
        return self.model_dump(exclude_unset=True)


class StepMetrics(Record):
    """A line of `metrics.jsonl`: what was measured at a step, in training or on the held-out rows.

    A value that was not measured is None; a measured value that is not a number is NaN.
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
    """An answer to a watch prompt; `broken` means it ended because the model produced NaN or infinite values."""

    prompt: str
    answer: str
    finished: bool = False
    broken: bool = False


class Snapshot(Record):
    """A line of `snapshots.jsonl`: the answers to the watch prompts at a step."""

    step: StepNumber
    answers: list[WatchAnswer] = []


class SourceRecord(BaseModel):
    """The source of a run's data, and what became of its rows. `hub` has a Hub dataset's commit and licence.

    `notes` say what of the source is not trained on, such as unused columns, and why; missing in earlier versions.
    `heldout_sha256` has the contents of the files that were held out, by the name of their setting.
    """

    path: str
    sha256: str
    format: str
    columns: tuple[str, ...] = ()
    hub: dict[str, Any] = {}
    rows: int
    conversations: int
    rejected: int
    notes: list[str] = []
    heldout_sha256: dict[str, str] = {}


class ModelRecord(BaseModel):
    """The model a run started from, as requested and as it was at the time."""

    name: str
    location: str
    revision: str | None
    source: str


class RunRecord(BaseModel):
    """`settings.json`: everything needed to repeat the run.

    `machine` describes the machine; "" if it was not recorded. `owner` is the Hub name of who started it on a Space.
    `memory_gib` is what its preflight expected it to need; None if there was none.
    """

    settings: Annotated[RunSettings, BeforeValidator(_without_removed)]
    source: SourceRecord
    model: ModelRecord
    versions: dict[str, str]
    machine: str = ""
    owner: str = ""
    memory_gib: Amount = None
    created_utc: UtcTime


class RunStatus(BaseModel):
    """`status.json`: the current state of the run. Starts of processes are those of `processes.process_started`.

    `started_moment` is when the work began and `worked_seconds` how long it took; times of day cannot show that,
    because a clock can be set. Both are missing in files of earlier versions.

    `kept_step` is the step of the weights in `adapter/`, `precision` the torch dtype the base computes in during
    training, `step_precision` that of its steps, which autocast makes another for a full fine-tune on a GPU.
    `micro_batch` is the number of rows computed at once and `checkpoint_every` n if every n-th layer is
    recomputed; both are chosen once on a GPU, and None elsewhere.

    The supervisor reports how its worker ended, so while it is alive the run counts as active, even between
    two workers.
    """

    state: RunState = "queued"
    step: StepNumber = 0
    total_steps: StepNumber = 0
    kept_step: StepNumber | None = None
    precision: str = ""
    step_precision: str = ""
    micro_batch: StepNumber | None = None
    checkpoint_every: StepNumber | None = None
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
    worked_seconds: Amount = None

    def has_ended(self) -> bool:
        return self.state in ENDED

    def is_settled(self) -> bool:
        """Return whether this state needs no living process."""
        return self.state == "queued" or self.has_ended()

    def elapsed_seconds(self, now: datetime | None = None) -> float:
        """Return the seconds from the start of the work to its end, or to `now`; 0 while queued.

        Times of day are only used if the machine has restarted since, or an earlier version wrote the status.
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
