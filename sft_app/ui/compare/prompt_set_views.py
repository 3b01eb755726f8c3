"""Turn many answered prompts into a table, a progress card, and one result in full. Without Gradio."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from sft_app.evaluation.answer_metrics import ANSWER_METRICS
from sft_app.evaluation.prompt_job import PromptJob
from sft_app.evaluation.prompt_sets import PromptFile, PromptResult
from sft_app.evaluation.sides.side_metrics import side_metrics
from sft_app.runs.summary import clock
from sft_app.templating import render_html
from sft_app.ui import views
from sft_app.ui.compare.views import both_in_full

ColumnType = Literal["str", "number"]
MAX_TABLE_ROWS = 200
CELL_CHARACTERS = 220
NUMBER_COLUMN, CHANGE_COLUMN = "No.", "Change %"


@dataclass(frozen=True)
class ResultsTable:
    """The rows of the table, with the type and the width of each column."""

    frame: pd.DataFrame
    types: list[ColumnType]
    widths: list[str]


def results_table(job: PromptJob) -> ResultsTable:
    """Return the first rows. There is a column for references only if a row has one."""
    results = job.listed()[:MAX_TABLE_ROWS]
    with_reference = any(result.reference for result in results)
    columns = [NUMBER_COLUMN, "Prompt", *(["Reference"] if with_reference else [])]
    columns += [f"Left: {job.labels[0]}", f"Right: {job.labels[1]}", *job.labels[2:], CHANGE_COLUMN]
    texts: list[ColumnType] = ["str"] * (len(columns) - 2)
    widths = ["64px", "240px", *(["180px"] if with_reference else []), *("380px" for _ in job.labels), "110px"]
    frame = pd.DataFrame([_cells(result, with_reference) for result in results], columns=columns, dtype=object)
    return ResultsTable(frame, ["number", *texts, "number"], widths)


def prompts_progress_card(job: PromptJob, note: str = "") -> str:
    """Show the job's progress, its problems, and what the table leaves out."""
    if not job.total:
        return views.empty_card(
            "Paste prompts or choose a file, then press “Answer all prompts”. Both sides answer each prompt."
        )
    sides = [] if job.is_at_work or len(job.labels) < 3 else side_metrics(job.results, job.names, job.labels)
    return render_html(
        "compare/progress.html",
        sides=sides,
        metrics=ANSWER_METRICS,
        title=note or progress_text(job),
        percent=100 * len(job.results) / job.total,
        remarks=_remarks(job),
    )


def progress_text(job: PromptJob) -> str:
    """Return the job's progress or its outcome in words."""
    done, seconds_left = len(job.results), job.seconds_left()
    if job.is_stopping and job.is_at_work:
        return f"{done:,} of {job.total:,}, stopping after the prompts in progress …"
    if job.is_at_work:
        return f"{done:,} of {job.total:,}" + (
            "" if seconds_left is None else f", about {rounded_time(seconds_left)} left"
        )
    if done < job.total:
        return f"Stopped: {done:,} of {job.total:,} answered in {clock(job.seconds)}"
    return f"{done:,} {'prompt' if done == 1 else 'prompts'} answered in {clock(job.seconds)}"


def rounded_time(seconds: float) -> str:
    """Round an estimated time to the precision of the estimate."""
    if seconds < 90:
        return f"{max(5, 5 * round(seconds / 5))} s"
    return f"{round(seconds / 60)} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def pair_card(result: PromptResult, labels: Sequence[str]) -> str:
    """Show one prompt with all answers in full, and the differences between the first two marked."""
    panes = [] if result.problem else both_in_full(result.base, result.tuned, (labels[0], labels[1]))
    more = list(zip(labels[2:], result.more, strict=True))
    return render_html("compare/prompt.html", result=result, panes=panes, more=more)


def click_a_row() -> str:
    """Show how to open a result, while none is open."""
    text = "Click a row to read both answers in full, with the differences marked."
    return render_html("paragraph.html", kind="ft-evidence", text=text)


def file_note(found: PromptFile) -> str:
    """Show what was found in a prompt file."""
    text = f"{len(found.prompts):,} prompts"
    text += f" from the column “{found.prompt_column}”" if found.prompt_column else ""
    text += f", with “{found.added_column}” added to each" if found.added_column else ""
    text += f", references from “{found.reference_column}”" if found.reference_column else ", no references"
    if found.left_out:
        text += f"; {found.left_out:,} {'row' if found.left_out == 1 else 'rows'} skipped: no prompt, or unreadable"
    return render_html("paragraph.html", kind="ft-evidence", text=f"{text}.")


def _cells(result: PromptResult, with_reference: bool) -> list[object]:
    texts = [result.prompt, *([result.reference] if with_reference else [])]
    answers = [*result.shown_pair()]
    answers += [f"Not answered: {side.problem}" if side.problem else side.text for side in result.more]
    change = None if result.change is None else round(100 * result.change)
    return [result.number, *(_short(text) for text in (*texts, *answers)), change]


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= CELL_CHARACTERS else f"{line[:CELL_CHARACTERS]} …"


def _remarks(job: PromptJob) -> list[str]:
    remarks = list(job.notes)
    for place, label in enumerate(job.labels[2:]):
        if missing := sum(bool(result.more[place].problem) for result in job.results if result.more):
            remarks.append(f"{label}: no answer to {missing:,} of {len(job.results):,} prompts. Each row says why.")
    if problems := sum(bool(result.problem) for result in job.results):
        remarks.append(f"{problems:,} could not be answered. Each row says why.")
    if len(job.results) > MAX_TABLE_ROWS:
        remarks.append(
            f"The table shows {MAX_TABLE_ROWS} of {len(job.results):,} rows. The downloads contain all of them."
        )
    if job.is_kept and job.results:
        remarks.append("Answers are saved with the run as they arrive, so you can vote on them in the blind test.")
    return remarks
