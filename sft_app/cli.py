"""The command line: the page's jobs without a browser. Heavy libraries are imported by the command that needs them."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console

from sft_app.cli_hub import push, push_space
from sft_app.cli_options import JsonFlag, RunArgument
from sft_app.errors import AppError, SettingsError
from sft_app.runs.directory import check_settled, find_run, list_runs, move_in_queue, queued_runs
from sft_app.runs.folder import Run
from sft_app.runs.summary import summarise_run
from sft_app.runtime.environment import app_home
from sft_app.settings import (
    EXAMPLE_DATA,
    EXAMPLE_PROMPT,
    Format,
    Method,
    Preset,
    RunSettings,
    TrainerKind,
    parse_assignments,
    parse_settings,
)
from sft_app.terminal import (
    console,
    follow_run,
    print_cleaning,
    print_facts,
    print_inspection,
    print_json,
    print_ollama,
    print_pair,
    print_preflight,
    print_prompt_job,
    print_reading,
    print_runs,
    print_scorecard,
    print_summary,
    progress_bar,
    without_library_chatter,
)

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Fine-tune a chat model and see what changed.")

FormatOption = Annotated[Format | None, typer.Option(help="Layout of the rows; auto detects it.")]
MapOption = Annotated[
    list[str] | None,
    typer.Option("--map", metavar="ROLE=COLUMN", help="Column for a role: user, assistant, system or context."),
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Any setting, e.g. max_steps=20.")
]
Export = Literal["adapter", "merged", "ollama", "report"]


def main(arguments: list[str] | None = None) -> None:
    """Errors for the reader become one line on stderr and exit status 1."""
    warnings.filterwarnings("ignore", category=FutureWarning)  # what libraries tell their developers
    try:
        app(arguments)
    except AppError as error:
        sentence = " ".join(str(error).splitlines())
        Console(stderr=True, soft_wrap=True).print(f"Error: {sentence}", markup=False, highlight=False)
        sys.exit(1)


@app.command()
def ui(
    host: Annotated[str | None, typer.Option(help="Address to listen on; default: 127.0.0.1.")] = None,
    port: Annotated[int, typer.Option(help="First port to try.")] = 7860,
) -> None:
    """Open the page."""
    from sft_app.hosting import detect_hosting, lock_secrets_away
    from sft_app.ui.serving.zero_gpu import import_spaces

    hosting = detect_hosting()
    lock_secrets_away()
    import_spaces()
    from sft_app.ui.page import launch_page

    launch_page(app_home(), host, port, hosting)


@app.command()
def inspect(
    data: Annotated[str, typer.Argument(help="A file, or the id of a data set on the Hub.")],
    format: FormatOption = None,
    columns: MapOption = None,
    model: Annotated[str, typer.Option(help="Model whose tokenizer counts the tokens.")] = "starter",
    max_length: Annotated[int | None, typer.Option(help="Maximum tokens per conversation; default: automatic.")] = None,
    assignments: SetOption = None,
    fix: Annotated[bool, typer.Option("--fix", help="Apply the recommended fixes; the source is not changed.")] = False,
    out: Annotated[Path | None, typer.Option(help="JSONL file to write the usable conversations to.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Read a data source and say what is in it, what is left out and why, and what could be mended."""
    from sft_app.data.checkup.fixes import RECOMMENDED, write_cleaned_copy
    from sft_app.data.checkup.inspection import inspect_data
    from sft_app.data.reading import open_data
    from sft_app.models.catalog import resolve_model
    from sft_app.models.loading import load_tokenizer

    if fix and out is None:
        raise SettingsError("--fix needs --out FILE, because the source is never changed.")
    given = {
        "data": data,
        "format": format or "auto",
        "columns": columns or (),
        "model": model,
        "max_length": max_length,
    }
    settings = parse_settings({**given, **parse_assignments(assignments or [])})
    home = app_home()
    with progress_bar("Reading", quiet=as_json) as tell:
        file = open_data(settings.reading(), home, tell)
        tokenizer = load_tokenizer(resolve_model(settings.model, settings.revision, home), home)
        inspection = inspect_data(file, settings, tokenizer, tell)
    if out is not None:
        with progress_bar("Writing", quiet=as_json) as tell:
            cleaning = write_cleaned_copy(file, RECOMMENDED if fix else (), out, tell)
    if as_json:
        return print_json(inspection.as_json())
    print_inspection(inspection.as_json())
    if out is not None:
        print_cleaning(cleaning, out)


