"""The command line: what the page does, without a browser. Each command imports the heavy libraries it needs."""

from __future__ import annotations

import sys
import warnings
from typing import Annotated

import typer

from sft_app.cli.compare import compare
from sft_app.cli.data import inspect
from sft_app.cli.export import export, push, push_space_command
from sft_app.cli.judge import judge
from sft_app.cli.options import JsonFlag
from sft_app.cli.runs import delete, move, resume, runs, status, stop
from sft_app.cli.score import score
from sft_app.cli.terminal import (
    print_error,
    print_facts,
    print_json,
)
from sft_app.cli.test import test
from sft_app.cli.train import train
from sft_app.errors import AppError
from sft_app.runtime.home import app_home
from sft_app.runtime.resources import NOT_ENOUGH_MEMORY, is_out_of_memory

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Fine-tune a chat model and see what changed.",
    pretty_exceptions_show_locals=False,  # a local variable may hold a key
)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line. An `AppError`, or running out of memory, becomes one line on stderr and exit status 1."""
    warnings.filterwarnings("ignore", category=FutureWarning)  # meant for the libraries' developers
    try:
        app(arguments)
    except Exception as error:
        if not isinstance(error, AppError) and not is_out_of_memory(error):
            raise
        message = " ".join(str(error).splitlines()) if isinstance(error, AppError) else NOT_ENOUGH_MEMORY
        print_error(message)
        sys.exit(1)


def ui(
    host: Annotated[str | None, typer.Option(help="Address to listen on; default: 127.0.0.1.")] = None,
    port: Annotated[int, typer.Option(help="First port to try.")] = 7860,
) -> None:
    """Start the page."""
    from sft_app.hosting import detect_hosting, isolate_space_tokens
    from sft_app.ui.serving.zero_gpu import import_spaces

    hosting = detect_hosting()
    isolate_space_tokens()
    import_spaces()
    from sft_app.ui.page import launch_page

    launch_page(app_home(), host, port, hosting)


def doctor(as_json: JsonFlag = False) -> None:
    """Show what this machine can do."""
    from sft_app.models.diagnosis import diagnose

    facts = diagnose(app_home())
    if as_json:
        return print_json(facts)
    print_facts(facts)


# In the order in which `--help` lists them.
for command in (
    ui,
    inspect,
    train,
    runs,
    status,
    stop,
    resume,
    move,
    delete,
    compare,
    score,
    test,
    judge,
    export,
    push,
):
    app.command()(command)
app.command("push-space")(push_space_command)
app.command()(doctor)
