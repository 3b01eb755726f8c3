"""A run in a few plain values: what `train --json`, `runs --json` and the Runs tab say about it."""

from __future__ import annotations

from typing import Any

from sft_app.errors import RunError
from sft_app.runs import Run


def summarise_run(run: Run) -> dict[str, Any]:
    """Values that are not known yet are None. Losses are means over trained tokens, seconds are wall clock."""
    status = run.status()
    metrics = run.metrics()
    losses = [row["loss"] for row in metrics if "loss" in row]
    speeds = sorted(row["tokens_per_second"] for row in metrics if "tokens_per_second" in row)
    before, after = heldout_losses(run)
    return {
        "run": run.id,
        **_what_was_asked(run),
        "state": status.state,
        "message": status.message,
        "steps": status.step,
        "total_steps": status.total_steps,
        "train_loss": sum(losses) / len(losses) if losses else None,
        "heldout_loss_base": before,
        "heldout_loss_tuned": after,
        "tokens_per_second": speeds[len(speeds) // 2] if speeds else None,
        "seconds": round(status.elapsed_seconds(), 1),
        "adapter": str(run.adapter_dir) if run.has_adapter() else None,
    }


def heldout_losses(run: Run) -> tuple[float | None, float | None]:
    """Of the base and of the last evaluation after it."""
    measured = [(row["step"], row["heldout_loss"]) for row in run.metrics() if "heldout_loss" in row]
    before = next((loss for step, loss in measured if step == 0), None)
    after = next((loss for step, loss in reversed(measured) if step > 0), None)
    return before, after


def loss_change(summary: dict[str, Any]) -> str:
    """In words, e.g. `3.91 → 2.82 (-28%)`."""
    before, after = summary["heldout_loss_base"], summary["heldout_loss_tuned"]
    if before is None:
        return "–"
    return f"{before:.2f}" if after is None else f"{before:.2f} → {after:.2f} ({after / before - 1:+.0%})"


def clock(seconds: float) -> str:
    """`4:05`, or `1:04:05` from an hour on."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _what_was_asked(run: Run) -> dict[str, Any]:
    try:
        record = run.record()
    except RunError:
        return {"name": "", "model": None, "method": None, "data": None}
    settings = record.settings
    return {"name": settings.name, "model": settings.model, "method": settings.method, "data": settings.data}
