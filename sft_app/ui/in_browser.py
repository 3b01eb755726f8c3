"""What the page does without asking the server, so that nothing which is still on its way can come before it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable
from typing import Any

import gradio as gr

from sft_app.ui.events import PRIVATE

SETTLED_MILLISECONDS = 40
_numbers = itertools.count()


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
