"""The commands that send something to the Hugging Face Hub."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from sft_app.cli_options import JsonFlag, RunArgument
from sft_app.runs.directory import find_run
from sft_app.runtime.environment import app_home
from sft_app.terminal import console, print_json, progress_bar

if TYPE_CHECKING:
    from sft_app.export.hub import Pushed
    from sft_app.export.merged import MergedModel
    from sft_app.runs.folder import Run

RepoOption = Annotated[
    str, typer.Option(metavar="USER/NAME", help="The repository; NAME alone means your own account.")
]
PublicFlag = Annotated[bool, typer.Option("--public/--private", help="Who can see it.")]


def push(
    run: RunArgument,
    repo: RepoOption,
    kind: Annotated[
        Literal["adapter", "merged"],
        typer.Option("--as", help="The adapter, or base and adapter merged into one model."),
    ] = "adapter",
    public: PublicFlag = False,
    include_data: Annotated[bool, typer.Option("--include-data", help="Also push the conversations.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Send what a run has learnt, with its card, to the Hugging Face Hub; after a break it goes on where it was."""
    from sft_app.export.hub import Target, checked_target, push_run, warning_for

    found, target = find_run(app_home(), run), Target(repo, private=not public)
    checked_target(target)
    _warn(warning_for(not public, include_data))
    merged = _merged_of(found, as_json) if kind == "merged" else None
    with progress_bar("Uploading", quiet=as_json) as tell:
        pushed = push_run(found, target, include_data, on_progress=tell, merged=merged)
    _tell(pushed, as_json)


def push_space(
    repo: RepoOption,
    adapter: Annotated[
        str | None,
        typer.Option(
            metavar="USER/NAME", help="An adapter on the Hub: the Space then only compares it with its base model."
        ),
    ] = None,
    public: PublicFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Put this app online as a Space of the Hugging Face Hub, or bring the Space up to date."""
    from sft_app.export.hub import Target
    from sft_app.export.space import push_space

    with progress_bar("Uploading", quiet=as_json) as tell:
        pushed = push_space(Target(repo, private=not public), adapter, tell)
    _tell(pushed, as_json)


def _merged_of(run: Run, quiet: bool) -> MergedModel:
    from sft_app.export.merged import follow
    from sft_app.export.package import prepare_merged

    with progress_bar("Merging", quiet) as tell:
        return follow(prepare_merged(run, run.merged_dir), lambda step: tell(step.share))


def _warn(sentence: str) -> None:
    if sentence:
        typer.secho(f"Warning: {sentence}", err=True, fg="yellow")


def _tell(pushed: Pushed, as_json: bool) -> None:
    if as_json:
        return print_json(asdict(pushed))
    console.print(pushed.url, soft_wrap=True)
    for note in pushed.notes:
        console.print(note, style="yellow")
