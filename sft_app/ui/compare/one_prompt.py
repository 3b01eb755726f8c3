"""One question, two answers growing side by side, and a look at where and why they differ."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from typing import Any

import gradio as gr

from sft_app.inference.chat import PairChat
from sft_app.inference.pair_tasks import AnswerTask
from sft_app.settings import EXAMPLE_PROMPT
from sft_app.ui.compare import views
from sft_app.ui.compare.conditions import make_conditions, sampling_of
from sft_app.ui.compare.next_token import build_next_token
from sft_app.ui.context import PageContext
from sft_app.ui.events import MODEL_EVENT, PRIVATE
from sft_app.ui.forms import settings_from_form
from sft_app.ui.permissions import allowed, open_to_all
from sft_app.ui.serving.zero_gpu import results_of

SECONDS_BETWEEN_UPDATES = 1 / 18
EXAMPLE_PROMPTS = [
    EXAMPLE_PROMPT,
    "The pot I ordered came broken.",
    "Can I change the delivery address? I ordered an hour ago.",
    "You charged me twice!",
]


def build_one_prompt(context: PageContext, left: gr.Dropdown, right: gr.Dropdown) -> None:
    """The question, the two panes, the evidence under them, and a closer look."""
    with gr.Row(equal_height=True):
        prompt = gr.Textbox(EXAMPLE_PROMPT, label="Prompt", lines=2, scale=5, min_width=280, elem_id="prompt")
        with gr.Column(scale=1, min_width=140):
            ask = gr.Button("Compare", variant="primary", size="md", elem_id="ask")
            stop = gr.Button("Stop", size="md", elem_id="stop-answer")
    gr.Examples(EXAMPLE_PROMPTS, prompt, label="Example prompts", api_visibility="private")
    conditions, strength = _make_conditions()
    view = gr.Radio(list(views.VIEWS), value=views.VIEWS[0], show_label=False, container=False, elem_id="compare-view")
    with gr.Row(equal_height=True):
        panes = [_make_pane("left"), _make_pane("right")]
    shown = [*panes, gr.HTML(elem_id="evidence")]
    with gr.Row():
        reply = gr.Button("Send follow-up", size="sm", elem_id="reply")
        again = gr.Button("Regenerate", size="sm", elem_id="again")
        edit = gr.Button("Edit last question", size="sm", elem_id="edit-question")
    chat = gr.State(PairChat())
    asked = [left, right, prompt, chat, view, strength, *conditions.values()]
    events = []
    for triggers, start in (([ask.click, prompt.submit], _begin), ([reply.click], _go_on), ([again.click], _repeat)):
        handler = _answering(context, start, list(conditions))
        events.append(gr.on(triggers, handler, asked, shown, **MODEL_EVENT))
        events[-1].failure(_as_left, [chat, view], shown, **PRIVATE)
    stop.click(_as_left, [chat, view], shown, cancels=events, **PRIVATE)
    view.change(_as_left, [chat, view], shown, **PRIVATE)
    edit.click(_take_back, [chat, view], [prompt, *shown], **PRIVATE)
    build_next_token(context, [left, right], chat, strength, [event.success for event in events])


def _make_pane(place: views.Place) -> gr.HTML:
    with gr.Column(min_width=300):
        return gr.HTML(views.blank_pane(place), elem_id={"left": "base-answer", "right": "tuned-answer"}[place])


def _make_conditions() -> tuple[dict[str, Any], gr.Slider]:
    with gr.Accordion("Generation settings (the same for both sides)", open=False):
        with gr.Row():
            fields = make_conditions("compare")
        strength = gr.Slider(
            0,
            1.5,
            value=1,
            step=0.05,
            label="Adapter strength",
            info="How strongly the adapter is applied: 0 is the base model, 1 is the adapter as trained.",
            elem_id="strength",
        )
    return fields, strength


def _begin(chat: PairChat, question: str, system: str) -> Any:
    return chat.begin(question, system)


def _go_on(chat: PairChat, question: str, _: str) -> Any:
    return chat.follow_up(question)


def _repeat(chat: PairChat, _: str, __: str) -> Any:
    return chat.regenerate()


def _answering(context: PageContext, start: Callable[[PairChat, str, str], Any], names: list[str]) -> Any:
    """The handler that answers; `start` puts the question into the chat and gives each side's messages."""

    @allowed("compare", context)
    def answer(
        left: str, right: str, question: str, chat: PairChat, view: str, strength: float, *shown: Any
    ) -> Iterator[list[str]]:
        settings = settings_from_form(names, shown)
        context.access.check_questions([question or ""], settings.system_prompt, settings.max_new_tokens)
        sides = context.sides.find(left, right)
        for_left, for_right = start(chat, question, settings.system_prompt)
        chat.labels = sides[0].label, sides[1].label
        yield _panes(chat, view, "waiting", "Loading the model …")
        task = AnswerTask(for_left, for_right, sampling_of(settings), strength)
        for update in context.access.within_time(_paced(results_of(context.models, sides, task))):
            chat.update = update
            yield _panes(chat, view, "done" if update.is_complete else "waiting")

    return answer


@open_to_all
def _as_left(chat: PairChat, view: str) -> list[str]:
    """What there is to show when nothing is at work."""
    return _panes(chat, view, "done" if chat.update is None or chat.update.is_complete else "stopped")


@open_to_all
def _take_back(chat: PairChat, view: str) -> list[Any]:
    question = chat.undo()
    return [question or gr.skip(), *_as_left(chat, view)]


def _panes(chat: PairChat, view: str, state: views.State, note: str = "") -> list[str]:
    """Left, right and evidence."""
    if chat.update is None:
        return [*views.panes_without_answer(chat, state), views.evidence_line([note] if note else [])]
    from sft_app.inference.evidence import evidence_parts

    evidence = chat.update.evidence
    return [
        *views.panes(chat, chat.update, view, state),
        views.evidence_line(evidence_parts(evidence), evidence.reasons),
    ]


def _paced(updates: Iterator[Any]) -> Generator[Any]:
    """As many as the eye can follow, and the last one always."""
    shown = 0.0
    for update in updates:
        if update.is_complete or time.monotonic() - shown >= SECONDS_BETWEEN_UPDATES:
            shown = time.monotonic()
            yield update
