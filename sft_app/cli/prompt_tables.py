"""Print the answers to a prompt set, and how the sides compare with the reference answers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from sft_app.cli.terminal import console, print_json, print_notes
from sft_app.runs.summary import clock

if TYPE_CHECKING:
    from sft_app.evaluation.prompt_job import PromptJob
    from sft_app.evaluation.sides.side_metrics import NonInferiority, SideMetrics


def print_prompt_job(job: PromptJob, out: Path | None, as_json: bool, judged: NonInferiority | None = None) -> None:
    """Print the answers of all sides, or where they were written, and what the references say about them."""
    from sft_app.evaluation.prompt_sets import result_rows
    from sft_app.evaluation.sides.side_metrics import side_metrics

    metrics = side_metrics(job.results, job.names, job.labels)
    if as_json:
        found = {"sides": [vars(side) for side in metrics], "notes": job.notes}
        verdict = {"not_worse": judged.as_record()} if judged else {}
        rows = result_rows(job.results, job.names)
        return print_json({"run": job.run, "results": rows, **{k: v for k, v in found.items() if v}, **verdict})
    summary = f"{len(job.results):,} prompts answered in {clock(job.seconds)}"
    if out is None:
        _print_answers(job, summary)
    else:
        console.print(f"{summary}, written to {out}")
    _print_metrics(metrics)
    print_notes(job.notes)
    if judged:
        console.print(judged.sentence)


def _print_answers(job: PromptJob, title: str) -> None:
    table = Table("", "Prompt", *job.labels, "Change", title=title, title_justify="left", show_lines=True, expand=True)
    ratios = (None, 2, *(4 for _ in job.labels), None)
    for column, ratio in zip(table.columns, ratios, strict=True):
        column.ratio = ratio
    for result in job.results:
        more = [f"Not answered: {side.problem}" if side.problem else side.text for side in result.more]
        table.add_row(str(result.number), result.prompt, *result.shown_pair(), *more, result.change_text)
    console.print(table)


def _print_metrics(sides: list[SideMetrics]) -> None:
    from sft_app.evaluation.answer_metrics import ANSWER_METRICS

    if not sides:
        return
    title = f"{sides[0].prompts} different prompts that have a reference answer and were answered by every side"
    table = Table("", *(side.label for side in sides), title=title, title_justify="left")
    for name, metric in ANSWER_METRICS.items():
        values = [metric.shown.format(side.metrics[name]) if name in side.metrics else "–" for side in sides]
        table.add_row(metric.label, *values)
    if any(side.missing for side in sides):
        table.add_row("prompts without an answer", *(str(side.missing) for side in sides))
    console.print(table)
