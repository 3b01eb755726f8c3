"""The likeliest next tokens of each side at one position of an answer."""

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

ANSWERS = ("left answer", "right answer")
CONTEXT_CHARACTERS = 60


def build_next_token(
    context: PageContext,
    chosen: Sequence[gr.Dropdown],
    chat: gr.State,
    strength: gr.Slider,
    answered: Sequence[Callable[..., Any]],
) -> None:
    """Build the slider over an answer's tokens, and the table. The `answered` events set the slider's length."""
    with gr.Accordion("Next token: what each side predicts next", open=False), gr.Row():
        answer = gr.Radio(ANSWERS, value=ANSWERS[0], label="Answer to continue", min_width=200)
        position = gr.Slider(0, 1, value=0, step=1, label="Tokens to keep", elem_id="next-position", scale=2)
    table = gr.HTML(elem_id="next-token")

    @open_to_all
    def fit_slider(chat: PairChat, answer: str, position: float) -> gr.Slider:
        tokens = len(_answer_ids(chat, answer))
        return gr.Slider(maximum=max(1, tokens), value=min(position, tokens))

    @allowed("compare", context)
    def look(left: str, right: str, chat: PairChat, strength: float, answer: str, position: float) -> str:
        if chat.update is None:
            raise ModelError("There is no answer to inspect yet. Press Compare first.")
        sides = context.sides.find(left, right, chat.enable_thinking)
        task = NextTokenTask(chat.messages(), _answer_ids(chat, answer)[: int(position)], strength, CONTEXT_CHARACTERS)
        before, found = next(results_of(context.models, sides, task))
        return views.candidates_card(found, before, (sides[0].label, sides[1].label))

    for event in answered:
        event(fit_slider, [chat, answer, position], position, **PRIVATE)
    answer.change(fit_slider, [chat, answer, position], position, **PRIVATE)
    gr.on([position.release, answer.change], look, [*chosen, chat, strength, answer, position], table, **MODEL_EVENT)


def _answer_ids(chat: PairChat, answer: str) -> tuple[int, ...]:
    """Return the token ids of the selected answer."""
    if chat.update is None:
        return ()
    return (chat.update.left if answer == ANSWERS[0] else chat.update.right).ids
