"""A closer look at one position in an answer: which tokens each side finds likely there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from sft_app.errors import ModelError
from sft_app.inference.chat import PairChat
from sft_app.inference.pair_tasks import NextTokenTask
from sft_app.ui.compare import views
from sft_app.ui.context import PageContext
from sft_app.ui.events import MODEL_EVENT, PRIVATE
from sft_app.ui.permissions import allowed, open_to_all
from sft_app.ui.serving.zero_gpu import results_of

FOLLOWED = ("left answer", "right answer")
SHOWN_BEFORE = 60


def build_next_token(
    context: PageContext,
    chosen: Sequence[gr.Dropdown],
    chat: gr.State,
    strength: gr.Slider,
    answered: Sequence[Callable[..., Any]],
) -> None:
    """Below the panes; the slider is as long as the answer, from when it has been `answered`."""
    with gr.Accordion("Next token: what each side would say next", open=False), gr.Row():
        followed = gr.Radio(FOLLOWED, value=FOLLOWED[0], label="Answer to continue", min_width=200)
        position = gr.Slider(0, 1, value=0, step=1, label="Tokens to keep", elem_id="next-position", scale=2)
    table = gr.HTML(elem_id="next-token")

    @open_to_all
    def fit(chat: PairChat, followed: str, position: float) -> gr.Slider:
        tokens = len(_written(chat, followed))
        return gr.Slider(maximum=max(1, tokens), value=min(position, tokens))

    @allowed("compare", context)
    def look(left: str, right: str, chat: PairChat, strength: float, followed: str, position: float) -> str:
        if chat.update is None:
            raise ModelError("There is no answer to look into yet. Compare two answers first.")
        sides = context.sides.find(left, right)
        task = NextTokenTask(chat.messages(), _written(chat, followed)[: int(position)], strength, SHOWN_BEFORE)
        before, found = next(results_of(context.models, sides, task))
        return views.candidates_card(found, before, (sides[0].label, sides[1].label))

    for event in answered:
        event(fit, [chat, followed, position], position, **PRIVATE)
    followed.change(fit, [chat, followed, position], position, **PRIVATE)
    gr.on(
        [position.release, followed.change], look, [*chosen, chat, strength, followed, position], table, **MODEL_EVENT
    )


def _written(chat: PairChat, followed: str) -> tuple[int, ...]:
    """The tokens of the answer that is followed."""
    if chat.update is None:
        return ()
    return (chat.update.left if followed == FOLLOWED[0] else chat.update.right).ids
