"""Plain values to what the page shows. No Gradio here, so that every view can be tested as a function.

Text from people and models goes into HTML escaped: what is shown is exactly what was written.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from sft_app.runs import RunStatus
from sft_app.summary import clock, loss_change

STATE_WORDS = {
    "queued": "Waiting for its turn",
    "preparing": "Preparing",
    "training": "Training",
    "scoring": "Saving and comparing",
    "finished": "Finished",
    "stopped": "Stopped",
    "failed": "Failed",
    "interrupted": "Interrupted",
}
RUN_COLUMNS = ["Run", "State", "Model", "Data", "Steps", "Held-out loss", "Time"]


def status_card(summary: dict[str, Any], status: RunStatus, metrics: Sequence[dict[str, Any]]) -> str:
    """State, progress and the numbers of a run."""
    state = status.state
    share = 100 * status.step / status.total_steps if status.total_steps else 0
    facts = [
        ("Step", f"{status.step} of {status.total_steps}" if status.total_steps else "–"),
        ("Elapsed", clock(status.elapsed_seconds()) if status.started_utc else "–"),
        ("Left", time_left(status, metrics)),
        ("Speed", _number(_last(metrics, "tokens_per_second"), "{:.0f} tokens/s")),
        ("Memory", _number(_last(metrics, "memory_gib"), "{:.1f} GiB")),
        ("Held-out loss", loss_change(summary)),
    ]
    cells = "".join(f"<div><dt>{name}</dt><dd>{escape(value)}</dd></div>" for name, value in facts)
    notes = "".join(f"<p>{escape(text)}</p>" for text in (status.message, status.hint) if text)
    title = escape(summary["name"] or summary["run"])
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


def loss_frame(metrics: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """`step`, `loss`, `part` (training or held-out); a step measured twice counts once."""
    points: dict[tuple[int, str], float] = {}
    for row in metrics:
        for key, part in (("loss", "training"), ("heldout_loss", "held-out")):
            if key in row:
                points[row["step"], part] = row[key]
    rows = [(step, loss, part) for (step, part), loss in points.items()]
    return pd.DataFrame(rows, columns=["step", "loss", "part"])


def snapshot_cards(snapshots: Sequence[dict[str, Any]]) -> str:
    """The watch prompts with their answers at each step, the newest first; a repeated answer is not shown again."""
    if not snapshots:
        return empty_card("The answers to your watch prompts appear here while the model learns.")
    prompts = [answer["prompt"] for answer in snapshots[0]["answers"]]
    return "".join(_snapshot_card(prompt, place, snapshots) for place, prompt in enumerate(prompts))


def answer_card(side: str, answer: Any, is_waiting: bool) -> str:
    """One pane of a comparison: exact text, and how it ended."""
    text, tokens, finished = answer.text, answer.tokens, answer.finished
    if is_waiting:
        ending = f"{tokens} tokens …" if tokens else "thinking …"
    else:
        ending = f"{tokens} tokens, {'ended by itself' if finished else 'cut at the limit'}"
    name = {"base": "Base model", "tuned": "Fine-tuned"}[side]
    return (
        f'<section class="ft-card ft-answer ft-{side}"><header><strong>{name}</strong><span>{ending}</span></header>'
        f'<div class="ft-text" data-side="{side}">{escape(text)}</div></section>'
    )


def blank_answer(side: str) -> str:
    """A pane before the first comparison."""
    name, text = {
        "base": ("Base model", "The model as it was, before your examples."),
        "tuned": ("Fine-tuned", "The same model after training on your examples."),
    }[side]
    return (
        f'<section class="ft-card ft-answer ft-{side} ft-blank"><header><strong>{name}</strong></header>'
        f'<div class="ft-text">{text}</div></section>'
    )


def evidence_line(evidence: Any) -> str:
    """What was really compared, in one line."""
    if evidence.modules:
        active = f"adapter active in {evidence.modules} modules"
    else:
        active = "fully fine-tuned weights" if evidence.adapter_active else "the adapter changes nothing"
    parts = [
        f"Run <code>{escape(evidence.run)}</code>",
        active,
        evidence.how,
        f"{evidence.prompt_tokens} prompt tokens",
    ]
    if evidence.identical is not None:
        parts.append("<b>the two answers are the same</b>" if evidence.identical else "the two answers differ")
    return f'<p class="ft-evidence">{" · ".join(parts)}</p>'


def evidence_note(text: str) -> str:
    """The same line while there is nothing to prove yet."""
    return f'<p class="ft-evidence">{escape(text)}</p>'


def runs_frame(summaries: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """The table of runs, one row each."""
    rows = [
        [
            summary["name"] or summary["run"],
            STATE_WORDS[summary["state"]],
            summary["model"] or "?",
            Path(summary["data"] or "?").name,
            f"{summary['steps']}/{summary['total_steps']}" if summary["total_steps"] else "–",
            loss_change(summary),
            clock(summary["seconds"]),
        ]
        for summary in summaries
    ]
    return pd.DataFrame(rows, columns=RUN_COLUMNS)


def run_label(summary: dict[str, Any]) -> str:
    """A run in a list of choices."""
    name = f"{summary['name']} · " if summary["name"] else ""
    return f"{name}{summary['run']} · {STATE_WORDS[summary['state']].lower()}"


def time_left(status: RunStatus, metrics: Sequence[dict[str, Any]]) -> str:
    """From the pace of the last steps; a guess, so it is rounded."""
    timed = [row for row in metrics if "loss" in row][-20:]
    if status.state != "training" or len(timed) < 2 or timed[-1]["step"] <= timed[0]["step"]:
        return "–"
    pace = (timed[-1]["elapsed_seconds"] - timed[0]["elapsed_seconds"]) / (timed[-1]["step"] - timed[0]["step"])
    return f"about {clock(pace * (status.total_steps - status.step))}"


def _snapshot_card(prompt: str, place: int, snapshots: Sequence[dict[str, Any]]) -> str:
    entries: list[tuple[int, str]] = []
    for snapshot in snapshots:
        answer = snapshot["answers"][place]["answer"]
        if not entries or entries[-1][1] != answer:
            entries.append((snapshot["step"], answer))
    items = "".join(
        f"<li><b>{'Before training' if step == 0 else f'Step {step}'}</b>"
        f'<div class="ft-text">{escape(answer)}</div></li>'
        for step, answer in reversed(entries)
    )
    title = f"<header><strong>“{escape(prompt)}”</strong></header>"
    return f'<section class="ft-card ft-watch">{title}<ol>{items}</ol></section>'


def _last(metrics: Sequence[dict[str, Any]], key: str) -> float | None:
    return next((row[key] for row in reversed(metrics) if row.get(key) is not None), None)


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)
