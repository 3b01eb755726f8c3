"""Turn plain values into HTML for the page. Without Gradio, so that every view can be tested as a function.

The templates escape text from people and models, so the page shows exactly what was written.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pandas as pd

from sft_app.runs.learning import describe_learning
from sft_app.runs.records import RunRecord, RunStatus, Snapshot, StepMetrics, WatchAnswer
from sft_app.runs.summary import RunSummary, as_float, clock, loss_change, unjudged_note
from sft_app.templating import render_html

STATE_WORDS = {
    "queued": "Queued",
    "preparing": "Preparing",
    "training": "Training",
    "scoring": "Saving and comparing",
    "finished": "Finished",
    "stopped": "Stopped",
    "failed": "Failed",
    "interrupted": "Interrupted",
}
MOST_MARKS = 6
RUN_COLUMNS = ["Run", "State", "Held-out loss", "Steps", "Time", "Model", "Data"]


def status_card(summary: RunSummary, status: RunStatus, metrics: Sequence[StepMetrics]) -> str:
    """Show a run's state, progress and numbers."""
    state = status.state
    facts = [
        ("Step", f"{status.step:,} of {status.total_steps:,}" if status.total_steps else "–"),
        ("Elapsed", clock(status.elapsed_seconds()) if status.started_utc else "–"),
        ("Time left", time_left(status, metrics)),
        ("Speed", _number(_last(metrics, "tokens_per_second"), "{:.0f} tokens/s")),
        ("Memory", _number(_last(metrics, "memory_gib"), "{:.1f} GiB")),
        ("Held-out loss", loss_change(summary)),
    ]
    unjudged = unjudged_note(summary) if state != "failed" else ""  # the message of a failed run says why
    learned = describe_learning(metrics) if state == "finished" else ""
    return render_html(
        "status.html",
        state=state,
        state_words=STATE_WORDS[state],
        name=summary.name or summary.run,
        percent=100 * status.step / status.total_steps if status.total_steps else 0,
        facts=facts,
        notes=list(filter(None, dict.fromkeys([summary.message, status.message, status.hint, unjudged, learned]))),
    )


def data_card(record: RunRecord) -> str:
    """Show a run's data: its layout, its rows and what is not used of them."""
    source = record.source
    facts = [
        ("Data", Path(record.settings.data).name),
        ("Layout", " ".join([source.format, *source.columns])),
        ("Rows", f"{source.rows:,}"),
        ("Conversations", f"{source.conversations:,}"),
    ]
    return render_html("runs/data.html", facts=facts, notes=source.notes)


def empty_card(text: str) -> str:
    """Show what to do next where there are no results yet."""
    return render_html("notice.html", kind="ft-empty", text=text)


def problem_card(text: str) -> str:
    """Show what is wrong with the input."""
    return render_html("notice.html", kind="ft-problem", text=text)


def remark(text: str) -> str:
    """Show a short line below the input that it is about."""
    return render_html("paragraph.html", kind="ft-evidence", text=text)


def timeline(snapshots: Sequence[Snapshot]) -> list[Snapshot]:
    """Return the snapshots by step; if a step was answered twice, only the last one."""
    by_step = {snapshot.step: snapshot for snapshot in snapshots}
    return [by_step[step] for step in sorted(by_step)]


def watch_cards(times: Sequence[Snapshot], position: int) -> str:
    """Show the answers to the watch prompts at this position of a `timeline`, each next to the base model's."""
    if not times:
        return empty_card(
            "The answers to your watch prompts appear here, before training and at each evaluation. "
            "To use other prompts, change the watch prompts under All settings."
        )
    first, now = times[0], times[min(max(position, 0), len(times) - 1)]
    return render_html(
        "watch.html",
        marks=_marks(times, now),
        first_step=step_name(first.step),
        step=step_name(now.step),
        is_first=now is first,
        has_later=len(times) > 1,
        answers=[
            (before.prompt, _watched(before), _watched(at), _watch_note(before, at))
            for before, at in zip(first.answers, now.answers, strict=False)
        ],
    )


def step_name(step: int) -> str:
    return "Before training" if step == 0 else f"Step {step:,}"


def runs_frame(summaries: Sequence[RunSummary]) -> pd.DataFrame:
    """Return the table of runs, one row per run."""
    rows = [
        [
            summary.name or summary.run,
            STATE_WORDS[summary.state],
            loss_change(summary),
            f"{summary.steps:,}/{summary.total_steps:,}" if summary.total_steps else "–",
            clock(summary.seconds) if summary.seconds else "–",
            Path(summary.model or "?").name,
            Path(summary.data or "?").name,
        ]
        for summary in summaries
    ]
    return pd.DataFrame(rows, columns=RUN_COLUMNS)


def run_label(summary: RunSummary) -> str:
    """Return a run's label in a list of choices."""
    name = f"{summary.name} · " if summary.name else ""
    return f"{name}{summary.run} · {STATE_WORDS[summary.state].lower()}"


def time_left(status: RunStatus, metrics: Sequence[StepMetrics]) -> str:
    """Estimate the time left from the pace of the last steps. Elapsed seconds start over when a run is resumed."""
    timed = [(row.step, as_float(row.elapsed_seconds)) for row in metrics if row.loss is not None]
    spans = [(step - before, end - start) for (before, start), (step, end) in pairwise(timed[-20:])]
    forward = [(steps, seconds) for steps, seconds in spans if steps > 0 and seconds > 0]
    if status.state != "training" or not forward:
        return "–"
    pace = sum(seconds for _, seconds in forward) / sum(steps for steps, _ in forward)
    return f"about {clock(pace * max(0, status.total_steps - status.step))}"


def _watched(answer: WatchAnswer) -> tuple[str, bool]:
    """Return the answer, and whether it broke off."""
    return answer.answer, bool(answer.broken)


def _watch_note(before: WatchAnswer, at: WatchAnswer) -> str:
    if before.broken or at.broken:
        return "cannot be compared"
    return "unchanged" if at.answer == before.answer else "changed"


def _marks(times: Sequence[Snapshot], now: Snapshot) -> list[tuple[str, bool]]:
    """Return (step name, whether it is selected) of the steps below the slider; of many, only the ends and that one."""
    if len(times) == 1:
        return []
    shown = (
        times if len(times) <= MOST_MARKS else [times[0], *([] if now in (times[0], times[-1]) else [now]), times[-1]]
    )
    return [(step_name(one.step), one is now) for one in shown]


def _last(metrics: Sequence[StepMetrics], key: str) -> float | None:
    return next((value for row in reversed(metrics) if math.isfinite(value := as_float(getattr(row, key)))), None)


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)
