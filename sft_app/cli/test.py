"""The command that runs tests that people wrote: `test`."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from sft_app.cli.options import JsonFlag
from sft_app.cli.terminal import console, print_error, print_json, progress_bar, without_library_warnings
from sft_app.data.checkup.finding import count_of
from sft_app.errors import AppError, DataError, SettingsError
from sft_app.runs.folder import Run
from sft_app.runtime.home import app_home
from sft_app.runtime.resources import NOT_ENOUGH_MEMORY, is_out_of_memory

if TYPE_CHECKING:
    from sft_app.evaluation.suites.tests_file import Suite
    from sft_app.runs.suite_scores import SuiteScores

FAILED, NOT_RUN = 1, 2


@without_library_warnings()
def test(
    run: Annotated[
        str,
        typer.Argument(metavar="RUN", help="A run, one of its checkpoints (RUN/checkpoint-40), or an adapter."),
    ],
    file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Tests as .yaml or .jsonl; default: the tests saved with the run."),
    ] = None,
    against: Annotated[str, typer.Option(help="The other side: `base`, or anything that RUN can be.")] = "base",
    side: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SIDE",
            help="A further side: anything that RUN can be, `prompted` (the base with the nearest examples), or a file "
            "of recorded answers; can be repeated.",
        ),
    ] = None,
    name: Annotated[list[str] | None, typer.Option(metavar="TEST", help="Run only this test; can be repeated.")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Save the tests of --file with the run.")] = False,
    suggest: Annotated[
        bool, typer.Option("--suggest", help="Print tests that the run's own examples suggest, as YAML; run nothing.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Run tests on the fine-tuned model and the base model.

    Exit status: 0 if RUN passes every test that was run (with --name: every named test), 1 if it fails one, and 2 if
    the tests could not be run, for example because the file or the run cannot be read. The other side only serves as a
    comparison. Both models always pick the most likely token, so a repeated call gives the same result.
    """
    try:
        if suggest:
            return _print_suggestions(run, file, name)
        scores = _run(run, file, (against, side or []), name or [], keep, as_json)
    except (Exception, KeyboardInterrupt) as error:  # whatever it is, no test may count as failed
        _print_error(error)
        sys.exit(NOT_RUN)
    print_suite_json(scores) if as_json else print_suite(scores)
    if scores.passed(1) < len(scores.tests):
        sys.exit(FAILED)


def _print_error(error: BaseException) -> None:
    if isinstance(error, KeyboardInterrupt):
        message = "The tests were stopped before all of them had run."
    elif isinstance(error, AppError):
        message = str(error)
    elif is_out_of_memory(error):
        message = NOT_ENOUGH_MEMORY
    else:
        traceback.print_exception(error)
        message = f"The tests could not be run: {type(error).__name__}: {error}"
    print_error(message)


def print_suite(scores: SuiteScores) -> None:
    """Print which tests each side passes, the checks that the second side fails, and what it means."""
    from sft_app.evaluation.suites.summary import failing_tests, pass_rates, suite_sentence

    if scores.problem:
        return console.print(suite_sentence(scores), style="yellow")
    title = f"{count_of(len(scores.tests), 'test')} from {scores.origin}"
    table = Table("test", *scores.sides, title=title, title_justify="left")
    for judged in scores.tests:
        table.add_row(judged.name, *("passed" if answer.passed else "failed" for answer in judged.answers))
    console.print(table)
    for judged in failing_tests(scores, 1):
        console.print(f"{judged.name}: {' '.join(judged.answers[1].failed)}", soft_wrap=True)
    for rate in pass_rates(scores):
        console.print(f"{rate.side}: {rate.passed} of {rate.total} passed (95% interval {rate.interval})")
    console.print(suite_sentence(scores))


def print_suite_json(scores: SuiteScores) -> None:
    from sft_app.evaluation.suites.summary import suite_facts

    print_json(suite_facts(scores))


def _run(
    run: str, file: Path | None, others: tuple[str, list[str]], names: list[str], keep: bool, quiet: bool
) -> SuiteScores:
    from sft_app.evaluation.selection import with_flattering_tests
    from sft_app.evaluation.sides.side_names import find_pair_and_more
    from sft_app.evaluation.suites.kept import keep_tests
    from sft_app.evaluation.suites.running import run_suite
    from sft_app.evaluation.suites.tests_file import read_tests
    from sft_app.inference.pair import load_pair
    from sft_app.inference.sides import conditions_of, run_of_side
    from sft_app.runs.directory import list_runs

    read = read_tests(file) if file else None
    sides, more = find_pair_and_more(others[0], run, others[1], app_home())
    found = run_of_side(sides[1].name, list_runs(app_home()))
    whole = read or _kept(found)
    suite = whole.chosen(names)
    if keep:
        if read is None or found is None:
            raise SettingsError("--keep requires --file FILE and a run to save the tests with.")
        keep_tests(found, read)
    system, sampling = conditions_of(sides[1], app_home(), temperature=0.0)
    with progress_bar("Running tests", quiet=quiet) as report:
        scores = run_suite(load_pair(sides, app_home()), suite, system, sampling, report, more)
    return with_flattering_tests(found, scores, suite) if found else scores


def _kept(run: Run | None) -> Suite:
    from sft_app.evaluation.suites.kept import kept_tests

    suite = kept_tests(run) if run else None
    if suite is None:
        raise DataError("No tests are saved with this run. Give a file of tests: --file tests.yaml.")
    return suite


def _print_suggestions(run: str, file: Path | None, name: list[str] | None) -> None:
    from sft_app.evaluation.suites.suggestions import suggest_tests, suggestions_yaml
    from sft_app.runs.directory import find_run

    if file or name:
        raise SettingsError("--suggest only reads the run's examples. Leave out --file and --name.")
    sys.stdout.write(suggestions_yaml(suggest_tests(find_run(app_home(), run))))
