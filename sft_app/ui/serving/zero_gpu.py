"""Spaces on which a GPU is lent for one call at a time (ZeroGPU), through the `spaces` package that is there then."""

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

# Estimates, on the safe side of what an adapter's step takes on such a GPU; nobody has measured them there.
STARTING_SECONDS, SECONDS_PER_GIB_LOADED = 10.0, 1.5
SECONDS_PER_STEP, SECONDS_PER_STEP_AND_GIB = 0.04, 0.002
LONGEST_SECONDS = 110  # a visitor without an account has two minutes a day
_models: LoadedModels | None = None


def lends_gpu() -> bool:
    """Whether this is such a Space, as the `spaces` package itself finds out."""
    return is_zero_gpu(os.environ)


def import_spaces() -> None:
    """To be called before gradio and torch are imported for the first time; elsewhere it does nothing."""
    if lends_gpu():
        importlib.import_module("spaces")


def on_gpu(function: Callable[..., Any], seconds: Callable[..., int]) -> Callable[..., Any]:
    """The function with a GPU for about so many seconds, where GPUs are lent; elsewhere itself."""
    if not lends_gpu():
        return function
    decorated: Callable[..., Any] = importlib.import_module("spaces").GPU(duration=seconds)(function)
    return decorated


def results_of(models: ModelService, sides: tuple[Side, Side], task: PairTask) -> Iterator[Any]:
    """What the task gives, as it comes. Closing the iterator stops the work. Raises: AppError."""
    if not lends_gpu():
        return task.results(models.load_pair(sides))
    return _results_from_afar(models, sides, task)


def refuse_where_lent(what: str) -> None:
    """For work that needs the models for longer. Raises: AccessError."""
    if lends_gpu():
        raise AccessError(
            f"{what} needs a GPU for longer than ZeroGPU lends one. Duplicate the Space onto a GPU of its own."
        )


def estimated_seconds(placed: PairTaskRequest) -> int:
    """For which a GPU is asked: it is counted against the visitor's share of the day, so not too many."""
    step = SECONDS_PER_STEP + SECONDS_PER_STEP_AND_GIB * placed.base_gib
    seconds = STARTING_SECONDS + SECONDS_PER_GIB_LOADED * placed.base_gib + step * placed.task.steps
    return min(round(seconds), LONGEST_SECONDS)


def _results_from_afar(models: ModelService, sides: tuple[Side, Side], task: PairTask) -> Iterator[Any]:
    """All that takes time without a GPU comes first: what is imported and fetched here is there in the fork too."""
    import sft_app.inference.pair
    import sft_app.inference.stream  # noqa: F401
    from sft_app.models.catalog import fetch_base

    gib = fetch_base(sides[0].base, models.home) / 2**30
    with closing(_lent(PairTaskRequest(task, sides, models.home, gib))) as results:
        for result in results:
            if isinstance(result, AppError):
                raise result
            yield result


def _work(placed: PairTaskRequest) -> Iterator[Any]:
    """In the process that has the GPU. An error for the reader is yielded: raised, only its kind would come through."""
    global _models
    from huggingface_hub import constants

    from sft_app.inference.pair import load_pair

    constants.HF_HUB_OFFLINE = True  # the lent seconds are not for asking the Hub for files that are here
    try:
        if _models is not None and not _models.matches(placed.sides[0]):
            _models = None
        pair = load_pair(placed.sides, placed.home, _models)
        _models = pair.models
        yield from placed.task.results(pair)
    except AppError as error:
        yield error


_lent = on_gpu(_work, estimated_seconds)
