"""Plain values to what the page shows. No Gradio here, so that every view can be tested as a function.

Text from people and models goes into HTML escaped: what is shown is exactly what was written.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from itertools import pairwise
from pathlib import Path

import pandas as pd

from sft_app.runs.records import RunStatus, Snapshot, StepMetrics, WatchAnswer
from sft_app.runs.summary import RunSummary, as_float, clock, loss_change, unjudged_note

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
    """State, progress and the numbers of a run."""
    state = status.state
    share = 100 * status.step / status.total_steps if status.total_steps else 0
    facts = [
        ("Step", f"{status.step:,} of {status.total_steps:,}" if status.total_steps else "–"),
        ("Elapsed", clock(status.elapsed_seconds()) if status.started_utc else "–"),
        ("Left", time_left(status, metrics)),
        ("Speed", _number(_last(metrics, "tokens_per_second"), "{:.0f} tokens/s")),
        ("Memory", _number(_last(metrics, "memory_gib"), "{:.1f} GiB")),
        ("Held-out loss", loss_change(summary)),
    ]
    cells = "".join(f"<div><dt>{name}</dt><dd>{escape(value)}</dd></div>" for name, value in facts)
    unjudged = unjudged_note(summary) if state != "failed" else ""  # its message says why
    notes = "".join(f"<p>{escape(text)}</p>" for text in (status.message, status.hint, unjudged) if text)
    title = escape(summary.name or summary.run)
    return (
        f'<section class="ft-card ft-status ft-{state}"><header><strong>{STATE_WORDS[state]}</strong>'
        f'<span class="ft-id">{title}</span></header>'
        f'<div class="ft-bar" role="progressbar" aria-valuenow="{share:.0f}"><i style="width:{share:.1f}%"></i></div>'
        f"<dl>{cells}</dl>{notes}</section>"
    )


def empty_card(text: str) -> str:
    """What stands where there is nothing yet: what to do next."""
    return f'<section class="ft-card ft-empty">{escape(text)}</section>'


def problem_card(text: str) -> str:
    """What is wrong with what the person gave."""
    return f'<section class="ft-card ft-problem">{escape(text)}</section>'


def timeline(snapshots: Sequence[Snapshot]) -> list[Snapshot]:
    """The snapshots by step; of a step that was answered twice only the last."""
    by_step = {snapshot.step: snapshot for snapshot in snapshots}
    return [by_step[step] for step in sorted(by_step)]


def watch_cards(times: Sequence[Snapshot], place: int) -> str:
    """The answers to the watch prompts at this place of a `timeline`, each beside the base model's."""
    if not times:
        return empty_card(
            "The answers to your watch prompts appear here, before training and at each measurement. "
            "To use other prompts: All settings, Answers, watch prompts."
        )
    now = times[min(max(place, 0), len(times) - 1)]
    cards = (_watch_card(before, at, times, now) for before, at in zip(times[0].answers, now.answers, strict=False))
    return "".join([_marks(times, now), *cards])


def step_name(step: int) -> str:
    return "Before training" if step == 0 else f"Step {step:,}"


def runs_frame(summaries: Sequence[RunSummary]) -> pd.DataFrame:
    """The table of runs, one row each."""
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
    """A run in a list of choices."""
    name = f"{summary.name} · " if summary.name else ""
    return f"{name}{summary.run} · {STATE_WORDS[summary.state].lower()}"


def time_left(status: RunStatus, metrics: Sequence[StepMetrics]) -> str:
    """From the pace of the last steps; a guess, so it is rounded. The seconds begin again when a run is resumed."""
    timed = [(row.step, as_float(row.elapsed_seconds)) for row in metrics if row.loss is not None]
    spans = [(step - before, end - start) for (before, start), (step, end) in pairwise(timed[-20:])]
    forward = [(steps, seconds) for steps, seconds in spans if steps > 0 and seconds > 0]
    if status.state != "training" or not forward:
        return "–"
    pace = sum(seconds for _, seconds in forward) / sum(steps for steps, _ in forward)
    return f"about {clock(pace * max(0, status.total_steps - status.step))}"


def _watch_card(before: WatchAnswer, at: WatchAnswer, times: Sequence[Snapshot], now: Snapshot) -> str:
    """One prompt: the first answer, and beside it the one at the chosen step."""
    first = times[0]
    if now is not first:
        beside = f"<b>{step_name(now.step)}</b><span>{_watch_note(before, at)}</span>{_watched(at)}"
    elif len(times) > 1:
        beside = '<div class="ft-text ft-dim">Move the slider to see what training changes.</div>'
    else:
        beside = '<div class="ft-text ft-dim">The answer at the next measurement appears here.</div>'
    title = f"<header><strong>“{escape(before.prompt)}”</strong></header>"
    return (
        f'<section class="ft-card ft-watch">{title}<div class="ft-two">'
        f"<div><b>{step_name(first.step)}</b>{_watched(before)}</div>"
        f'<div class="ft-now">{beside}</div></div></section>'
    )


def _watched(answer: WatchAnswer) -> str:
    """What was written, and whether it broke off there."""
    ending = '<p class="ft-warning">The model stopped here: its numbers became infinite.</p>' if answer.broken else ""
    return f'<div class="ft-text">{escape(answer.answer)}</div>{ending}'


def _watch_note(before: WatchAnswer, at: WatchAnswer) -> str:
    if before.broken or at.broken:
        return "cannot be compared"
    return "unchanged" if at.answer == before.answer else "changed"


def _marks(times: Sequence[Snapshot], now: Snapshot) -> str:
    """What stands at which place of the slider: every step, or where there are many the ends and the chosen one."""
    if len(times) == 1:
        return ""
    shown = (
        times if len(times) <= MOST_MARKS else [times[0], *([] if now in (times[0], times[-1]) else [now]), times[-1]]
    )
    marks = "".join(f"<span{' class=ft-here' if one is now else ''}>{step_name(one.step)}</span>" for one in shown)
    return f'<div class="ft-marks">{marks}</div>'


def _last(metrics: Sequence[StepMetrics], key: str) -> float | None:
    return next((value for row in reversed(metrics) if math.isfinite(value := as_float(getattr(row, key)))), None)


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)
