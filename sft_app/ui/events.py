"""What all events share: they are not part of the API, and their errors reach the page as a sentence."""

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

Updates = dict[Block, Any]
"""What a handler returns: a new value or update for each component that changes; its other outputs stay as they are.

A handler that changes nothing returns `NO_UPDATES`, since Gradio takes an empty dict for a value."""
NO_UPDATES: Updates = gr.skip()
PRIVATE: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
# For events that keep something up to date. What they are given may have been chosen from a list that has changed
# since, and a component's own check would call that an error before the handler can see to it.
UNCHECKED: dict[str, Any] = {**PRIVATE, "preprocess": False, "concurrency_limit": None}
# For events that follow the form: at the end they show what it holds then. One that ends in an error forgets that it
# was to run again, so these tell errors in their place.
FOLLOWING: dict[str, Any] = {"api_visibility": "private", "preprocess": False, "trigger_mode": "always_last"}
# The loaded model answers one event at a time.
MODEL_EVENT: dict[str, Any] = {**PRIVATE, "concurrency_id": "model", "concurrency_limit": 1}
SHORTEST_SECONDS, WORDS_A_SECOND = 8.0, 3.0
# What was wrong before is not what happens now.
CLEAR_MESSAGES = (
    "document.addEventListener('click',event=>{if(event.target.closest('button')&&!event.target.closest('.toast-wrap'))"
    "document.querySelectorAll('.toast-wrap .toast-close').forEach(button=>button.click())},true)"
)
logger = logging.getLogger("sft_app")
SETTLED_MILLISECONDS = 40
_numbers = itertools.count()


def tells_errors(handler: Callable[..., Any]) -> Callable[..., Any]:
    """A handler whose errors reach the page as one message; a traceback never does."""
    if inspect.isgeneratorfunction(handler):

        @functools.wraps(handler)
        def stream(*args: Any) -> Any:
            try:
                yield from handler(*args)
            except Exception as error:
                raise _for_the_page(error) from None

        return stream

    @functools.wraps(handler)
    def call(*args: Any) -> Any:
        try:
            return handler(*args)
        except Exception as error:
            raise _for_the_page(error) from None

    return call


def sentence_of(error: Exception) -> str:
    """Every kind is taken here, because this is the last place that can turn it into a sentence."""
    if isinstance(error, AppError):
        return hide_tokens(str(error))
    logger.error("unexpected error in the page", exc_info=error)
    return f"Something unexpected went wrong ({type(error).__name__}). The details are in app.log in the workspace."


def _for_the_page(error: Exception) -> Exception:
    if isinstance(error, gr.Error):
        return error
    sentence = sentence_of(error)
    return gr.Error(sentence, duration=reading_seconds(sentence), print_exception=False)


def reading_seconds(sentence: str) -> float:
    """How long a message stays: time to read it twice. The next click takes it away too (`CLEAR_MESSAGES`)."""
    return max(SHORTEST_SECONDS, 2 * len(sentence.split()) / WORDS_A_SECOND)


def settled(triggers: Iterable[Any], progress_on: Any = None) -> Any:
    """One event for all changes that come together, once they are on the page; chain with `success` what follows it.

    One answer changes several fields, and Gradio starts an event for each: several at once, which end in any order,
    each with what the form held in the middle. `progress_on` is where that which follows shows how far it is.
    """
    last = f"window.settled{next(_numbers)}"
    js = f"""async () => {{
        const mine = {last} = ({last} || 0) + 1;
        await new Promise(go => setTimeout(go, {SETTLED_MILLISECONDS}));
        if (mine !== {last}) throw Error('another change follows');
        return [];
    }}"""
    return gr.on(list(triggers), None, js=js, show_progress_on=progress_on, **PRIVATE)


def answered_in_browser(handler: Callable[[str], Any], questions: Iterable[str]) -> Callable[[str], Any]:
    """A handler of one choice whose answers go to the page with it."""
    table = json.dumps({question: handler(question) for question in questions})
    return with_javascript(handler, f"(choice) => ({table})[choice]")


def with_javascript(handler: Callable[..., Any], js: str) -> Callable[..., Any]:
    """A handler that the page works off by itself, by a function that does the same."""
    handler.__js_implementation__ = js  # type: ignore[attr-defined]
    return handler
