"""The output of `inspect`: how a file is read, what the check-up found, and what the fixes did."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from sft_app.cli.terminal import console, print_notes

if TYPE_CHECKING:
    from sft_app.data.checkup.fixes import Cleaning

PREVIEW_CHARACTERS = 200
SEVERITY_STYLES = {"serious": "bold red", "check": "yellow", "note": "dim"}


def print_inspection(report: dict[str, Any]) -> None:
    from sft_app.data.checkup.finding import count_of
    from sft_app.data.checkup.fixes import RECOMMENDED

    tokens, turns, split = report["tokens"], report["turns"], report["split"]
    counts = f"{count_of(report['conversations'], 'conversation')} in {count_of(report['rows'], 'row')}"
    console.print(f"{counts}, read as {' '.join([report['format'], *report['columns']])}", style="bold")
    for guess in report["guesses"]:
        console.print(f"layout: {' '.join([guess['format'], *guess['columns']])}: {guess['why']}")
    print_reading(report["reading"], console)
    print_notes(report["chat_template_notes"])
    console.print(
        f"turns: {turns['single']:,} with one answer, {turns['several']:,} with several, at most {turns['max']}"
    )
    parts = f"{split['train']:,} to train on, {split['heldout']:,} held out for evaluation"
    console.print(f"split: {parts if split['heldout'] else 'too few to train on some and evaluate on others'}")
    measured = "" if tokens["measured"] == tokens["of"] else f" (from a sample of {tokens['measured']:,})"
    spread = f"half have at most {tokens['p50']:,}, 95% at most {tokens['p95']:,}, the longest has {tokens['max']:,}"
    console.print(f"tokens: {spread}{measured}")
    automatic = " (automatic)" if tokens["max_length"] == tokens["suggested_max_length"] else ""
    console.print(f"max_length {tokens['max_length']:,}{automatic}")
    for kept in tokens["kept"]:
        shares = (
            f"{kept['conversations']:.1%} of conversations whole and {kept['trained_tokens']:.1%} of the answer tokens"
        )
        console.print(f"  max_length {kept['max_length']:>7,} keeps {shares}")
    for finding in report["findings"]:
        rows = f" Rows {_numbers(finding['rows'])}." if finding["rows"] else ""
        severity, fixable = finding["severity"], " --fix repairs this." if finding["fix"] in RECOMMENDED else ""
        said = f"{severity} ({finding['kind']}): {finding['message']}{rows}{fixable}"
        console.print(said, style=SEVERITY_STYLES[severity])
    for kind in ("rejected", "not_chosen"):
        _print_left_out(report[kind])


def print_reading(reading: dict[str, Any], to: Console) -> None:
    """Print what a file's layout leaves out, and an example if the layout is a guess."""
    print_notes(reading["notes"], to)
    if reading["certainty"] != "guess":
        return
    to.print(f"This layout is a guess: {reading['why']}. The first row becomes:", style="yellow", soft_wrap=True)
    for message in reading["example"]:
        line = f"  {message['role']}: {_shortened(message['content'])}"
        to.print(line, markup=False, highlight=False, soft_wrap=True)
    to.print("If this is wrong, choose the columns with --map, or the layout with --format.", style="yellow")


def _shortened(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= PREVIEW_CHARACTERS else f"{text[:PREVIEW_CHARACTERS].rstrip()} …"


def print_cleaning(cleaning: Cleaning, out: Path) -> None:
    for fix in cleaning.applied:
        console.print(f"fixed: {fix.sentence()}", style="green")
    console.print(f"Conversations written to {out}", soft_wrap=True)


def _print_left_out(rows: list[dict[str, Any]]) -> None:
    """Print one line per reason."""
    by_reason: dict[str, list[int]] = {}
    for row in rows:
        by_reason.setdefault(row["reason"], []).append(row["row"])
    for reason, numbers in by_reason.items():
        label = "row" if len(numbers) == 1 else f"{len(numbers):,} rows,"
        console.print(f"skipped: {label} {_numbers(numbers)}: {reason}", style="red")


def _numbers(rows: list[int], limit: int = 10) -> str:
    shown = ", ".join(map(str, rows[:limit]))
    return shown if len(rows) <= limit else f"{shown} and {len(rows) - limit} more"
