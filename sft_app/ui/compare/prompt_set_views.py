"""Many prompts as a table, how far they are, and one of them in full. No Gradio here."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import Literal

import pandas as pd

from sft_app.evaluation.prompt_job import PromptJob
from sft_app.evaluation.prompt_sets import PromptFile, PromptResult
from sft_app.runs.summary import clock
from sft_app.ui import views
from sft_app.ui.compare.views import both_in_full

Kind = Literal["str", "number"]
SHOWN_ROWS = 200
LONGEST_CELL = 220
NUMBER, CHANGE = "No.", "Change %"


@dataclass(frozen=True)
class ResultsTable:
    """Rows, and for each column what it holds and how wide it is."""

    frame: pd.DataFrame
    kinds: list[Kind]
    widths: list[str]


def results_table(job: PromptJob) -> ResultsTable:
    """The first rows; the references have a column only where there are some."""
    results = job.listed()[:SHOWN_ROWS]
    with_reference = any(result.reference for result in results)
    columns = [NUMBER, "Prompt", *(["Reference"] if with_reference else [])]
    columns += [f"Left: {job.labels[0]}", f"Right: {job.labels[1]}", CHANGE]
    texts: list[Kind] = ["str"] * (len(columns) - 2)
    widths = ["64px", "240px", *(["180px"] if with_reference else []), "380px", "380px", "110px"]
    frame = pd.DataFrame([_cells(result, with_reference) for result in results], columns=columns, dtype=object)
    return ResultsTable(frame, ["number", *texts, "number"], widths)


def progress_card(job: PromptJob, note: str = "") -> str:
    """How far the job is, what came of it, and what the table leaves out."""
    if not job.total:
        return views.empty_card(
            "Paste prompts or choose a file, then press “Answer all prompts”. Both sides answer each prompt."
        )
    share = 100 * len(job.results) / job.total
    return (
        f'<section class="ft-card"><header><strong>{escape(note or told_progress(job))}</strong></header>'
        f'<div class="ft-bar" role="progressbar" aria-valuenow="{share:.0f}"><i style="width:{share:.1f}%"></i></div>'
        f"{''.join(f'<p>{text}</p>' for text in _remarks(job))}</section>"
    )


def told_progress(job: PromptJob) -> str:
    done, left = len(job.results), job.seconds_left()
    if job.is_stopping and job.is_at_work:
        return f"{done:,} of {job.total:,}, stopping after the prompts in progress …"
    if job.is_at_work:
        return f"{done:,} of {job.total:,}" + ("" if left is None else f", about {rounded_time(left)} left")
    if done < job.total:
        return f"Stopped: {done:,} of {job.total:,} answered in {clock(job.seconds)}"
    return f"{done:,} {'prompt' if done == 1 else 'prompts'} answered in {clock(job.seconds)}"


def rounded_time(seconds: float) -> str:
    """A guess, so no more digits than it deserves."""
    if seconds < 90:
        return f"{max(5, 5 * round(seconds / 5))} s"
    return f"{round(seconds / 60)} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def pair_card(result: PromptResult, labels: tuple[str, str]) -> str:
    """One prompt with both answers in full, and marked where they differ."""
    reference = f'<p class="ft-dim">Reference: {escape(result.reference)}</p>' if result.reference else ""
    head = (
        f'<section class="ft-card"><header><strong>Prompt {result.number:,}</strong>'
        f"<span>{'' if result.problem else f'{result.change_text} changed'}</span></header>"
        f'<p class="ft-question">{escape(result.prompt)}</p>{reference}</section>'
    )
    if result.problem:
        return head + views.problem_card(f"Not answered: {result.problem}")
    return f'{head}<div class="ft-columns">{"".join(both_in_full(result.base, result.tuned, labels))}</div>'


def click_a_row() -> str:
    return '<p class="ft-evidence">Click a row to read both answers in full, with the differences marked.</p>'


def file_note(found: PromptFile) -> str:
    """What was found in a file."""
    told = f"{len(found.prompts):,} prompts"
    if found.asked:
        told += f" from the column “{found.asked}”"
    told += f", references from “{found.given}”" if found.given else ", no references"
    if found.left_out:
        told += f"; {found.left_out:,} {'row' if found.left_out == 1 else 'rows'} skipped: no prompt, or unreadable"
    return f'<p class="ft-evidence">{escape(told)}.</p>'


def _cells(result: PromptResult, with_reference: bool) -> list[object]:
    texts = [result.prompt, *([result.reference] if with_reference else [])]
    answers = [f"Not answered: {result.problem}", ""] if result.problem else [result.base, result.tuned]
    change = None if result.change is None else round(100 * result.change)
    return [result.number, *(_short(text) for text in (*texts, *answers)), change]


def _short(text: str) -> str:
    told = " ".join(text.split())
    return told if len(told) <= LONGEST_CELL else f"{told[:LONGEST_CELL]} …"


def _remarks(job: PromptJob) -> list[str]:
    remarks = []
    if problems := sum(bool(result.problem) for result in job.results):
        remarks.append(f"{problems:,} could not be answered; each row says why.")
    if len(job.results) > SHOWN_ROWS:
        remarks.append(f"The table shows {SHOWN_ROWS} of {len(job.results):,} rows; the downloads contain all of them.")
    if job.is_kept and job.results:
        remarks.append("Answers are saved with the run as they arrive, so you can vote on them in the blind test.")
    return remarks
