"""The API: what the page can do, for programs. The same functions, the same settings, the same rules of access.

Each function's docstring is what `/?view=api` shows of it.
"""

from __future__ import annotations

import functools
import inspect as python_inspect
from collections.abc import Callable, Generator
from pathlib import PurePath
from typing import Any
from uuid import uuid4

import gradio as gr
from pydantic import ValidationError, validate_call

from sft_app.data.conversation import prompt_messages
from sft_app.data.sources.data_files import SUFFIXES, data_suffix
from sft_app.errors import DataError, SettingsError
from sft_app.models.hardware import complete_settings
from sft_app.runs.folder import Run
from sft_app.settings import EXAMPLE_DATA, EXAMPLE_PROMPT, describe_faults
from sft_app.training.launch import cancel_run
from sft_app.training.launch import stop_run as ask_to_stop
from sft_app.ui.context import PageContext
from sft_app.ui.events import MODEL_EVENT
from sft_app.ui.permissions import allowed
from sft_app.ui.services.access import Permission
from sft_app.ui.serving.zero_gpu import refuse_where_lent, results_of

MEGABYTE = 2**20
# Of `MODEL_EVENT`, what an endpoint takes too.
MODEL_CALL: dict[str, Any] = {name: MODEL_EVENT[name] for name in ("concurrency_id", "concurrency_limit")}
Functions = dict[Callable[..., Any], Permission]
"""Each function with what a caller must be allowed to do."""


def offer_api(context: PageContext) -> None:
    """Adds every function as an endpoint of its own name to the page that is being built."""
    for make, options in ((_data_functions, {}), (_run_functions, {}), (_model_functions, MODEL_CALL)):
        for function, permission in make(context).items():
            checked = allowed(permission, context)(_checked(function))
            gr.api(checked, api_name=function.__name__, **options)  # type: ignore[attr-defined]


def _checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """Gradio tells clients the types of the arguments and lets any others through."""
    call, signature = validate_call(function), python_inspect.signature(function, eval_str=True)

    @functools.wraps(function)
    def checked(*args: Any) -> Any:
        try:
            return call(**signature.bind(*args).arguments)
        except ValidationError as error:
            raise SettingsError(describe_faults(error)) from error

    checked.__signature__ = signature  # type: ignore[attr-defined]
    return checked


def _data_functions(context: PageContext) -> Functions:
    def upload(name: str, content: str) -> str:
        """Keeps a data file, given as text, and returns the name that `inspect` and `start_run` know it by.

        `name` is that of the file; its ending tells the kind, e.g. `examples.jsonl`.
        """
        suffix, most = data_suffix(name), context.uploads.max_mb()
        if suffix not in SUFFIXES or suffix.endswith((".gz", ".parquet")):
            raise DataError(
                f"{name[:80]!r} is not the name of a text file. Give one such as examples.jsonl or table.csv."
            )
        if len(content.encode()) > most * MEGABYTE:
            raise DataError(f"The file is larger than {most} MB. Remove what is not needed.")
        return str(context.uploads.keep(PurePath(name).name, content.encode()))

    def inspect(data: str = EXAMPLE_DATA, settings: dict[str, Any] | None = None) -> dict[str, Any]:
        """What is in a data file or a data set of the Hub: layout, rows, what is left out and why, findings."""
        wanted = complete_settings({**(settings or {}), "data": data})
        return context.checkup.inspect(uuid4().hex, wanted, lambda share: None).as_json()

    return {upload: "upload", inspect: "look"}


def _run_functions(context: PageContext) -> Functions:
    def start_run(settings: dict[str, Any]) -> dict[str, Any]:
        """Starts a run, or puts it into the queue. `settings` are those of `train --config`; `data` is the least."""
        return _summary(context, context.runs.submit(complete_settings(settings)))

    def run_status(run: str) -> dict[str, Any]:
        """Where a run is: its state, step, losses, speed. `run` is an id, the beginning of one, or `latest`."""
        return _summary(context, context.runs.get(run))

    def stop_run(run: str, discard: bool = False) -> dict[str, Any]:
        """Ends a run after the step at work; the adapter so far is kept, or with `discard` nothing."""
        found = context.runs.get(run)
        cancel_run(found) if discard else ask_to_stop(found)
        return _summary(context, found)

    def list_runs() -> list[dict[str, Any]]:
        """Every run that the caller may see, the newest first."""
        return [_summary(context, run) for run in context.runs.visible()]

    return {start_run: "train", run_status: "look", stop_run: "stop", list_runs: "look"}


def _model_functions(context: PageContext) -> Functions:
    def compare(
        run: str,
        prompts: list[str] | None = None,
        against: str = "base",
        system: str | None = None,
        max_new_tokens: int | None = None,
        temperature: float | None = None,
        seed: int | None = None,
        strength: float = 1.0,
    ) -> dict[str, Any]:
        """Both answers to each prompt, under equal conditions.

        `run` is a run, a checkpoint of one (`RUN/checkpoint-40`) or an adapter of the Hub; so is `against`, by default
        the base model. What is not given is as it was set for the run.
        """
        from sft_app.inference.pair_tasks import AnswerTask
        from sft_app.inference.sides import conditions_of

        texts = prompts or [EXAMPLE_PROMPT]
        context.access.check_questions(texts, system or "", max_new_tokens or 0)
        sides = context.sides.find(against, run)
        system_prompt, sampling = conditions_of(sides[1], context.home, system, max_new_tokens, temperature, seed)

        def answers() -> Generator[tuple[int, Any]]:
            for index, text in enumerate(texts):
                messages = prompt_messages(text, system_prompt)
                for both in results_of(context.models, sides, AnswerTask(messages, messages, sampling, strength)):
                    yield index, both

        found = dict(context.access.within_time(answers()))  # of each the last, which is whole
        results = [{"prompt": text, **found[index].as_record()} for index, text in enumerate(texts)]
        return {"run": sides[1].name, "results": results}

    def score(run: str, prompts: int | None = None) -> dict[str, Any]:
        """Measures base and run on the held-out conversations and on general questions, and keeps the scorecard."""
        refuse_where_lent("Measuring a run")
        found = context.runs.get(run)
        asked = found.record().settings.scorecard_prompts if prompts is None else prompts
        context.sides.score(found.id, asked, lambda share: None)
        card = found.scorecard()
        return card.as_record() if card else {}

    return {compare: "compare", score: "measure"}


def _summary(context: PageContext, run: Run) -> dict[str, Any]:
    """Its summary; on a Space without a folder of the machine."""
    summary = context.runs.files.summary(run)
    values = summary.as_record()
    return {**values, "adapter": run.adapter_dir.name} if summary.adapter and context.hosting.is_hosted else values
