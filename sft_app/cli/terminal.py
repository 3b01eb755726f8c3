"""The output of the command line: progress, tables, two answers side by side."""

from __future__ import annotations

import logging
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from sft_app.cli.score_tables import print_beside_training
from sft_app.data.checkup.finding import count_of
from sft_app.errors import AppError
from sft_app.runs.folder import Run
from sft_app.runs.summary import RunSummary, clock, loss_change, unjudged_note
from sft_app.runtime.files import json_text
from sft_app.settings import OWN_TEMPLATE

if TYPE_CHECKING:
    from sft_app.export.package import OllamaPackage
    from sft_app.inference.stream import PairUpdate
    from sft_app.runs.scorecard import Scorecard, Scores
    from sft_app.training.preflight.fitting import Suggestion
    from sft_app.training.preflight.plan import Preflight

# Names, prompts and answers are shown as they are, never read as markup.
console = Console(markup=False, highlight=False)
FOLLOW_SECONDS = 0.5


def follow_run(run: Run, quiet: bool) -> None:
    """Show progress until the run ends. Ctrl-C leaves the run running.

    Raises: AppError on Ctrl-C, with the command that stops the run.
    """
    try:
        _follow_in_a_bar(run, quiet) if quiet or console.is_terminal else _follow_in_lines(run)
    except KeyboardInterrupt:
        raise AppError(
            f"Run {run.id} continues in the background. Stop it with: python -m sft_app stop {run.id}"
        ) from None


def _follow_in_a_bar(run: Run, quiet: bool) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}"), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=quiet) as progress:
        bar = progress.add_task(run.id, total=None, note="")
        while not (now := run.status()).has_ended():
            note = f"{now.state} {now.step}/{now.total_steps}" if now.total_steps else now.state
            progress.update(bar, completed=now.step, total=now.total_steps or None, note=note)
            time.sleep(FOLLOW_SECONDS)
        progress.update(bar, completed=now.step, total=now.total_steps or None, note=now.state)


def _follow_in_lines(run: Run) -> None:
    """Print a line when the state changes or another 10% is done, for output that cannot be redrawn."""
    printed = None
    while not (now := run.status()).has_ended():
        tenths = 10 * now.step // now.total_steps if now.total_steps else 0
        if printed != (now.state, tenths):
            console.print(f"{run.id} {now.state} {now.step}/{now.total_steps} {now.message}".rstrip())
            printed = (now.state, tenths)
        time.sleep(FOLLOW_SECONDS)


def print_error(message: str) -> None:
    """Print why a command failed to the error stream."""
    Console(stderr=True, soft_wrap=True).print(f"Error: {message}", markup=False, highlight=False)


def print_json(value: Any) -> None:
    """Print one JSON document. NaN and infinity, which JSON does not have, become null."""
    sys.stdout.write(json_text(value, indent=2) + "\n")


@contextmanager
def without_library_warnings() -> Iterator[None]:
    """Hide the warnings of libraries, so that they do not appear between answers. Errors are still shown."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextmanager
def progress_bar(title: str, quiet: bool) -> Iterator[Callable[[float], None]]:
    """Show a progress bar, and yield a function to report the share done. Nothing is drawn outside a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as progress:
        bar = progress.add_task(title, total=1.0)
        yield lambda share: progress.update(bar, completed=share)


def print_notes(notes: Sequence[str], to: Console = console) -> None:
    for note in notes:
        to.print(note, style="yellow", markup=False, highlight=False, soft_wrap=True)


def print_preflight(found: Preflight, suggestion: Suggestion | None, as_json: bool) -> None:
    from sft_app.ui.train.preflight_views import heldout_sentence, memory_parts, preflight_facts, preflight_notes

    if as_json:
        changed = {"changes": suggestion.changes, "sentence": suggestion.sentence} if suggestion else None
        return print_json({**found.as_json(), "suggestion": changed})
    for name, value in preflight_facts(found):
        console.print(f"{name.lower()}: {value}")
    for name, gib in memory_parts(found):
        console.print(f"  {name.lower()} {gib:.2f} GiB")
    if found.measured is not None:
        measured = found.measured
        console.print(f"  measured {measured.peak_gib:.2f} GiB, {measured.seconds_per_step:.1f} s per step")
    console.print(heldout_sentence(found, "Add --measure"))
    for note in preflight_notes(found, suggestion):
        console.print(note, style="yellow")
    if suggestion is not None:
        console.print(" ".join(f"--set {name}={value}" for name, value in suggestion.changes.items()))


