"""The command that answers prompts with the base model and the fine-tuned one: `compare`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sft_app.cli.options import (
    ExamplesOption,
    JsonFlag,
    MarginOption,
    MetricOption,
    NotWorseOption,
    SideOption,
    ThinkingOption,
)
from sft_app.cli.prompt_tables import print_prompt_job
from sft_app.cli.terminal import (
    print_json,
    print_pair,
    progress_bar,
    without_library_warnings,
)
from sft_app.errors import SettingsError
from sft_app.runtime.home import app_home
from sft_app.settings import EXAMPLE_PROMPT

if TYPE_CHECKING:
    from sft_app.evaluation.prompt_job import PromptJob
    from sft_app.evaluation.sides.more_sides import MoreSide
    from sft_app.evaluation.sides.side_metrics import NonInferiority
    from sft_app.inference.generation import Sampling
    from sft_app.inference.sides import Side


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
    side: SideOption = None,
    examples: ExamplesOption = 3,
    not_worse_than: NotWorseOption = None,
    margin: MarginOption = None,
    metric: MetricOption = "chrf",
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
    from sft_app.evaluation.prompt_job import write_results
    from sft_app.evaluation.sides.side_names import find_pair_and_more
    from sft_app.inference.sides import conditions_of

    only_with_prompts = {"--out": out, "--side": side, "--not-worse-than": not_worse_than}
    _check_options(prompts, bool(prompt) or strength != 1.0, only_with_prompts)
    sides, more = find_pair_and_more(against, run, side or [], app_home(), enable_thinking, examples)
    judge = _make_judge(sides, more, not_worse_than, margin, metric)
    system, sampling = conditions_of(sides[1], app_home(), system, max_new_tokens, temperature, seed)
    if prompts is None:
        return _answer_prompts(sides, prompt or [EXAMPLE_PROMPT], system, sampling, strength, as_json)
    job = _answer_file(sides, more, (prompts, prompt_column, reference_column), system, sampling, as_json)
    if out is not None:
        write_results(job, out)
    print_prompt_job(job, out, as_json, judge(job))


def _check_options(prompts: Path | None, asks_single: bool, only_with_prompts: dict[str, Any]) -> None:
    """Raises: SettingsError if options do not go together, or answers cannot be written to the file."""
    from sft_app.evaluation.prompt_job import check_answers_ending

    if prompts is not None and asks_single:
        raise SettingsError("--prompts cannot be combined with --prompt or --strength.")
    for option, value in only_with_prompts.items():
        if prompts is None and value:
            raise SettingsError(f"{option} requires --prompts FILE.")
    if out := only_with_prompts["--out"]:
        check_answers_ending(out)


def _make_judge(
    sides: tuple[Side, Side], more: Sequence[MoreSide], against: str | None, margin: float | None, metric: str
) -> Callable[[PromptJob], NonInferiority | None]:
    """Return a function that asks whether the right side is not worse than `against`; it gives None if not asked.

    Raises: SettingsError if the question cannot be asked, before anything is answered.
    """
    from sft_app.evaluation.prompt_job import file_names
    from sft_app.evaluation.sides.recorded import is_recorded_file
    from sft_app.evaluation.sides.side_metrics import check_question, not_worse_than

    if (against is None) != (margin is None):
        raise SettingsError(
            "--not-worse-than SIDE and --margin belong together. Give both; --margin 0.05 accepts five points less."
        )
    if against is None or margin is None:
        return lambda job: None
    name = Path(against).name if is_recorded_file(against) else against
    check_question((*file_names(sides), *(side.name for side in more)), name, margin, metric)
    return lambda job: not_worse_than(job.results, job.names, name, margin, metric)


def _answer_file(
    sides: tuple[Side, Side],
    more: Sequence[MoreSide],
    file: tuple[Path, str, str],
    system: str,
    sampling: Sampling,
    quiet: bool,
) -> PromptJob:
    """Answer the prompts of a file, given with its prompt and reference columns."""
    from sft_app.evaluation.prompt_job import answer_all
    from sft_app.evaluation.prompt_sets import read_prompt_file

    prompts = read_prompt_file(*file).prompts
    with progress_bar("Answering", quiet=quiet) as report:
        return answer_all(sides, prompts, system, sampling, app_home(), report, more)


def _answer_prompts(
    sides: tuple[Side, Side], prompts: Sequence[str], system: str, sampling: Sampling, strength: float, as_json: bool
) -> None:
    from sft_app.inference.pair import load_pair
    from sft_app.inference.stream import compare_prompt

    pair = load_pair(sides, app_home())
    results = []
    for text in prompts:
        found = compare_prompt(pair, text, system, sampling, strength)
        results.append({"prompt": text, **found.as_record()})
        if not as_json:
            print_pair(text, found)
    if as_json:
        print_json({"run": sides[1].name, "results": results})
