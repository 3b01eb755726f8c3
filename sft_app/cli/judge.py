"""The command that asks a model which answers are better: `judge`."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from sft_app.cli.options import JsonFlag, RunArgument
from sft_app.cli.terminal import console, print_error, print_json, progress_bar
from sft_app.errors import AppError, DataError
from sft_app.runs.directory import find_run
from sft_app.runtime.home import app_home

if TYPE_CHECKING:
    from sft_app.evaluation.judge.result import JudgeResult

NOT_ASKED = 2


def judge(
    run: RunArgument,
    address: Annotated[
        str,
        typer.Option(
            metavar="URL",
            help="A server with OpenAI-compatible chat completions, such as http://localhost:11434/v1 for Ollama.",
        ),
    ],
    model: Annotated[str, typer.Option(metavar="NAME", help="The model that judges.")],
    checklist: Annotated[
        Path | None, typer.Option(metavar="FILE", help="What to look for, a point on each line; default: our own.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Ask about at most this many pairs now.")] = None,
    timeout: Annotated[
        float, typer.Option(min=1, metavar="SECONDS", help="The longest that a single reply may take.")
    ] = 600.0,
    as_json: JsonFlag = False,
) -> None:
    """Ask a model which answers of the blind test are better, each pair in both orders.

    The prompts, reference answers and both models' answers are sent to the address, without saying which model wrote
    which. A key is read from SFT_APP_JUDGE_KEY. Ollama silently cuts long prompts, so start it with
    OLLAMA_CONTEXT_LENGTH=16384 ollama serve. Verdicts are saved with the run, and a repeated call asks only about
    pairs without one. The verdict counts once the judge agrees with people's votes more often than chance does. Exit
    status: 0, or 2 if the judge could not be asked.
    """
    try:
        found = _judge(run, address, model, checklist, limit, timeout, as_json)
    except AppError as error:
        print_error(str(error))
        sys.exit(NOT_ASKED)
    print_json(found.facts()) if as_json else print_judge(found)


def print_judge(found: JudgeResult) -> None:
    """Print how many pairs the judge gave to each side, and what that means."""
    from sft_app.evaluation.judge.result import OUTCOME_LABELS, judge_sentences

    table = Table(*OUTCOME_LABELS, title=f"Judged by {found.judge[1]}", title_justify="left")
    table.add_row(*map(str, found.outcomes()))
    console.print(table)
    for sentence in judge_sentences(found):
        console.print(sentence)


def _judge(
    run: str, address: str, model: str, checklist: Path | None, limit: int | None, timeout: float, quiet: bool
) -> JudgeResult:
    from sft_app.evaluation.answer_pairs import read_pairs
    from sft_app.evaluation.judge.client import make_judge
    from sft_app.evaluation.judge.judgements import judge_pairs, missing_pairs
    from sft_app.evaluation.judge.questions import CHECKLIST, read_checklist
    from sft_app.evaluation.judge.result import judge_result

    found, asked = find_run(app_home(), run), replace(make_judge(address, model), reply_seconds=timeout)
    points = read_checklist(checklist) if checklist else CHECKLIST
    pairs = missing_pairs(found, asked, points, limit)
    with progress_bar("Judging", quiet=quiet) as report:
        for done, _ in enumerate(judge_pairs(found, pairs, asked, points), 1):
            report(done / len(pairs))
    if (result := judge_result(found, asked, points)) is None:
        if read_pairs(found):
            raise DataError(
                f"In every pair of run {found.id}, both answers say the same thing, so there is nothing to judge. "
                "Answer other prompts with both sides."
            )
        raise DataError(
            f"{asked.model} has not judged any pair of run {found.id}. Answer prompts with both sides first, for "
            f"example: python -m sft_app score {found.id}"
        )
    return result
