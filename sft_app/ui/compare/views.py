"""Turn a comparison into HTML: two panes, the evidence below them, and the likeliest next tokens. Without Gradio."""

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

PaneSide = Literal["left", "right"]
AnswerState = Literal["waiting", "done", "stopped"]
LABEL_CHARACTERS = 70
VIEWS = ("Text", "Differences", "Raw text")
BLANK = {
    "left": ("Base model", "The model before training on your examples, or whatever you choose above."),
    "right": ("Fine-tuned", "The same model after training on your examples."),
}
COLOURS = {"left": "ft-base", "right": "ft-tuned"}


@dataclass(frozen=True)
class AnswerPane:
    """One side's label, and its answer in passages."""

    side: PaneSide
    label: str
    passages: Sequence[Passage]

    @property
    def colour(self) -> str:
        return COLOURS[self.side]


def blank_pane(side: PaneSide) -> str:
    """Show a pane before the first question."""
    label, text = BLANK[side]
    return render_html("compare/blank_pane.html", colour=COLOURS[side], label=label, text=text)


def panes_without_answer(chat: PairChat, state: AnswerState) -> list[str]:
    """Show both panes before the last question has an answer."""
    if not chat.question and not chat.exchanges:
        return [blank_pane("left"), blank_pane("right")]
    ending = "thinking …" if state == "waiting" else ""
    return [_conversation(side, label, chat, (), ending) for side, label in _labelled_sides(chat)]


def panes(chat: PairChat, update: PairUpdate, view: str, state: AnswerState) -> list[str]:
    """Show both panes with the answers so far. Differences and raw text are shown once both answers are complete."""
    answers = [_plain(update.left.text)], [_plain(update.right.text)]
    if view == "Differences" and update.is_complete:
        answers = compare_words(update.left.text, update.right.text)
    elif view == "Raw text" and update.is_complete:
        answers = [_plain(update.raw[0])], [_plain(update.raw[1])]
    endings = _ending(update.left, state), _ending(update.right, state)
    return [
        _conversation(side, label, chat, answer, ending)
        for (side, label), answer, ending in zip(_labelled_sides(chat), answers, endings, strict=True)
    ]


def both_in_full(left: str, right: str, labels: tuple[str, str]) -> list[AnswerPane]:
    """Return two panes with complete answers and their differences marked."""
    one, other = compare_words(left, right)
    return [AnswerPane("left", labels[0], one), AnswerPane("right", labels[1], other)]


def evidence_line(parts: Sequence[str], reasons: Sequence[str] = ()) -> str:
    """Show the evidence of the comparison, and the reasons if the two sides do not differ."""
    evidence = " · ".join(parts)
    return render_html("compare/evidence.html", evidence=evidence[:1].upper() + evidence[1:], reasons=reasons)


def candidates_card(found: Sequence[TokenCandidate], before: str, labels: tuple[str, str]) -> str:
    """Show the probabilities of each side's next token as bars. `before` is the end of the text so far."""
    rows = [
        (repr(candidate.text)[1:-1], [(COLOURS["left"], candidate.left), (COLOURS["right"], candidate.right)])
        for candidate in found
    ]
    return render_html("compare/candidates.html", before=before, titles=["next token", *labels], rows=rows)


def pair_choices(pairs: Sequence[AnswerPair]) -> list[tuple[str, str]]:
    """Return (number and question, id) of answer pairs, as choices of a list."""
    return [
        (f"{number}. {shorten(pair.prompt, LABEL_CHARACTERS)}", pair.id) for number, pair in enumerate(pairs, start=1)
    ]


def _labelled_sides(chat: PairChat) -> list[tuple[PaneSide, str]]:
    return [("left", chat.labels[0]), ("right", chat.labels[1])]


def _ending(answer: Answer, state: AnswerState) -> str:
    """Return an answer's progress, or why it ended and how fast it was."""
    if state == "waiting" and not answer.finished:
        return f"{answer.tokens} tokens …" if answer.tokens else "thinking …"
    stopped = "you stopped it" if state == "stopped" else "reached the token limit"
    why = "ended with EOS" if answer.finished else "it produced NaN or infinite values" if answer.broken else stopped
    speed = f"first token after {answer.first_token_seconds:.1f} s, {answer.tokens_per_second:.0f} tokens/s"
    return f"{answer.tokens} tokens, {why}" + (f" · {speed}" if answer.tokens_per_second else "")


def _plain(text: str) -> Passage:
    return Passage(text, is_shared=True)


def _conversation(side: PaneSide, label: str, chat: PairChat, answer: Sequence[Passage], ending: str) -> str:
    """Show all turns of one side. The first question is already shown above both panes."""
    earlier = [(exchange.question, getattr(exchange, side)) for exchange in chat.exchanges]
    return render_html(
        "compare/conversation.html",
        pane=AnswerPane(side, label, answer),
        ending=ending,
        earlier=earlier,
        question=chat.question,
    )
