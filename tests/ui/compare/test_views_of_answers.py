"""The panes of a comparison, as plain functions of plain values."""

from __future__ import annotations

import pytest

from sft_app.inference.chat import Exchange, PairChat
from sft_app.inference.evidence import Evidence, SideFacts, evidence_parts
from sft_app.inference.generation import Answer
from sft_app.inference.next_tokens import TokenCandidate
from sft_app.inference.stream import PairUpdate
from sft_app.ui.compare import views

BASE = SideFacts("base", "Base model", is_base=True, is_full_model=False)
RUN = SideFacts("r1", "shop", is_base=False, is_full_model=False, modules=210, update_norm=12.34)


def updated(left: str, right: str, is_complete: bool = True) -> PairUpdate:
    evidence = Evidence(
        BASE, RUN, "both answered in one batch", (33, 33), identical=left == right if is_complete else None
    )
    answers = (Answer(text, 12, True, (1, 2), 0.5, 2.0) for text in (left, right))
    return PairUpdate(*answers, evidence, (f"<|im_start|>{left}", f"<|im_start|>{right}"))


def asked(question: str, *exchanges: Exchange) -> PairChat:
    return PairChat(("Base model", "shop"), exchanges=list(exchanges), question=question)


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", '<img src="http://x/y">', "a & b"])
@pytest.mark.parametrize("view", views.VIEWS)
def test_text_of_people_and_models_is_shown_and_never_run(text: str, view: str) -> None:
    chat = PairChat((text, text), exchanges=[Exchange(text, text, text)], question=text)
    shown = [
        *views.panes(chat, updated(text, f"{text} more"), view, "done"),
        views.evidence_line([text], [text]),
        views.candidates_card([TokenCandidate(text, 0.5, 0.5)], text, (text, text)),
    ]
    for html in shown:
        assert text not in html and text.replace("&", "&amp;").replace("<", "&lt;")[:7] in html


def test_an_answer_says_how_it_ended_and_how_fast_it_came() -> None:
    left, right = views.panes(asked("Q"), updated("Hi", "Hello"), "Text", "done")
    assert "12 tokens, ended with EOS · first token after 0.5 s, 7 tokens/s" in left
    assert "<strong>Base model</strong>" in left and "<strong>shop</strong>" in right
    cut = PairUpdate(Answer("Hi", 12, False), Answer("Hi", 12, False), updated("a", "b").evidence)
    assert "reached the token limit" in views.panes(asked("Q"), cut, "Text", "done")[0]
    assert "you stopped it" in views.panes(asked("Q"), cut, "Text", "stopped")[0]
    assert "12 tokens …" in views.panes(asked("Q"), cut, "Text", "waiting")[0]


def test_differences_are_marked_once_both_answers_are_there() -> None:
    left, right = views.panes(asked("Q"), updated("I am sorry.", "I am very sorry."), "Differences", "done")
    assert "<mark>" not in left and "I am<mark> very</mark> sorry." in right
    growing = views.panes(asked("Q"), updated("I", "You", is_complete=False), "Differences", "waiting")
    assert "<mark>" not in growing[0]


def test_raw_text_has_the_special_tokens() -> None:
    assert "&lt;|im_start|&gt;Hi" in views.panes(asked("Q"), updated("Hi", "Hello"), "Raw text", "done")[0]


def test_earlier_turns_stand_above_the_last_one_with_each_sides_answers() -> None:
    chat = asked("And red?", Exchange("Is it blue?", "Yes.", "Of course!"))
    left, right = views.panes(chat, updated("No.", "Red too."), "Text", "done")
    assert left.index("Is it blue?") < left.index("Yes.") < left.index("And red?") < left.index("No.")
    assert "Of course!" in right and "Yes." not in right


def test_panes_before_an_answer() -> None:
    assert "before training on your examples" in views.panes_without_answer(PairChat(), "done")[0]
    assert "thinking" in views.panes_without_answer(asked("Q"), "waiting")[1]
    assert "shop" in views.panes_without_answer(asked("Q"), "waiting")[1]


def test_evidence_names_both_sides_and_why_they_are_the_same() -> None:
    line = views.evidence_line(evidence_parts(updated("Hi", "Hello").evidence), ["Because."])
    for words in ("Both answered in one batch", "shop: adapter active in 210 modules, norm 12.3", "33 prompt tokens"):
        assert words in line
    assert "the two answers differ" in line and "Because." in line


def test_candidates_are_bars_of_both_sides() -> None:
    card = views.candidates_card([TokenCandidate(" the\n", 0.25, 0.5)], "Where is", ("Base model", "shop"))
    assert "width:25.0%" in card and "width:50.0%" in card and " the\\n" in card and "Where is" in card
    assert "start of the answer" in views.candidates_card([], "", ("a", "b"))
