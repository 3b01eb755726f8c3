"""Turn a comparison into HTML: two panes, the evidence below them, and the likeliest next tokens. No Gradio here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import shorten
from typing import TYPE_CHECKING, Literal

from sft_app.evaluation.word_diff import Passage, compare_words
from sft_app.inference.chat import PairChat
from sft_app.templating import render_html

if TYPE_CHECKING:
    from sft_app.evaluation.answer_pairs import AnswerPair
    from sft_app.inference.generation import Answer
    from sft_app.inference.next_tokens import TokenCandidate
    from sft_app.inference.stream import PairUpdate

Place = Literal["left", "right"]
State = Literal["waiting", "done", "stopped"]
LONGEST_LABEL = 70
VIEWS = ("Text", "Differences", "Raw text")
BLANK = {
    "left": ("Base model", "The model before training on your examples, or whatever you choose above."),
    "right": ("Fine-tuned", "The same model after training on your examples."),
}
COLOURS = {"left": "ft-base", "right": "ft-tuned"}


@dataclass(frozen=True)
class AnswerPane:
    """One side's answer under its label, in passages."""

    place: Place
    label: str
    passages: Sequence[Passage]

    @property
    def colour(self) -> str:
        return COLOURS[self.place]


def blank_pane(place: Place) -> str:
    """Show a pane before the first question."""
    label, text = BLANK[place]
    return render_html("compare/blank_pane.html", colour=COLOURS[place], label=label, text=text)


def panes_without_answer(chat: PairChat, state: State) -> list[str]:
    """Show both panes before the last question has an answer."""
    if not chat.question and not chat.exchanges:
        return [blank_pane("left"), blank_pane("right")]
    ending = "thinking …" if state == "waiting" else ""
    return [_conversation(place, label, chat, (), ending) for place, label in _places(chat)]


def panes(chat: PairChat, update: PairUpdate, view: str, state: State) -> list[str]:
    """Show both panes with the answers so far; differences and raw text once they are complete."""
    answers = [_plain(update.left.text)], [_plain(update.right.text)]
    if view == "Differences" and update.is_complete:
        answers = compare_words(update.left.text, update.right.text)
    elif view == "Raw text" and update.is_complete:
        answers = [_plain(update.raw[0])], [_plain(update.raw[1])]
    endings = _ending(update.left, state), _ending(update.right, state)
    return [
        _conversation(place, label, chat, answer, ending)
        for (place, label), answer, ending in zip(_places(chat), answers, endings, strict=True)
    ]


def both_in_full(left: str, right: str, labels: tuple[str, str]) -> list[AnswerPane]:
    """Return two panes with complete answers, marked where they differ."""
    one, other = compare_words(left, right)
    return [AnswerPane("left", labels[0], one), AnswerPane("right", labels[1], other)]


def evidence_line(parts: Sequence[str], reasons: Sequence[str] = ()) -> str:
    """Show what was compared, and why the sides are the same where they are."""
    told = " · ".join(parts)
    return render_html("compare/evidence.html", told=told[:1].upper() + told[1:], reasons=reasons)


def candidates_card(found: Sequence[TokenCandidate], before: str, labels: tuple[str, str]) -> str:
    """Show what each side would say next, as bars; `before` is the end of the text so far."""
    rows = [
        (repr(candidate.text)[1:-1], [(COLOURS["left"], candidate.left), (COLOURS["right"], candidate.right)])
        for candidate in found
    ]
    return render_html("compare/candidates.html", before=before, titles=["next token", *labels], rows=rows)


def pair_choices(pairs: Sequence[AnswerPair]) -> list[tuple[str, str]]:
    """Return (place and question, id) of pairs of answers, for a list to choose from."""
    return [(f"{place}. {shorten(pair.prompt, LONGEST_LABEL)}", pair.id) for place, pair in enumerate(pairs, start=1)]


def _places(chat: PairChat) -> list[tuple[Place, str]]:
    return [("left", chat.labels[0]), ("right", chat.labels[1])]


def _ending(answer: Answer, state: State) -> str:
    """Say how far an answer is, or why it ended and how fast it came."""
    if state == "waiting" and not answer.finished:
        return f"{answer.tokens} tokens …" if answer.tokens else "thinking …"
    stopped = "stopped by you" if state == "stopped" else "cut off at the limit"
    why = "ended with EOS" if answer.finished else "its numbers became infinite" if answer.broken else stopped
    speed = f"first token after {answer.first_token_seconds:.1f} s, {answer.tokens_per_second:.0f} tokens/s"
    return f"{answer.tokens} tokens, {why}" + (f" · {speed}" if answer.tokens_per_second else "")


def _plain(text: str) -> Passage:
    return Passage(text, is_shared=True)


def _conversation(place: Place, label: str, chat: PairChat, answer: Sequence[Passage], ending: str) -> str:
    """Show all turns of one side; a first question is above both panes already."""
    earlier = [(exchange.question, getattr(exchange, place)) for exchange in chat.exchanges]
    return render_html(
        "compare/conversation.html",
        pane=AnswerPane(place, label, answer),
        ending=ending,
        earlier=earlier,
        question=chat.question,
    )
