"""Summarise a run in a few plain values, for `train --json`, `runs --json` and the Runs tab."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from sft_app.errors import RunError
from sft_app.runs.folder import Run
from sft_app.runs.records import Record, RunRecord, RunState, StepMetrics
from sft_app.settings import RunSettings

NOT_A_NUMBER = "not a number"
# Larger numbers are shown in scientific notation.
LARGEST_PLAIN_NUMBER = 1e6


class RunSummary(Record):
    """A run as `runs --json` lists it. Unknown values are None; losses that are not a number are NaN.

    Losses are means over trained tokens; the held-out ones are the scorecard's, or until it exists the curve's. Seconds
    are wall clock. `data_notes` say what of the data is not trained on.
    """

    run: str
    name: str = ""
    model: str | None = None
    method: str | None = None
    data: str | None = None
    data_notes: list[str] = []
    chat_template: str | None = None
    state: RunState
    message: str = ""
    precision: str | None = None
    steps: int = 0
    total_steps: int = 0
    train_loss: float | None = None
    heldout_loss_base: float | None = None
    heldout_loss_tuned: float | None = None
    tokens_per_second: float | None = None
    seconds: float = 0.0
    adapter: str | None = None


def summarise_run(run: Run, metrics: Sequence[StepMetrics] | None = None) -> RunSummary:
    """Summarise the run as of now. Pass `metrics` if they have already been read."""
    status, (record, problem) = run.status(), read_record(run)
    settings = record.settings if record else None
    metrics = run.metrics() if metrics is None else metrics
    losses = [row.loss for row in metrics if row.loss is not None]
    speeds = sorted(speed for row in metrics if math.isfinite(speed := as_float(row.tokens_per_second)))
    before, after = _judged_losses(run) or heldout_losses(metrics, status.kept_step if status.has_ended() else None)
    return RunSummary(
        run=run.id,
        name=settings.name if settings else "",
        model=settings.model if settings else None,
        method=settings.method if settings else None,
        data=settings.data if settings else None,
        data_notes=record.source.notes if record else [],
        chat_template=settings.describe_chat_template() if settings else None,
        state=status.state,
        message=problem or status.message,
        precision=status.precision or None,
        steps=status.step,
        total_steps=status.total_steps,
        train_loss=sum(losses) / len(losses) if losses else None,
        heldout_loss_base=before,
        heldout_loss_tuned=after,
        tokens_per_second=speeds[len(speeds) // 2] if speeds else None,
        seconds=round(status.elapsed_seconds(), 1),
        adapter=str(run.adapter_dir) if run.has_adapter() else None,
    )


def _judged_losses(run: Run) -> tuple[float | None, float | None] | None:
    """Return both sides' loss on the rows that judge, if it is not the curve's: other rows judge and were measured, or
    the weights were scaled after the curve ended, whose loss is None until it is measured."""
    strength = run.strength()
    is_scaled = strength is not None and strength.chosen != 1.0
    card = run.scorecard() if run.validation_file.exists() or is_scaled else None
    if card:
        return as_float(card.base["loss"]), as_float(card.tuned["loss"])
    return (heldout_losses(run.metrics())[0], None) if is_scaled else None


def heldout_losses(metrics: Sequence[StepMetrics], kept_step: int | None = None) -> tuple[float | None, float | None]:
    """Return the held-out loss of the base, and of the kept weights or else the last evaluation."""
    measured = [(row.step, row.heldout_loss) for row in metrics if row.heldout_loss is not None]
    before = next((loss for step, loss in measured if step == 0), None)
    last = next((loss for step, loss in reversed(measured) if step > 0), None)
    return before, next((loss for step, loss in measured if step == kept_step and step > 0), last)


def loss_change(summary: RunSummary) -> str:
    """Return the change of the held-out loss, such as `3.91 → 2.82 (-28%)` or `3.91 → not a number`."""
    before, after = summary.heldout_loss_base, summary.heldout_loss_tuned
    if before is None:
        return "–"
    before_text, change = number_text(before, "{:.2f}"), relative_change(before, after)
    if after is None:
        return before_text
    return f"{before_text} → {number_text(after, '{:.2f}')}" + ("" if change is None else f" ({change:+.0%})")


def unjudged_note(summary: RunSummary) -> str:
    """Explain why a run cannot be judged, and what to do; "" if its losses are numbers."""
    if _is_broken(summary.heldout_loss_base):
        return (
            "The base model's own loss is not a number, so nothing can be compared with it. "
            "Check the model, or train with dtype float32."
        )
    if _is_broken(summary.train_loss) or _is_broken(summary.heldout_loss_tuned):
        return (
            "The loss of this run is not a number, so what it learned cannot be judged. "
            "Train again with a lower learning rate."
        )
    return ""


def _is_broken(loss: float | None) -> bool:
    return loss is not None and not math.isfinite(loss)


def as_float(value: float | None) -> float:
    """Return a measured number from a file, in which null stands for NaN."""
    return math.nan if value is None else float(value)


def number_text(value: float | None, form: str) -> str:
    """Format a number with `form`, such as `{:.3f}`, or say in words that it is not one."""
    if value is None or math.isnan(value):
        return NOT_A_NUMBER
    if math.isinf(value):
        return "too large to display"
    return form.format(value) if abs(value) < LARGEST_PLAIN_NUMBER else f"{value:.3g}"


def relative_change(before: float | None, after: float | None) -> float | None:
    """Return `after / before - 1`; None if that is not a number, such as a change from zero."""
    if before is None or after is None or not before or not math.isfinite(before) or not math.isfinite(after):
        return None
    return after / before - 1


def clock(seconds: float) -> str:
    """Format a duration as `4:05`, or `1:04:05` from an hour on."""
    if not math.isfinite(seconds):
        return "–"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def differing_settings(records: Sequence[RunRecord]) -> list[tuple[str, list[str]]]:
    """Return (name, value in each run as text) of every setting that differs between runs, except their names.

    Also compared: the contents of a data file that changed, the model's revision, and package versions.
    """
    rows = [
        (name, [setting_text(record.settings, name) for record in records])
        for name in RunSettings.model_fields
        if name != "name"
    ]
    for path in sorted({record.source.path for record in records}):  # different paths already show in the row `data`
        sums = [record.source.sha256[:12] if record.source.path == path else "–" for record in records]
        if len(set(sums) - {"–"}) > 1:
            rows.append((f"contents of {Path(path).name} (sha256)", sums))
    rows.append(("model revision", [record.model.revision or record.model.source for record in records]))
    packages = sorted({package for record in records for package in record.versions})
    rows += [(f"version of {name}", [record.versions.get(name, "–") for record in records]) for name in packages]
    return [(name, values) for name, values in rows if len(set(values)) > 1]


def setting_text(settings: RunSettings, name: str) -> str:
    """Return a setting's value in words."""
    value = getattr(settings, name)
    if name == "learning_rate":
        return f"{settings.resolved_learning_rate():g}"
    if name == "chat_template":
        return settings.describe_chat_template()
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        return "\n".join(value) or "none"
    return "not set" if value is None else str(value) or "none"


def read_record(run: Run) -> tuple[RunRecord | None, str]:
    """Return the run's record, or None and why it cannot be read."""
    try:
        return run.record(), ""
    except RunError as error:
        return None, str(error)
