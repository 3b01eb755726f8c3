"""Options and decorators that all events share. Events are private; their errors appear on the page as sentences."""

from __future__ import annotations

import functools
import inspect
import itertools
import json
import logging
from collections.abc import Callable, Iterable
from typing import Any

import gradio as gr
from gradio.blocks import Block

from sft_app.errors import AppError
from sft_app.hub.login import hide_tokens
from sft_app.runtime.resources import NOT_ENOUGH_MEMORY, is_out_of_memory

Updates = dict[Block, Any]
"""What a handler returns: a new value or update for each component that changes. Its other outputs do not change.

A handler that changes nothing returns `NO_UPDATES`, because Gradio treats an empty dict as a value."""
NO_UPDATES: Updates = gr.skip()
# At each step of an event, Gradio copies the state of every component it may show progress on, with all that is inside.
NO_PROGRESS: dict[str, Any] = {"show_progress": "hidden", "show_progress_on": []}
PRIVATE: dict[str, Any] = {"api_visibility": "private", **NO_PROGRESS}
# For events that refresh something. Their input may have been chosen from a list that has changed since then, and
# a component's own check would report that as an error before the handler runs.
UNCHECKED: dict[str, Any] = {**PRIVATE, "preprocess": False, "concurrency_limit": None}
# For events that follow the form: the last one shows the form's final values. Gradio drops the pending rerun of an
# event that raises, so these handlers show errors in their own components instead.
FOLLOWING: dict[str, Any] = {"api_visibility": "private", "preprocess": False, "trigger_mode": "always_last"}
QUIETLY_FOLLOWING: dict[str, Any] = {**FOLLOWING, **NO_PROGRESS}
# The loaded model answers one event at a time.
MODEL_EVENT: dict[str, Any] = {**PRIVATE, "concurrency_id": "model", "concurrency_limit": 1}
# What a person chooses, types or opens. A button that is clicked again while it works does nothing, as Gradio has it.
CHOICES = frozenset({"change", "expand", "focus", "input", "key_up", "release", "select", "upload"})
MIN_MESSAGE_SECONDS, WORDS_PER_SECOND = 8.0, 3.0
# A click on any button closes the messages of earlier clicks.
CLEAR_MESSAGES = (
    "document.addEventListener('click',event=>{if(event.target.closest('button')&&!event.target.closest('.toast-wrap'))"
    "document.querySelectorAll('.toast-wrap .toast-close').forEach(button=>button.click())},true)"
)
logger = logging.getLogger("sft_app")
SETTLED_MILLISECONDS = 40
TYPED_MILLISECONDS = 600
"""After this pause, a person has probably finished typing."""
_numbers = itertools.count()


def with_error_messages(handler: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a handler so that its errors appear on the page as one message, never as a traceback."""
    if inspect.isgeneratorfunction(handler):

        @functools.wraps(handler)
        def stream(*args: Any) -> Any:
            try:
                yield from handler(*args)
            except Exception as error:
                raise _as_gradio_error(error) from None

        return stream

    @functools.wraps(handler)
    def call(*args: Any) -> Any:
        try:
            return handler(*args)
        except Exception as error:
            raise _as_gradio_error(error) from None

    return call


def error_message(error: Exception) -> str:
    """Return the message for any exception: nothing after this can turn it into a sentence."""
    if isinstance(error, AppError):
        return hide_tokens(str(error))
    logger.error("unexpected error in the page", exc_info=error)
    if is_out_of_memory(error):
        return NOT_ENOUGH_MEMORY
    return f"Something unexpected went wrong ({type(error).__name__}). The details are in app.log in the workspace."


def _as_gradio_error(error: Exception) -> Exception:
    if isinstance(error, gr.Error):
        return error
    message = error_message(error)
    return gr.Error(message, duration=reading_seconds(message), print_exception=False)


def reading_seconds(message: str) -> float:
    """Return how long a message stays: time to read it twice. The next click closes it too (`CLEAR_MESSAGES`)."""
    return max(MIN_MESSAGE_SECONDS, 2 * len(message.split()) / WORDS_PER_SECOND)


def keep_last_choices(page: gr.Blocks) -> None:
    """Let each event that follows a choice run once more if another choice arrives while it runs.

    Gradio drops the later one unless the event's first trigger is a change, and the page would then show the handler's
    answer to a choice that is no longer selected. Events chained to such an event follow the same rule.
    """
    following: set[int] = set()
    for number, fn in page.fns.items():
        is_chosen = any(name in CHOICES for _, name in fn.targets)
        if is_chosen or fn.trigger_after in following:
            following.add(number)
            fn.trigger_mode = "always_last"


def settled(triggers: Iterable[Any], progress_on: Any = None, quiet_milliseconds: int = SETTLED_MILLISECONDS) -> Any:
    """Return one event for changes that arrive together, once all are on the page. Chain handlers with `success`.

    One response can change several fields, and Gradio starts an event for each. These events run at the same time, end
    in any order, and see intermediate values of the form. `progress_on` is where the chained handlers show progress.
    """
    last = f"window.settled{next(_numbers)}"
    js = f"""async () => {{
        const mine = {last} = ({last} || 0) + 1;
        await new Promise(go => setTimeout(go, {quiet_milliseconds}));
        if (mine !== {last}) throw Error('another change follows');
        return [];
    }}"""
    return gr.on(list(triggers), None, js=js, **{**PRIVATE, "show_progress_on": progress_on or []})


def filled_in(listen: Callable[..., Any], fields: Iterable[Block]) -> tuple[Any, gr.JSON]:
    """Return an event that follows `listen`, and a hidden component that then holds the values of all fields as a list.

    Chain handlers of a whole form with `success`. Gradio updates each input that a handler ever had at every step of
    every later event, so one component for the form saves the browser most of its work.
    """
    values = gr.JSON(visible=False)
    return listen(None, list(fields), values, js="(...values) => [values]", **PRIVATE), values


def answered_in_browser(handler: Callable[[str], Any], choices: Iterable[str]) -> Callable[[str], Any]:
    """Send the handler's result for every possible choice to the page, so that the browser answers it."""
    table = json.dumps({choice: handler(choice) for choice in choices})
    return with_javascript(handler, f"(choice) => ({table})[choice]")


def with_javascript(handler: Callable[..., Any], js: str) -> Callable[..., Any]:
    """Attach a JavaScript function that does the same as the handler, so that the browser runs it instead."""
    handler.__js_implementation__ = js  # type: ignore[attr-defined]
    return handler
