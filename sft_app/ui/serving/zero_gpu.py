"""ZeroGPU Spaces, which lend a GPU for one call at a time through the `spaces` package."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any

from sft_app.errors import AccessError, AppError
from sft_app.inference.pair_tasks import PairTask, PairTaskRequest
from sft_app.inference.sides import Side
from sft_app.runtime.environment import is_zero_gpu

if TYPE_CHECKING:
    from sft_app.inference.loaded_models import LoadedModels
    from sft_app.ui.services.models import ModelService

# Conservative estimates for an adapter on such a GPU. They have not been measured there.
STARTING_SECONDS, SECONDS_PER_GIB_LOADED = 10.0, 1.5
SECONDS_PER_STEP, SECONDS_PER_STEP_AND_GIB = 0.04, 0.002
LONGEST_SECONDS = 110  # a visitor without an account has two minutes a day
_models: LoadedModels | None = None


def lends_gpu() -> bool:
    """Return whether this is a ZeroGPU Space, by the same test as the `spaces` package."""
    return is_zero_gpu(os.environ)


def import_spaces() -> None:
    """Import `spaces` on ZeroGPU. Call this before gradio and torch are imported for the first time."""
    if lends_gpu():
        importlib.import_module("spaces")


def on_gpu(function: Callable[..., Any], seconds: Callable[..., int]) -> Callable[..., Any]:
    """Wrap the function to get a GPU for about this many seconds on ZeroGPU; elsewhere, return it unchanged."""
    if not lends_gpu():
        return function
    decorated: Callable[..., Any] = importlib.import_module("spaces").GPU(duration=seconds)(function)
    return decorated


def results_of(models: ModelService, sides: tuple[Side, Side], task: PairTask) -> Iterator[Any]:
    """Yield the task's results as they arrive. Closing the iterator stops the work. Raises: AppError."""
    if not lends_gpu():
        return task.results(models.load_pair(sides))
    return _results_on_lent_gpu(models, sides, task)


def refuse_where_lent(action: str) -> None:
    """Refuse an action that needs the models for longer than a GPU is lent. Raises: AccessError."""
    if lends_gpu():
        raise AccessError(
            f"{action} takes longer than ZeroGPU provides a GPU for. Duplicate the Space and give it its own GPU."
        )


def estimated_seconds(request: PairTaskRequest) -> int:
    """Return the seconds to request a GPU for. They count against the visitor's daily quota, so request few."""
    step = SECONDS_PER_STEP + SECONDS_PER_STEP_AND_GIB * request.base_gib
    seconds = STARTING_SECONDS + SECONDS_PER_GIB_LOADED * request.base_gib + step * request.task.steps
    return min(round(seconds), LONGEST_SECONDS)


def _results_on_lent_gpu(models: ModelService, sides: tuple[Side, Side], task: PairTask) -> Iterator[Any]:
    """Import and download first, without the GPU: the forked process then has both."""
    import sft_app.inference.pair
    import sft_app.inference.stream  # noqa: F401
    from sft_app.models.catalog import fetch_base

    gib = fetch_base(sides[0].base, models.home) / 2**30
    with closing(_lent(PairTaskRequest(task, sides, models.home, gib))) as results:
        for result in results:
            if isinstance(result, AppError):
                raise result
            yield result


def _work(request: PairTaskRequest) -> Iterator[Any]:
    """Run in the process that has the GPU. An AppError is yielded, because a raised one would lose its message."""
    global _models
    from huggingface_hub import constants

    from sft_app.inference.pair import load_pair

    constants.HF_HUB_OFFLINE = True  # do not spend GPU seconds on asking the Hub about files that are already here
    try:
        if _models is not None and not _models.matches(request.sides[0]):
            _models = None
        pair = load_pair(request.sides, request.home, _models)
        _models = pair.models
        yield from request.task.results(pair)
    except AppError as error:
        yield error


_lent = on_gpu(_work, estimated_seconds)
