"""Compare as HTML: two panes, the evidence under them, and what could come next. Pure functions of what was found."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from textwrap import shorten
from typing import TYPE_CHECKING, Literal

from sft_app.evaluation.word_diff import Passage, compare_words
from sft_app.inference.chat import PairChat

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


def blank_pane(place: Place) -> str:
    """A pane before the first question."""
    label, text = BLANK[place]
    return _pane(place, label, "", f'<div class="ft-text">{text}</div>', "ft-blank")


def panes_without_answer(chat: PairChat, state: State) -> list[str]:
    """Both panes before anything is answered to the last question."""
    if not chat.question and not chat.exchanges:
        return [blank_pane("left"), blank_pane("right")]
    ending = "thinking …" if state == "waiting" else ""
    return [_conversation(place, label, chat, "", ending) for place, label in _places(chat)]


def panes(chat: PairChat, update: PairUpdate, view: str, state: State) -> list[str]:
    """Both panes with the answers so far; differences and raw text once they are complete."""
    texts = escape(update.left.text), escape(update.right.text)
    if view == "Differences" and update.is_complete:
        left, right = compare_words(update.left.text, update.right.text)
        texts = _marked(left), _marked(right)
    elif view == "Raw text" and update.is_complete:
        texts = escape(update.raw[0]), escape(update.raw[1])
    endings = _ending(update.left, state), _ending(update.right, state)
    return [
        _conversation(place, label, chat, text, ending)
        for (place, label), text, ending in zip(_places(chat), texts, endings, strict=True)
    ]


def both_in_full(left: str, right: str, labels: tuple[str, str]) -> list[str]:
    """Two panes with complete answers, marked where they differ."""
    sides: tuple[tuple[Place, str], tuple[Place, str]] = (("left", labels[0]), ("right", labels[1]))
    return [
        _pane(place, label, "", f'<div class="ft-text" data-side="{place}">{_marked(passages)}</div>')
        for (place, label), passages in zip(sides, compare_words(left, right), strict=True)
    ]


def evidence_line(parts: Sequence[str], reasons: Sequence[str] = ()) -> str:
    """What was really compared, and why the sides are the same where they are."""
    why = "".join(f'<p class="ft-warning">{escape(reason)}</p>' for reason in reasons)
    told = " · ".join(parts)
    return f'<p class="ft-evidence">{escape(told[:1].upper() + told[1:])}</p>{why}'


def candidates_card(found: Sequence[TokenCandidate], before: str, labels: tuple[str, str]) -> str:
    """What each side would say next, as bars; `before` is the end of the text so far."""
    rows = "".join(
        f"<tr><td><code>{escape(repr(candidate.text)[1:-1])}</code></td>"
        f"{_share(candidate.left, 'left')}{_share(candidate.right, 'right')}</tr>"
        for candidate in found
    )
    head = "".join(f"<th>{escape(label)}</th>" for label in labels)
    table = f"<table><thead><tr><th>next token</th>{head}</tr></thead><tbody>{rows}</tbody></table>"
    told = f"… {escape(before)} <b>▮</b>" if before else "At the start of the answer <b>▮</b>"
    return (
        f'<section class="ft-card ft-next"><p class="ft-dim">{told}</p><div class="ft-scroll">{table}</div></section>'
    )


def pair_choices(pairs: Sequence[AnswerPair]) -> list[tuple[str, str]]:
    """(place and question, id) of pairs of answers, for a list to choose from."""
    return [(f"{place}. {shorten(pair.prompt, LONGEST_LABEL)}", pair.id) for place, pair in enumerate(pairs, start=1)]


def _places(chat: PairChat) -> list[tuple[Place, str]]:
    return [("left", chat.labels[0]), ("right", chat.labels[1])]


def _ending(answer: Answer, state: State) -> str:
    """How far an answer is, or why it ended and how fast it came."""
    if state == "waiting" and not answer.finished:
        return f"{answer.tokens} tokens …" if answer.tokens else "thinking …"
    stopped = "stopped by you" if state == "stopped" else "cut off at the limit"
    why = "ended with EOS" if answer.finished else "its numbers became infinite" if answer.broken else stopped
    speed = f"first token after {answer.first_token_seconds:.1f} s, {answer.tokens_per_second:.0f} tokens/s"
    return f"{answer.tokens} tokens, {why}" + (f" · {speed}" if answer.tokens_per_second else "")


def _marked(found: Sequence[Passage]) -> str:
    """An answer in which what the other one does not have stands out."""
    return "".join(escape(part.text) if part.is_shared else f"<mark>{escape(part.text)}</mark>" for part in found)


def _share(share: float, place: Place) -> str:
    return f'<td class="{COLOURS[place]}"><i style="width:{100 * share:.1f}%"></i><span>{share:.1%}</span></td>'


def _conversation(place: Place, label: str, chat: PairChat, answer: str, ending: str) -> str:
    """All turns of one side; a first question stands above both panes already."""
    text = f'<div class="ft-text" data-side="{place}">{answer}</div>'
    if not chat.exchanges:
        return _pane(place, label, ending, text)
    earlier = "".join(
        f'{_question(exchange.question)}<div class="ft-text ft-dim">{escape(getattr(exchange, place))}</div>'
        for exchange in chat.exchanges
    )
    now = f"{_question(chat.question)}{text}" if chat.question else ""
    return _pane(place, label, ending, earlier + now)


def _question(text: str) -> str:
    return f'<p class="ft-question">{escape(text)}</p>'


def _pane(place: Place, label: str, ending: str, body: str, kind: str = "") -> str:
    return (
        f'<section class="ft-card ft-answer {COLOURS[place]} {kind}"><header><strong>{escape(label)}</strong>'
        f"<span>{escape(ending)}</span></header>{body}</section>"
    )