@app.command()
def train(
    config: Annotated[Path | None, typer.Option(help="A JSON file with settings.")] = None,
    data: Annotated[str | None, typer.Option(help=f"Data file; default: {EXAMPLE_DATA}.")] = None,
    model: Annotated[str | None, typer.Option(help="starter, a Hub id, or a folder.")] = None,
    method: Annotated[
        Method | None, typer.Option(help="Default: qlora on a GPU, lora on a CPU, full with the classic trainer.")
    ] = None,
    trainer: Annotated[TrainerKind | None, typer.Option(help="sft: TRL; classic: transformers.")] = None,
    preset: Annotated[Preset | None, typer.Option(help="Named set of values; default: quick.")] = None,
    format: FormatOption = None,
    columns: MapOption = None,
    assignments: SetOption = None,
    name: Annotated[str | None, typer.Option(help="A name that helps you recognise the run.")] = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="Return immediately; the run continues in the background.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what the run would take.")] = False,
    measure: Annotated[bool, typer.Option("--measure", help="With --dry-run: measure two real steps.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Fine-tune, and follow the run to its end."""
    from sft_app.training.launch import submit_run

    flags: dict[str, Any] = {"data": data, "format": format, "columns": columns or None, "model": model}
    flags |= {"method": method, "trainer": trainer, "preset": preset, "name": name}
    given = {key: value for key, value in flags.items() if value is not None}
    settings = _settings_from(config, {**given, **parse_assignments(assignments or [])})
    if dry_run or measure:
        _tell_reading(settings)
        return _look_ahead(settings, measure, as_json)
    _tell_reading(settings)
    run = submit_run(settings, app_home())
    if not detach:
        follow_run(run, quiet=as_json)
    summary = summarise_run(run)
    if as_json:
        print_json(summary)
    elif detach:
        console.print(f"Run {run.id} is queued. Follow it with: python -m sft_app status {run.id}")
    else:
        print_summary(summary)
    if summary["state"] in ("failed", "interrupted"):
        raise AppError(f"Run {run.id} {summary['state']}: {summary['message']}")


@app.command()
def runs(as_json: JsonFlag = False) -> None:
    """List every run, the newest first."""
    summaries = [summarise_run(run) for run in list_runs(app_home())]
    if as_json:
        return print_json(summaries)
    print_runs(summaries)


@app.command()
def status(run: RunArgument, as_json: JsonFlag = False) -> None:
    """Say where a run is."""
    summary = summarise_run(find_run(app_home(), run))
    if as_json:
        return print_json(summary)
    print_summary(summary)


@app.command()
def stop(
    run: RunArgument,
    discard: Annotated[bool, typer.Option("--discard", help="Keep nothing: no adapter, no checkpoints.")] = False,
) -> None:
    """Stop a run after the step at work; the adapter so far is kept."""
    from sft_app.training.launch import cancel_run, stop_run

    found = find_run(app_home(), run)
    if discard:
        cancel_run(found)
        return console.print(f"Run {found.id} was cancelled; nothing was kept.")
    stop_run(found)
    console.print(f"Run {found.id} will stop after this step and save its adapter.")


@app.command()
def resume(run: RunArgument) -> None:
    """Go on with a stopped, failed or interrupted run from its last checkpoint."""
    from sft_app.training.launch import resume_run

    found = find_run(app_home(), run)
    resume_run(found, app_home())
    console.print(f"Run {found.id} is queued again. Follow it with: python -m sft_app status {found.id}")


@app.command()
def move(
    run: RunArgument,
    by: Annotated[
        int | None, typer.Option(metavar="N", help="Number of places to move back; negative: forward.")
    ] = None,
    first: Annotated[bool, typer.Option("--first", help="Move to the front of the queue.")] = False,
    last: Annotated[bool, typer.Option("--last", help="Move to the end of the queue.")] = False,
) -> None:
    """Give a queued run another place in the queue."""
    if (by is not None) + first + last != 1:
        raise typer.BadParameter("give one of --first, --last or --by N.")
    found, home = find_run(app_home(), run), app_home()
    waiting = len(queued_runs(home))
    move_in_queue(home, found, -waiting if first else waiting if last else by or 0)
    console.print("Queue order: " + ", ".join(queued.id for queued in queued_runs(home)))


@app.command()
def delete(run: RunArgument) -> None:
    """Delete a run with everything in its folder."""
    from sft_app.storage.keeper import delete_everywhere

    found = find_run(app_home(), run)
    console.print(f"Run {found.id} was deleted. {delete_everywhere(app_home(), found)}".rstrip())


@app.command()
@without_library_chatter()
def compare(
    run: Annotated[
        str,
        typer.Argument(metavar="RUN", help="A run, one of its checkpoints (RUN/checkpoint-40), or another adapter."),
    ],
    against: Annotated[str, typer.Option(help="The other side: `base`, or anything RUN can be.")] = "base",
    prompt: Annotated[list[str] | None, typer.Option(help="A question; can be given several times.")] = None,
    prompts: Annotated[
        Path | None, typer.Option(help="A file of prompts, in the formats of “Many prompts” on the page.")
    ] = None,
    prompt_column: Annotated[str, typer.Option(help="Prompt column of that file; default: detected by name.")] = "",
    reference_column: Annotated[
        str, typer.Option(help="Reference column of that file; default: detected by name.")
    ] = "",
    out: Annotated[Path | None, typer.Option(help="With --prompts: the .csv or .jsonl file to write.")] = None,
    system: Annotated[str | None, typer.Option(help="System prompt; default: the run's.")] = None,
    max_new_tokens: Annotated[int | None, typer.Option(min=1, help="Maximum length of an answer, in tokens.")] = None,
    temperature: Annotated[
        float | None, typer.Option(min=0.0, max=2.0, help="0: always the most likely token.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Random seed for the sampling.")] = None,
    strength: Annotated[
        float, typer.Option(min=0.0, max=1.5, help="Strength of the adapter; 0 is the base model.")
    ] = 1.0,
    as_json: JsonFlag = False,
) -> None:
    """Answer prompts with the base and the fine-tuned model, side by side."""
    from sft_app.evaluation.prompt_job import answer_all, refuse_other_endings, write_results
    from sft_app.evaluation.prompt_sets import read_prompt_file
    from sft_app.inference.pair import load_pair
    from sft_app.inference.sides import conditions_of, find_sides
    from sft_app.inference.stream import compare_prompt

    if prompts is not None and (prompt or strength != 1.0):
        raise SettingsError("--prompts cannot be combined with --prompt or --strength.")
    if out is not None:
        if prompts is None:
            raise SettingsError("--out requires --prompts FILE.")
        refuse_other_endings(out)
    sides = find_sides(against, run, app_home())
    system, sampling = conditions_of(sides[1], app_home(), system, max_new_tokens, temperature, seed)
    if prompts is not None:
        found_prompts = read_prompt_file(prompts, prompt_column, reference_column).prompts
        with progress_bar("Answering", quiet=as_json) as tell:
            job = answer_all(sides, found_prompts, system, sampling, app_home(), tell)
        if out is not None:
            write_results(job, out)
        return print_prompt_job(job, out, as_json)
    pair = load_pair(sides, app_home())
    results = []
    for text in prompt or [EXAMPLE_PROMPT]:
        found = compare_prompt(pair, text, system, sampling, strength)
        results.append({"prompt": text, **found.as_record()})
        if not as_json:
            print_pair(text, found)
    if as_json:
        print_json({"run": sides[1].name, "results": results})


@app.command()
@without_library_chatter()
def score(
    run: RunArgument,
    prompts: Annotated[
        int | None,
        typer.Option(min=0, help="Number of held-out questions both sides answer; default: the run's setting."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Measure base and fine-tuned model on the held-out conversations and on general questions."""
    from sft_app.evaluation.score_run import keep_score
    from sft_app.inference.pair import load_pair
    from sft_app.inference.sides import BASE, find_sides

    found = find_run(app_home(), run)
    check_settled(found, "measure it once it has ended")
    asked = found.record().settings.scorecard_prompts if prompts is None else prompts
    pair = load_pair(find_sides(BASE, found.id, app_home()), app_home())
    with progress_bar("Measuring both sides", quiet=as_json) as tell:
        card = keep_score(found, pair, asked, tell)
    print_json(card) if as_json else print_scorecard(card)


@app.command()
def export(
    run: RunArgument,
    kind: Annotated[
        Export,
        typer.Option(
            "--as",
            help="adapter: a zip; merged: base and adapter as one model; ollama: merged plus a Modelfile; "
            "report: what changed, as HTML and Markdown.",
        ),
    ],
    to: Annotated[Path, typer.Option(metavar="DIR", help="The folder to write to; created if missing.")],
) -> None:
    """Take something out of a run: its report to pass on, its adapter, or the whole model."""
    from sft_app.export.adapter import zip_adapter
    from sft_app.export.report import write_report

    found = find_run(app_home(), run)
    if kind in ("merged", "ollama"):
        return _export_merged(found, to, for_ollama=kind == "ollama")
    for file in write_report(found, to) if kind == "report" else [zip_adapter(found, to)]:
        console.print(str(file), soft_wrap=True)


app.command()(push)
app.command()(push_space)


@app.command()
def doctor(as_json: JsonFlag = False) -> None:
    """Say what this machine can do."""
    from sft_app.models.diagnosis import diagnose

    facts = diagnose(app_home())
    if as_json:
        return print_json(facts)
    print_facts(facts)


def _export_merged(run: Run, to: Path, for_ollama: bool) -> None:
    from sft_app.export.merged import follow
    from sft_app.export.package import prepare_merged, prepare_ollama, told_fidelity

    with progress_bar("Merging", quiet=False) as tell:
        merged = follow(prepare_merged(run, to.absolute() / run.merged_dir.name), lambda step: tell(step.share))
        package = follow(prepare_ollama(run, merged), lambda step: tell(step.share)) if for_ollama else None
    for file in sorted(merged.folder.iterdir()):
        console.print(str(file), soft_wrap=True)
    sentence, is_warning = told_fidelity(merged)
    console.print(sentence, style="yellow" if is_warning else None, soft_wrap=True)
    if package is not None:
        print_ollama(package)


def _tell_reading(settings: RunSettings) -> None:
    """Before training, on stderr: what of the data is not learnt, and an example where its reading is a guess."""
    from sft_app.data.reading import first_example, open_data

    file = open_data(settings.reading(), app_home())
    print_reading(file.told(first_example(file)), Console(stderr=True))


def _look_ahead(settings: RunSettings, measure: bool, as_json: bool) -> None:
    from sft_app.training.preflight.fitting import look_ahead

    with progress_bar("Estimating", quiet=as_json) as tell:
        found, suggestion = look_ahead(settings, app_home(), measure, tell)
    print_preflight(found, suggestion, as_json)


def _settings_from(config: Path | None, given: dict[str, Any]) -> RunSettings:
    """A config file's values under the ones given on the command line."""
    from sft_app.models.hardware import complete_settings

    values: dict[str, Any] = {}
    if config is not None:
        try:
            values = json.loads(config.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise SettingsError(f"{config} cannot be read as JSON: {error}.") from error
        if not isinstance(values, dict):
            raise SettingsError(f"{config} must contain a JSON object with settings, got {type(values).__name__}.")
    values |= given
    return complete_settings(values)
