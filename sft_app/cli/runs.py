"""The commands that show, stop, resume, reorder and delete runs."""

from __future__ import annotations

from typing import Annotated

import typer

from sft_app.cli.options import JsonFlag, RunArgument
from sft_app.cli.terminal import (
    console,
    print_json,
    print_runs,
    print_summary,
)
from sft_app.runs.directory import find_run, list_runs, move_in_queue, queued_runs
from sft_app.runs.summary import summarise_run
from sft_app.runtime.home import app_home


def runs(as_json: JsonFlag = False) -> None:
    """List all runs, newest first."""
    summaries = [summarise_run(run) for run in list_runs(app_home())]
    if as_json:
        return print_json([summary.as_record() for summary in summaries])
    print_runs(summaries)


def status(run: RunArgument, as_json: JsonFlag = False) -> None:
    """Show a run's state, steps and loss."""
    summary = summarise_run(find_run(app_home(), run))
    if as_json:
        return print_json(summary.as_record())
    print_summary(summary)


def stop(
    run: RunArgument,
    discard: Annotated[bool, typer.Option("--discard", help="Keep nothing: no adapter, no checkpoints.")] = False,
) -> None:
    """Stop a run after the current step and save its adapter."""
    from sft_app.training.launch import cancel_run, stop_run

    found = find_run(app_home(), run)
    if discard:
        cancel_run(found)
        return console.print(f"Run {found.id} was cancelled. Nothing was kept.")
    stop_run(found)
    console.print(f"Run {found.id} will stop after the current step and save its adapter.")


def resume(run: RunArgument) -> None:
    """Resume a stopped, failed or interrupted run from its last checkpoint."""
    from sft_app.training.launch import resume_run

    found = find_run(app_home(), run)
    resume_run(found, app_home())
    console.print(f"Run {found.id} is queued again. Follow it with: python -m sft_app status {found.id}")


def move(
    run: RunArgument,
    by: Annotated[
        int | None, typer.Option(metavar="N", help="Number of positions to move back; negative: forward.")
    ] = None,
    first: Annotated[bool, typer.Option("--first", help="Move to the front of the queue.")] = False,
    last: Annotated[bool, typer.Option("--last", help="Move to the end of the queue.")] = False,
) -> None:
    """Move a queued run to another position in the queue."""
    if (by is not None) + first + last != 1:
        raise typer.BadParameter("use one of --first, --last or --by N.")
    found, home = find_run(app_home(), run), app_home()
    count = len(queued_runs(home))
    move_in_queue(home, found, -count if first else count if last else by or 0)
    console.print("Queue order: " + ", ".join(queued.id for queued in queued_runs(home)))


def delete(run: RunArgument) -> None:
    """Delete a run and everything in its folder."""
    from sft_app.storage.backup import delete_everywhere

    found = find_run(app_home(), run)
    console.print(f"Run {found.id} was deleted. {delete_everywhere(app_home(), found)}".rstrip())