def print_summary(summary: RunSummary) -> None:
    parts = (summary.run, summary.name, summary.state, summary.message)
    console.print(" ".join(part for part in parts if part), style="bold")
    console.print(f"steps {summary.steps}/{summary.total_steps}, {clock(summary.seconds)}")
    if summary.heldout_loss_tuned is not None:
        console.print(f"held-out loss {loss_change(summary)}")
    print_notes(summary.data_notes)
    if summary.state != "failed" and (note := unjudged_note(summary)):
        console.print(note, style="yellow")
    if summary.chat_template and summary.chat_template != OWN_TEMPLATE:
        console.print(f"chat template: {summary.chat_template}")
    if summary.adapter:
        console.print(f"adapter saved in {summary.adapter}", soft_wrap=True)


def print_pair(prompt: str, found: PairUpdate) -> None:
    from sft_app.inference.evidence import evidence_parts

    names = found.evidence.left.label, found.evidence.right.label
    table = Table(*names, title=prompt, title_justify="left", show_lines=True, expand=True)
    table.columns[0].ratio = table.columns[1].ratio = 1
    table.add_row(found.left.text, found.right.text)
    console.print(table)
    console.print(" · ".join(evidence_parts(found.evidence)), style="dim")
    for reason in found.evidence.reasons:
        console.print(reason)


def print_ollama(package: OllamaPackage) -> None:
    """Print how Ollama will behave differently, and the next commands."""
    print_notes(package.model.notes)
    print_notes([package.gguf_problem] if package.gguf_problem else [])
    console.print(f"Next:\n  {package.model.command}", soft_wrap=True)
    console.print(f"  ollama run {package.model.name}", soft_wrap=True)
    if package.manual_commands:
        console.print("For a GGUF file, or if Ollama does not support the architecture:", soft_wrap=True)
        for command in package.manual_commands:
            console.print(f"  {command}", soft_wrap=True)


def print_scorecard(card: Scorecard) -> None:
    """Print the parts as tables, and a summary sentence."""
    from sft_app.evaluation.results.headline import headline
    from sft_app.evaluation.verdicts import (
        computed_note,
        judgeable_answers,
        note_before_numbers,
        scorecard_lines,
        summary_sentence,
    )

    parts: dict[str, Scores] = {f"{count_of(card.row_count, 'held-out conversation')}, the reference answers": card}
    if card.general:
        parts[f"{count_of(card.general.row_count, 'general question')}: did it forget?"] = card.general
    if answers := judgeable_answers(card):
        parts[f"{count_of(answers.prompts, 'held-out question')}, the models' own answers"] = answers
    for title, part in parts.items():
        table = Table("", "base", "fine-tuned", "difference (95% interval)", "", title=title, title_justify="left")
        table.columns[0].no_wrap = True
        for line in scorecard_lines(part):
            interval = f" ({line.interval})" if line.interval else ""
            table.add_row(line.label, line.base, line.tuned, f"{line.difference}{interval}", line.verdict)
        console.print(table)
        if note := note_before_numbers(part):
            console.print(note, style="yellow")
    print_beside_training(card, console)
    console.print(" ".join(filter(None, [summary_sentence(card), computed_note(card)])))
    print_kept_tests(card)
    _print_forgetting(card)
    console.print(str(headline(card)), style="bold")


def _print_forgetting(card: Scorecard) -> None:
    from sft_app.evaluation.forgetting.sentences import KNOWN_COLUMNS, describe_known, forgetting_sentence

    if card.general is not None:
        console.print(forgetting_sentence(card))
    if (known := describe_known(card)) is None:
        return
    for title, rows in known.tables:
        table = Table(*KNOWN_COLUMNS, title=title, title_justify="left")
        for row in rows:
            table.add_row(*row)
        console.print(table)
    for lost in known.lost:
        console.print(f"lost: {lost.question} ({lost.detail})")
        for name, text in lost.texts:
            console.print(f"  {name}: {text}")
    console.print(known.sentence, style="bold red" if known.is_worse else "yellow" if known.is_unclear else None)


def print_kept_tests(card: Scorecard) -> None:
    """Print what the run's own tests show, if it has any."""
    from sft_app.evaluation.suites.summary import kept_tests_sentence

    if card.tests is not None:
        console.print(f"Your tests: {kept_tests_sentence(card.tests)}")


def print_runs(summaries: Sequence[RunSummary]) -> None:
    table = Table("run", "name", "state", "model", "data", "steps", "held-out loss", "time")
    for summary in summaries:
        table.add_row(
            summary.run,
            summary.name,
            summary.state,
            summary.model or "?",
            Path(summary.data or "?").name,
            f"{summary.steps}/{summary.total_steps}",
            loss_change(summary),
            clock(summary.seconds),
        )
    console.print(table if summaries else "There are no runs yet. Start one with: python -m sft_app train")


def print_facts(facts: dict[str, Any]) -> None:
    table = Table("", "", show_header=False)
    for key, value in facts.items():
        table.add_row(key.replace("_", " "), str(value))
    console.print(table)
