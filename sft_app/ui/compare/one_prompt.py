"""One question, two answers that stream side by side, and where and why they differ."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.blocks import Block

from sft_app.inference.chat import PairChat
from sft_app.inference.pair_tasks import AnswerTask
from sft_app.settings import EXAMPLE_PROMPT
from sft_app.ui.compare import views
from sft_app.ui.compare.conditions import THINKING_CHOICES, make_conditions, make_thinking, sampling_of
from sft_app.ui.compare.next_token import build_next_token
from sft_app.ui.context import PageContext
from sft_app.ui.events import MODEL_EVENT, PRIVATE, Updates
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


@dataclass(frozen=True)
class Answers:
    """The two answers, and below them the evidence of where and why they differ."""

    left: gr.HTML
    right: gr.HTML
    evidence: gr.HTML

    def outputs(self) -> list[Block]:
        return [self.left, self.right, self.evidence]

    def show(self, chat: PairChat, view: str, state: views.AnswerState, note: str = "") -> Updates:
        """Show the chat so far."""
        if chat.update is None:
            panes, evidence_line = views.panes_without_answer(chat, state), views.evidence_line([note] if note else [])
        else:
            from sft_app.inference.evidence import evidence_parts

            evidence = chat.update.evidence
            panes = views.panes(chat, chat.update, view, state)
            evidence_line = views.evidence_line(evidence_parts(evidence), evidence.reasons)
        left, right = panes
        return {self.left: left, self.right: right, self.evidence: evidence_line}

    def as_left(self, chat: PairChat, view: str) -> Updates:
        """Show the chat after an answer has ended or stopped."""
        return self.show(chat, view, "done" if chat.update is None or chat.update.is_complete else "stopped")


def build_one_prompt(context: PageContext, left: gr.Dropdown, right: gr.Dropdown) -> None:
    """Build the question, the two panes, the evidence below them, and the next-token view."""
    with gr.Row(equal_height=True):
        prompt = gr.Textbox(EXAMPLE_PROMPT, label="Prompt", lines=2, scale=5, min_width=280, elem_id="prompt")
        with gr.Column(scale=1, min_width=140):
            ask = gr.Button("Compare", variant="primary", size="md", elem_id="ask")
            stop = gr.Button("Stop", size="md", elem_id="stop-answer")
    gr.Examples(EXAMPLE_PROMPTS, prompt, label="Example prompts", api_visibility="private")
    conditions, thinking, strength = _make_conditions()
    view = gr.Radio(list(views.VIEWS), value=views.VIEWS[0], show_label=False, container=False, elem_id="compare-view")
    with gr.Row(equal_height=True):
        left_pane, right_pane = _make_pane("left"), _make_pane("right")
    answers = Answers(left_pane, right_pane, gr.HTML(elem_id="evidence"))
    shown, as_left = answers.outputs(), open_to_all(answers.as_left)
    with gr.Row():
        reply = gr.Button("Send follow-up", size="sm", elem_id="reply")
        again = gr.Button("Regenerate", size="sm", elem_id="again")
        edit = gr.Button("Edit last question", size="sm", elem_id="edit-question")
    chat = gr.State(PairChat())
    inputs = [left, right, prompt, chat, view, strength, thinking, *conditions.values()]
    events = []
    for triggers, start in (
        ([ask.click, prompt.submit], _start_chat),
        ([reply.click], _follow_up),
        ([again.click], _regenerate),
    ):
        handler = _answering(context, answers, start, list(conditions))
        events.append(gr.on(triggers, handler, inputs, shown, **MODEL_EVENT))
        events[-1].failure(as_left, [chat, view], shown, **PRIVATE)
    stop.click(as_left, [chat, view], shown, cancels=events, **PRIVATE)
    view.change(as_left, [chat, view], shown, **PRIVATE)
    edit.click(_editing(prompt, answers), [chat, view], [prompt, *shown], **PRIVATE)
    build_next_token(context, [left, right], chat, strength, [event.success for event in events])


def _make_pane(side: views.PaneSide) -> gr.HTML:
    with gr.Column(min_width=300):
        return gr.HTML(views.blank_pane(side), elem_id={"left": "base-answer", "right": "tuned-answer"}[side])


def _make_conditions() -> tuple[dict[str, Any], gr.Dropdown, gr.Slider]:
    with gr.Accordion("Generation settings (the same for both sides)", open=False):
        with gr.Row():
            fields, thinking = make_conditions("compare"), make_thinking("compare")
        strength = gr.Slider(
            0,
            1.5,
            value=1,
            step=0.05,
            label="Adapter strength",
            info="How strongly the adapter is applied: 0 is the base model, 1 is the adapter as trained.",
            elem_id="strength",
        )
    return fields, thinking, strength


def _start_chat(chat: PairChat, question: str, system: str) -> Any:
    return chat.begin(question, system)


def _follow_up(chat: PairChat, question: str, _: str) -> Any:
    return chat.follow_up(question)


def _regenerate(chat: PairChat, _: str, __: str) -> Any:
    return chat.regenerate()


def _answering(
    context: PageContext, answers: Answers, start: Callable[[PairChat, str, str], Any], names: list[str]
) -> Any:
    """Return the handler that answers. `start` adds the question to the chat and returns each side's messages."""

    @allowed("compare", context)
    def answer(
        left: str, right: str, question: str, chat: PairChat, view: str, strength: float, think: str, *shown: Any
    ) -> Iterator[Updates]:
        settings = settings_from_form(names, shown)
        context.access.check_questions([question or ""], settings.system_prompt, settings.max_new_tokens)
        chat.enable_thinking = THINKING_CHOICES[think]
        sides = context.sides.find(left, right, chat.enable_thinking)
        for_left, for_right = start(chat, question, settings.system_prompt)
        chat.labels = sides[0].label, sides[1].label
        yield answers.show(chat, view, "waiting", "Loading the model …")
        task = AnswerTask(for_left, for_right, sampling_of(settings), strength)
        for update in context.access.within_time(_throttled(results_of(context.models, sides, task))):
            chat.update = update
            yield answers.show(chat, view, "done" if update.is_complete else "waiting")

    return answer


def _editing(prompt: gr.Textbox, answers: Answers) -> Any:
    @open_to_all
    def edit(chat: PairChat, view: str) -> Updates:
        question = chat.undo()
        return {**answers.as_left(chat, view), **({prompt: question} if question else {})}

    return edit


def _throttled(updates: Iterator[Any]) -> Generator[Any]:
    """Drop updates that come faster than the eye can follow, but never the last one."""
    shown = 0.0
    for update in updates:
        if update.is_complete or time.monotonic() - shown >= SECONDS_BETWEEN_UPDATES:
            shown = time.monotonic()
            yield update
