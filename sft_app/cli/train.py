"""The command that fine-tunes a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from sft_app.cli.data_output import print_reading
from sft_app.cli.options import (
    AssistantOption,
    ChatTemplateOption,
    FormatOption,
    HeldoutOption,
    JsonFlag,
    MapOption,
    SetOption,
    SheetOption,
    TestsOption,
    ValidationOption,
    read_chat_template,
)
from sft_app.cli.terminal import (
    console,
    follow_run,
    print_json,
    print_notes,
    print_preflight,
    print_summary,
    progress_bar,
)
from sft_app.data.checkup.finding import count_of
from sft_app.errors import AppError, SettingsError
from sft_app.runs.folder import Run
from sft_app.runs.learning import describe_learning
from sft_app.runs.summary import summarise_run
from sft_app.runtime.files import read_jsonl
from sft_app.runtime.home import app_home
from sft_app.settings import (
    EXAMPLE_DATA,
    Method,
    Preset,
    RunSettings,
    TrainerKind,
    parse_assignments,
)


def train(
    config: Annotated[Path | None, typer.Option(help="A JSON file with settings.")] = None,
    data: Annotated[str | None, typer.Option(help=f"Data file or Hub id; default: {EXAMPLE_DATA}.")] = None,
    heldout: HeldoutOption = None,
    validation: ValidationOption = None,
    model: Annotated[str | None, typer.Option(help="`starter`, a Hub id, or a folder.")] = None,
    method: Annotated[
        Method | None, typer.Option(help="Default: qlora on a GPU, lora on a CPU, full with the classic trainer.")
    ] = None,
    trainer: Annotated[TrainerKind | None, typer.Option(help="sft uses TRL, classic uses transformers.")] = None,
    preset: Annotated[Preset | None, typer.Option(help="Named set of settings; default: quick.")] = None,
    format: FormatOption = None,
    columns: MapOption = None,
    assistant: AssistantOption = None,
    sheet: SheetOption = None,
    chat_template: ChatTemplateOption = None,
    assignments: SetOption = None,
    tests: TestsOption = None,
    name: Annotated[str | None, typer.Option(help="A name that helps you recognise the run.")] = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="Return immediately; the run continues in the background.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show the memory, time and disk space that the run would need.")
    ] = False,
    measure: Annotated[bool, typer.Option("--measure", help="With --dry-run: measure two real steps.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Fine-tune a model, and follow the run until it ends."""
    from sft_app.evaluation.power import rows_sentence
    from sft_app.training.launch import submit_run

    flags: dict[str, Any] = {"data": data, "heldout_data": heldout, "validation_data": validation, "model": model}
    flags |= {"format": format, "columns": columns or None, "assistant": assistant, "sheet": sheet}
    flags |= {"method": method, "trainer": trainer, "preset": preset, "name": name, "tests": tests}
    flags |= {"chat_template": read_chat_template(chat_template)}
    options = {key: value for key, value in flags.items() if value is not None}
    settings = settings_from(config, {**options, **parse_assignments(assignments or [])})
    _print_reading(settings)
    if dry_run or measure:
        return _look_ahead(settings, measure, as_json)
    run = submit_run(settings, app_home())
    _print_tests(run)
    if not as_json:
        groups = [row.get("group", number) for number, row in enumerate(read_jsonl(run.heldout_file))]
        console.print(rows_sentence(len(set(groups)), conversations=len(groups)))
    if not detach:
        follow_run(run, quiet=as_json)
    summary = summarise_run(run)
    if as_json:
        print_json(summary.as_record())
    elif detach:
        console.print(f"Run {run.id} is queued. Follow it with: python -m sft_app status {run.id}")
    else:
        print_summary(summary)
        if summary.state == "finished" and (learned := describe_learning(run.metrics())):
            print_notes([learned])
    if summary.state in ("failed", "interrupted"):
        raise AppError(f"Run {run.id} {summary.state}: {summary.message}")


def settings_from(config: Path | None, options: dict[str, Any]) -> RunSettings:
    """Return the settings of a config file, overridden by those on the command line."""
    from sft_app.models.hardware import complete_settings

    values: dict[str, Any] = {}
    if config is not None:
        try:
            values = json.loads(config.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise SettingsError(f"{config} cannot be read as JSON: {error}.") from error
        if not isinstance(values, dict):
            raise SettingsError(f"{config} must contain a JSON object with settings, got {type(values).__name__}.")
    values |= options
    return complete_settings(values)


def _print_reading(settings: RunSettings) -> None:
    """Print to stderr, before training, what the layout leaves out, an example if it is a guess, and what is unusual
    about a chat template that was chosen."""
    from sft_app.data.reading import first_example, open_data

    file, to = open_data(settings.reading(), app_home()), Console(stderr=True)
    print_reading(file.summary(first_example(file)), to)
    if (settings.chat_template or settings.enable_thinking) and file.settings.format != "text":
        from sft_app.models.catalog import resolve_model
        from sft_app.training.preflight.template_check import check_template_of_run

        ref = resolve_model(settings.model, settings.revision, app_home())
        print_notes(check_template_of_run(settings, ref, app_home()), to)


def _print_tests(run: Run) -> None:
    """Print to stderr which tests will be run at the end, and where they come from."""
    from sft_app.evaluation.suites.kept import kept_tests

    if suite := kept_tests(run):
        print_notes(
            [f"At its end, the run is tested with {count_of(len(suite.tests), 'test')} from {suite.origin}."],
            Console(stderr=True),
        )


def _look_ahead(settings: RunSettings, measure: bool, as_json: bool) -> None:
    from sft_app.training.preflight.fitting import look_ahead

    with progress_bar("Estimating", quiet=as_json) as report:
        found, suggestion = look_ahead(settings, app_home(), measure, report)
    print_preflight(found, suggestion, as_json)
