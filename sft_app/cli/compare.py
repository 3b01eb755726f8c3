"""The commands that compare the base model with the fine-tuned one: `compare` and `score`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sft_app.cli.options import JsonFlag, RunArgument, ThinkingOption
from sft_app.cli.prompt_tables import print_prompt_job
from sft_app.cli.terminal import (
    print_json,
    print_pair,
    print_scorecard,
    progress_bar,
    without_library_warnings,
)
from sft_app.errors import SettingsError
from sft_app.runs.directory import check_settled, find_run
from sft_app.runtime.home import app_home
from sft_app.settings import (
    EXAMPLE_PROMPT,
)


@without_library_warnings()
def compare(
    run: Annotated[
        str,
        typer.Argument(metavar="RUN", help="A run, one of its checkpoints (RUN/checkpoint-40), or an adapter."),
    ],
    against: Annotated[str, typer.Option(help="The other side: `base`, or anything that RUN can be.")] = "base",
    prompt: Annotated[list[str] | None, typer.Option(help="A prompt; can be repeated.")] = None,
    prompts: Annotated[
        Path | None, typer.Option(help="A file of prompts: text, CSV, TSV, JSONL, JSON or Parquet.")
    ] = None,
    prompt_column: Annotated[str, typer.Option(help="Prompt column of the file; default: detected by name.")] = "",
    reference_column: Annotated[
        str, typer.Option(help="Reference column of the file; default: detected by name.")
    ] = "",
    side: Annotated[
        list[str] | None,
        typer.Option(
            help="With --prompts: a further side; can be repeated. Anything that RUN can be, `base`, `prompted` (the "
            "base with the nearest training examples in front), or a file of recorded answers."
        ),
    ] = None,
    examples: Annotated[int, typer.Option(min=0, max=32, help="Examples in front of each prompt for `prompted`.")] = 3,
    not_worse_than: Annotated[
        str | None, typer.Option(metavar="SIDE", help="With --prompts: check that RUN is not worse than this side.")
    ] = None,
    margin: Annotated[
        float | None, typer.Option(help="How much worse is acceptable, for example 0.05 for five percentage points.")
    ] = None,
    metric: Annotated[str, typer.Option(help="What to judge by: chrf, rouge_l, exact_match …")] = "chrf",
    out: Annotated[Path | None, typer.Option(help="With --prompts: the .csv or .jsonl file to write.")] = None,
    system: Annotated[str | None, typer.Option(help="System prompt; default: the run's.")] = None,
    max_new_tokens: Annotated[int | None, typer.Option(min=1, help="Maximum length of an answer, in tokens.")] = None,
    temperature: Annotated[
        float | None, typer.Option(min=0.0, max=2.0, help="Sampling temperature; 0 always picks the most likely token.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Random seed for sampling.")] = None,
    strength: Annotated[float, typer.Option(min=0.0, max=1.5, help="Adapter strength; 0 is the base model.")] = 1.0,
    enable_thinking: ThinkingOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Answer prompts with the base and fine-tuned models, side by side."""
    from sft_app.evaluation.prompt_job import answer_all, check_answers_ending, write_results
    from sft_app.evaluation.prompt_sets import read_prompt_file
    from sft_app.evaluation.side_metrics import not_worse_than as judge
    from sft_app.evaluation.side_names import find_pair_and_more
    from sft_app.inference.pair import load_pair
    from sft_app.inference.sides import conditions_of
    from sft_app.inference.stream import compare_prompt

    if prompts is not None and (prompt or strength != 1.0):
        raise SettingsError("--prompts cannot be combined with --prompt or --strength.")
    if prompts is None and (side or not_worse_than):
        raise SettingsError("--side and --not-worse-than require --prompts FILE.")
    if (not_worse_than is None) != (margin is None):
        raise SettingsError("Give --not-worse-than SIDE and --margin together: how much worse would be acceptable?")
    if out is not None:
        if prompts is None:
            raise SettingsError("--out requires --prompts FILE.")
        check_answers_ending(out)
    sides, more = find_pair_and_more(against, run, side or [], app_home(), enable_thinking, examples)
    system, sampling = conditions_of(sides[1], app_home(), system, max_new_tokens, temperature, seed)
    if prompts is not None:
        found_prompts = read_prompt_file(prompts, prompt_column, reference_column).prompts
        with progress_bar("Answering", quiet=as_json) as report:
            job = answer_all(sides, found_prompts, system, sampling, app_home(), report, more)
        if out is not None:
            write_results(job, out)
        judged = judge(job.results, job.names, not_worse_than, margin, metric) if not_worse_than and margin else None
        return print_prompt_job(job, out, as_json, judged)
    pair = load_pair(sides, app_home())
    results = []
    for text in prompt or [EXAMPLE_PROMPT]:
        found = compare_prompt(pair, text, system, sampling, strength)
        results.append({"prompt": text, **found.as_record()})
        if not as_json:
            print_pair(text, found)
    if as_json:
        print_json({"run": sides[1].name, "results": results})


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
    as_json: JsonFlag = False,
) -> None:
    """Measure the base and fine-tuned models on the held-out conversations and on general questions."""
    from sft_app.evaluation.general_questions import keep_general_questions, read_general_questions
    from sft_app.evaluation.score_run import keep_score
    from sft_app.inference.pair import load_pair
    from sft_app.inference.sides import BASE, find_sides

    found = find_run(app_home(), run)
    check_settled(found, "measure it once it has ended")
    count = found.record().settings.scorecard_prompts if prompts is None else prompts
    questions = None if general is None else read_general_questions(general.expanduser())
    pair = load_pair(find_sides(BASE, found.id, app_home()), app_home())
    if questions is not None:
        keep_general_questions(found.general_file, questions)
    with progress_bar("Measuring both sides", quiet=as_json) as report:
        card = keep_score(found, pair, count, report)
    print_json(card.as_record()) if as_json else print_scorecard(card)
