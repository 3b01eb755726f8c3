"""Read and write a run's metrics, snapshots, scorecard and log."""

from __future__ import annotations

from typing import Any

from sft_app.runs.paths import RunPaths
from sft_app.runs.records import Snapshot, StepMetrics
from sft_app.runs.scorecard import Scorecard
from sft_app.runs.strength import StrengthChoice
from sft_app.runtime.files import (
    append_jsonl,
    iterate_jsonl,
    last_lines,
    read_json,
    read_records,
    write_json_atomically,
    write_jsonl_atomically,
)


class RunLogs(RunPaths):
    """The logs and results in a run folder."""

    def metrics(self) -> list[StepMetrics]:
        return read_records(self.metrics_file, StepMetrics)

    def snapshots(self) -> list[Snapshot]:
        return read_records(self.snapshots_file, Snapshot)

    def scorecard(self) -> Scorecard | None:
        return read_json(self.scorecard_file, Scorecard)

    def strength(self) -> StrengthChoice | None:
        return read_json(self.strength_file, StrengthChoice)

    def keep_strength(self, choice: StrengthChoice) -> None:
        write_json_atomically(self.strength_file, choice.as_record())

    def keep_scorecard(self, card: Scorecard) -> None:
        write_json_atomically(self.scorecard_file, card.as_record())

    def log_metric(self, **values: Any) -> None:
        """Append a line with these fields of `StepMetrics`."""
        append_jsonl(self.metrics_file, StepMetrics(**values).as_record())

    def log_snapshot(self, **values: Any) -> None:
        """Append a line with these fields of `Snapshot`."""
        append_jsonl(self.snapshots_file, Snapshot(**values).as_record())

    def forget_after(self, step: int) -> None:
        """Drop what was logged after `step`, which a resumed run logs again, and what was measured of the weights that
        it will replace."""
        for file in (self.pairs_file, self.strength_file):
            file.unlink(missing_ok=True)
        for file in (self.metrics_file, self.snapshots_file, self.evaluations_file):
            if file.exists():
                write_jsonl_atomically(file, [row for row in iterate_jsonl(file) if _step_of(row) <= step])

    def log_tail(self, lines: int = 20) -> str:
        return "\n".join(last_lines(self.log_file, lines))


def _step_of(row: dict[str, Any]) -> float:
    step = row.get("step", 0)
    return step if isinstance(step, (int, float)) else 0
