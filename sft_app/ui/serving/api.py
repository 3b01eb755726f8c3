"""The API: what the page can do, for programs, with the same functions, settings and access rules.

`/?view=api` shows each function's docstring.
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
from sft_app.data.sources.data_files import data_suffix
from sft_app.data.sources.packed_files import TEXT_SUFFIXES
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
from sft_app.ui.serving.suites import run_all
from sft_app.ui.serving.zero_gpu import refuse_where_lent, results_of

MEGABYTE = 2**20
# The options of `MODEL_EVENT` that an endpoint accepts.
MODEL_CALL: dict[str, Any] = {name: MODEL_EVENT[name] for name in ("concurrency_id", "concurrency_limit")}
Functions = dict[Callable[..., Any], Permission]
"""Each function with the permission that its caller needs."""


def offer_api(context: PageContext) -> None:
    """Add every function to the page as an endpoint with the function's name."""
    asking_models = ((_compare_function, MODEL_CALL), (_judging_functions, MODEL_CALL))
    for make, options in ((_data_functions, {}), (_run_functions, {}), *asking_models):
        for function, permission in make(context).items():
            checked = allowed(permission, context)(_checked(function))
            gr.api(checked, api_name=function.__name__, **options)  # type: ignore[attr-defined]


def _checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """Validate the types of the arguments: Gradio shows them to clients but does not check them."""
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
        """Upload a data file as text, and return its name for `inspect` and `start_run`.

        `name` is the file's name. Its suffix selects the file type, for example `examples.jsonl`.
        """
        suffix, limit = data_suffix(name), context.uploads.max_mb()
        if suffix not in TEXT_SUFFIXES:
            raise DataError(
                f"{name[:80]!r} is not the name of a text file. Use a name such as examples.jsonl or table.csv."
            )
        if len(content.encode()) > limit * MEGABYTE:
            raise DataError(f"The file is larger than {limit} MB. Upload a smaller one.")
        return str(context.uploads.keep(PurePath(name).name, content.encode()))

    def inspect(data: str = EXAMPLE_DATA, settings: dict[str, Any] | None = None) -> dict[str, Any]:
        """Check a data file or a dataset on the Hub: its layout, rows, skipped rows with reasons, and findings."""
        requested = complete_settings({**(settings or {}), "data": data})
        return context.checkup.inspect(uuid4().hex, requested, lambda share: None).as_json()

    return {upload: "upload", inspect: "look"}


def _run_functions(context: PageContext) -> Functions:
    def start_run(settings: dict[str, Any]) -> dict[str, Any]:
        """Start or queue a run. `settings` are the settings of `train --config`; at least `data` is needed."""
        return _summary(context, context.runs.submit(complete_settings(settings)))

    def run_status(run: str) -> dict[str, Any]:
        """Return a run's state, step, losses and speed. `run` is an id, the start of one, or `latest`."""
        return _summary(context, context.runs.get(run))

    def stop_run(run: str, discard: bool = False) -> dict[str, Any]:
        """Stop a run after the current step and save its adapter, or with `discard` keep nothing."""
        found = context.runs.get(run)
        cancel_run(found) if discard else ask_to_stop(found)
        return _summary(context, found)

    def list_runs() -> list[dict[str, Any]]:
        """List the runs that the caller may see, newest first."""
        return [_summary(context, run) for run in context.runs.visible()]

    return {start_run: "train", run_status: "look", stop_run: "stop", list_runs: "look"}


def _compare_function(context: PageContext) -> Functions:
    def compare(
        run: str,
        prompts: list[str] | None = None,
        against: str = "base",
        system: str | None = None,
        max_new_tokens: int | None = None,
        temperature: float | None = None,
        seed: int | None = None,
        strength: float = 1.0,
        enable_thinking: bool | None = None,
    ) -> dict[str, Any]:
        """Answer each prompt with both sides, under equal conditions.

        `run` is a run, one of its checkpoints (`RUN/checkpoint-40`) or an adapter on the Hub. `against` is any of
        these, by default the base model. Arguments that are left out come from the run's settings.
        """
        from sft_app.inference.pair_tasks import AnswerTask
        from sft_app.inference.sides import conditions_of

        texts = prompts or [EXAMPLE_PROMPT]
        context.access.check_questions(texts, system or "", max_new_tokens or 0)
        sides = context.sides.find(against, run, enable_thinking)
        system_prompt, sampling = conditions_of(sides[1], context.home, system, max_new_tokens, temperature, seed)

        def answers() -> Generator[tuple[int, Any]]:
            for index, text in enumerate(texts):
                messages = prompt_messages(text, system_prompt)
                for both in results_of(context.models, sides, AnswerTask(messages, messages, sampling, strength)):
                    yield index, both

        found = dict(context.access.within_time(answers()))  # the last update of each answer is the complete one
        results = [{"prompt": text, **found[index].as_record()} for index, text in enumerate(texts)]
        return {"run": sides[1].name, "results": results}

    return {compare: "compare"}


def _judging_functions(context: PageContext) -> Functions:
    def score(
        run: str, prompts: int | None = None, sides: list[str] | None = None, strength: float | None = None
    ) -> dict[str, Any]:
        """Measure both models on the held-out conversations and on general questions, and save the scorecard.

        `sides` are further sides that answer the same questions: runs or adapters. With `strength`, a copy of
        the run with its adapter at that share of its trained strength is measured; the result has its id as `run`.
        """
        refuse_where_lent("Measuring a run")
        found = context.runs.get(run)
        count = found.record().settings.scorecard_prompts if prompts is None else prompts
        measured = context.sides.score(found.id, count, lambda share: None, sides or [], strength)
        card = measured.scorecard()
        return {**card.as_record(), **({} if strength is None else {"run": measured.id})} if card else {}

    def run_tests(
        run: str,
        tests: Any = None,
        against: str = "base",
        names: list[str] | None = None,
        sides: list[str] | None = None,
    ) -> dict[str, Any]:
        """Run tests on both sides, and return which ones each side passes, with the failed checks and the answers.

        `run` and `against` are sides as in `compare`. `tests` is a list of tests, `{"prompt": …, "checks": […]}`, or a
        mapping with `tests` and, for every answer, `all`; by default the tests kept with the run. `names` selects some.
        `sides` are further sides: runs, adapters, or `prompted`, the base with the nearest training examples.
        """
        from sft_app.evaluation.suites.summary import suite_facts

        return suite_facts(run_all(context, against, run, sides or [], tests, names or []))

    return {score: "measure", run_tests: "compare"}


def _summary(context: PageContext, run: Run) -> dict[str, Any]:
    """Return a run's summary, on a Space without the path of its folder."""
    summary = context.runs.files.summary(run)
    values = summary.as_record()
    return {**values, "adapter": run.adapter_dir.name} if summary.adapter and context.hosting.is_hosted else values
