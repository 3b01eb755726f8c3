"""The command that measures a run: `score`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sft_app.cli.options import JsonFlag, RunArgument
from sft_app.cli.terminal import console, print_json, print_scorecard, progress_bar, without_library_warnings
from sft_app.errors import SettingsError
from sft_app.runs.directory import check_settled, find_run
from sft_app.runs.folder import Run
from sft_app.runtime.home import app_home

if TYPE_CHECKING:
    from sft_app.runs.scorecard import Scorecard


@without_library_warnings()
def score(
    run: RunArgument,
    prompts: Annotated[
        int | None,
        typer.Option(min=0, help="Number of held-out questions that both sides answer; default: the run's setting."),
    ] = None,
    general: Annotated[
        Path | None,
        typer.Option(help="A file of general questions (JSONL, JSON, YAML), kept with the run; default: the run's."),
    ] = None,
    not_worse_by: Annotated[
        float | None,
        typer.Option(metavar="MARGIN", help="Also ask whether the loss rose by more than this, in nats per token."),
    ] = None,
    side: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SIDE",
            help="A further side that answers the same questions: another run, a checkpoint, an adapter, or a file of "
            "recorded answers; can be repeated.",
        ),
    ] = None,
    strength: Annotated[
        float | None,
        typer.Option(
            help="Make a copy of the run with its adapter at this share of its trained strength, and measure it."
        ),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Measure the base and fine-tuned models on the held-out conversations and on general questions."""
    from sft_app.evaluation.margins import check_margin, loss_margins

    if not_worse_by is not None:
        check_margin(not_worse_by)
    found = find_run(app_home(), run)
    check_settled(found, "measure it once it has ended")
    count = found.record().settings.scorecard_prompts if prompts is None else prompts
    measured, card = _measure(found, count, side or [], general, strength, as_json)
    margins = [] if not_worse_by is None else loss_margins(card, not_worse_by)
    if as_json:
        copied = {} if strength is None else {"run": measured.id}
        asked = {"not_worse_by": list(map(asdict, margins))} if margins else {}
        return print_json({**card.as_record(), **copied, **asked})
    print_scorecard(card)
    for one in margins:
        console.print(one.sentence)
    if strength is not None:
        console.print(f"Saved as run {measured.id}; run {found.id} is unchanged.")


def _measure(
    run: Run, prompts: int, sides: list[str], general: Path | None, strength: float | None, quiet: bool
) -> tuple[Run, Scorecard]:
    """Measure a run, or with `strength` a copy of it, and return what was measured with its scorecard."""
    from sft_app.evaluation.forgetting.general_questions import read_general_questions
    from sft_app.evaluation.score_run import keep_score
    from sft_app.evaluation.sides.scored_sides import find_scored_sides
    from sft_app.evaluation.strength_copy import at_strength
    from sft_app.inference.pair import load_pair

    questions = [] if general is None else read_general_questions(general.expanduser())
    if sides and not prompts:
        raise SettingsError("--side requires questions to answer. Use --prompts 20, for example.")
    with at_strength(run, strength) as measured:
        pair_sides, more = find_scored_sides(measured.id, sides, app_home())
        pair = load_pair(pair_sides, app_home())
        with progress_bar("Measuring all sides", quiet=quiet) as report:
            return measured, keep_score(measured, pair, prompts, report, more=more, general=questions)
