"""The commands that export a run to a folder or push it to the Hugging Face Hub."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, assert_never

import typer

from sft_app.cli.options import JsonFlag, RunArgument
from sft_app.cli.terminal import (
    console,
    print_json,
    print_ollama,
    progress_bar,
)
from sft_app.runs.directory import find_run
from sft_app.runs.folder import Run
from sft_app.runtime.home import app_home

if TYPE_CHECKING:
    from sft_app.export.hub_push import PushResult
    from sft_app.export.merged import MergedModel


Export = Literal["adapter", "merged", "ollama", "report"]
RepoOption = Annotated[str, typer.Option(metavar="USER/NAME", help="The repository; NAME alone uses your own account.")]
PublicFlag = Annotated[bool, typer.Option("--public/--private", help="Who can see the repository.")]


def export(
    run: RunArgument,
    kind: Annotated[
        Export,
        typer.Option(
            "--as",
            help="adapter: a zip; merged: the base model with the adapter merged in; ollama: merged plus a Modelfile; "
            "report: what changed, as HTML and Markdown.",
        ),
    ],
    to: Annotated[Path, typer.Option(metavar="DIR", help="The folder to write to; created if it does not exist.")],
) -> None:
    """Export a run: its adapter, the merged model, files for Ollama, or its report."""
    from sft_app.export.adapter import zip_adapter
    from sft_app.export.report import write_report

    found = find_run(app_home(), run)
    match kind:
        case "adapter":
            files = [zip_adapter(found, to)]
        case "merged" | "ollama":
            return _export_merged(found, to, for_ollama=kind == "ollama")
        case "report":
            files = write_report(found, to)
        case _:
            assert_never(kind)
    for file in files:
        console.print(str(file), soft_wrap=True)


def push(
    run: RunArgument,
    repo: RepoOption,
    kind: Annotated[
        Literal["adapter", "merged"],
        typer.Option("--as", help="The adapter, or the base model with the adapter merged in."),
    ] = "adapter",
    public: PublicFlag = False,
    include_data: Annotated[bool, typer.Option("--include-data", help="Also push the training conversations.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Push a run with its model card to the Hugging Face Hub. If interrupted, run it again to continue."""
    from sft_app.export.hub_push import PushTarget, check_target, push_run, visibility_warning

    found, target = find_run(app_home(), run), PushTarget(repo, private=not public)
    check_target(target)
    _warn(visibility_warning(not public, include_data))
    merged = _merge_run(found, as_json) if kind == "merged" else None
    with progress_bar("Uploading", quiet=as_json) as report:
        pushed = push_run(found, target, include_data, on_progress=report, merged=merged)
    _print_push(pushed, as_json)


def push_space_command(
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
    """Put this app online as a Hugging Face Space, or update that Space."""
    from sft_app.export.hub_push import PushTarget
    from sft_app.export.space import push_app_as_space

    with progress_bar("Uploading", quiet=as_json) as report:
        pushed = push_app_as_space(PushTarget(repo, private=not public), adapter, report)
    _print_push(pushed, as_json)


def _export_merged(run: Run, to: Path, for_ollama: bool) -> None:
    from sft_app.export.merged import follow
    from sft_app.export.package import fidelity_message, prepare_merged, prepare_ollama

    with progress_bar("Merging", quiet=False) as report:
        merged = follow(prepare_merged(run, to.absolute() / run.merged_dir.name), lambda step: report(step.share))
        package = follow(prepare_ollama(run, merged), lambda step: report(step.share)) if for_ollama else None
    for file in sorted(merged.folder.iterdir()):
        console.print(str(file), soft_wrap=True)
    message, is_warning = fidelity_message(merged)
    console.print(message, style="yellow" if is_warning else None, soft_wrap=True)
    if package is not None:
        print_ollama(package)


def _merge_run(run: Run, quiet: bool) -> MergedModel:
    from sft_app.export.merged import follow
    from sft_app.export.package import prepare_merged

    with progress_bar("Merging", quiet) as report:
        return follow(prepare_merged(run, run.merged_dir), lambda step: report(step.share))


def _warn(warning: str) -> None:
    if warning:
        typer.secho(f"Warning: {warning}", err=True, fg="yellow")


def _print_push(pushed: PushResult, as_json: bool) -> None:
    if as_json:
        return print_json(asdict(pushed))
    console.print(pushed.url, soft_wrap=True)
    for note in pushed.notes:
        console.print(note, style="yellow")
