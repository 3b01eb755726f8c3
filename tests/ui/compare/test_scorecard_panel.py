"""The scorecard on the page: what it says, what is missing, and that nothing in it is taken for markup."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from sft_app.runs.folder import Run
from sft_app.runs.scorecard import Scorecard
from sft_app.runs.strength import StrengthChoice, TriedStrength
from sft_app.ui.compare.scorecard_panel import ScorecardPanel, scorecard_updates
from sft_app.ui.compare.scorecard_views import changed_rows_view, scorecard_view
from sft_app.ui.context import PageContext

SHORT = {
    "heldout": {"conversations": 10, "trained_tokens": 400},
    "base": {"loss": 3.0, "perplexity": 20.0, "token_accuracy": 0.3},
    "tuned": {"loss": 2.0, "perplexity": 7.4, "token_accuracy": 0.4},
    "difference": {
        "loss": {"value": -1.0, "low": -1.5, "high": -0.5},
        "token_accuracy": {"value": 0.1, "low": -0.05, "high": 0.25, "p_value": 0.2, "p_holm": 0.2},
    },
    "rows": {"better": 8, "worse": 1, "equal": 1},
}
ROW = {
    "row": 7,
    "messages": [{"role": "user", "content": "Where <b>is</b> it?"}, {"role": "assistant", "content": "Here."}],
    "base_loss": 3.0,
    "tuned_loss": 1.5,
    "answers": ["<script>alert(1)</script>", "Fine."],
}


def card_of(**values: Any) -> Scorecard:
    return Scorecard.model_validate(values)


def whole(general_low: float, general_high: float) -> Scorecard:
    value = {"value": (general_low + general_high) / 2, "low": general_low, "high": general_high}
    general = {**SHORT, "difference": {**SHORT["difference"], "loss": value}}
    answers = {name: SHORT[name] for name in ("base", "tuned", "difference")}
    return card_of(**SHORT, **{"general": general, "answers": {"prompts": 4, **answers}})


def test_it_says_what_changed_and_shows_both_sides_with_the_interval() -> None:
    shown = scorecard_view(card_of(**SHORT))
    assert "held-out answers better than before" in shown and "8 of 10" in shown
    assert "3.000" in shown and "2.000" in shown and "−1.500 … −0.500" in shown
    assert 'class="ft-verdict ft-better">better' in shown
    assert "not enough rows to tell" in shown  # of the accuracy, whose interval includes zero
    assert "8 became more likely, 1 stayed the same, 1 became less likely" in shown


def test_a_bar_lies_where_the_interval_does() -> None:
    assert "left:0.0%;width:33.3%" in scorecard_view(card_of(**SHORT))  # -1.5 … -0.5 around a middle at 50 %
    assert "left:40.0%;width:60.0%" in scorecard_view(card_of(**SHORT))  # -0.05 … 0.25


def test_what_was_not_measured_is_told_in_its_place() -> None:
    shown = scorecard_view(card_of(**SHORT))
    assert "Did it forget?" in shown and "Not measured yet" in shown and "No answers were generated" in shown
    assert changed_rows_view(card_of(**SHORT)) == ""


def test_forgetting_is_told_beside_the_task() -> None:
    shown = scorecard_view(whole(0.1, 0.3))
    assert "Did it forget? · 10 general questions" in shown and "Something was forgotten" in shown
    assert (
        shown.index("Your held-out examples")
        < shown.index("Did it forget?")
        < shown.index("The models&#39; own answers")
    )


def test_changed_rows_are_shown_as_they_were_written() -> None:
    shown = changed_rows_view(card_of(**SHORT, most_changed={"improved": [ROW], "damaged": []}))
    assert "Most improved: 1 row" in shown and "Most damaged" not in shown
    assert "row 7 · loss 3.00 → 1.50" in shown
    assert "<script>" not in shown and "&lt;script&gt;" in shown and "<b>is" not in shown


def test_a_side_without_a_run_or_scorecard_says_what_to_do(home: Path) -> None:
    context, run = PageContext(home), Run(home / "runs" / "20260101-120000-abcd")
    run.path.mkdir(parents=True)
    with gr.Blocks():
        panel = ScorecardPanel(gr.HTML(), gr.HTML())

    def card(side: str) -> str:
        shown: str = scorecard_updates(context, panel, side)[panel.card]
        return shown

    assert "Choose a run on the right" in card("base")
    assert "press “Measure” to create one now" in card(run.id)
    run.keep_scorecard(card_of(**SHORT))
    assert "held-out answers better than before" in card(f"{run.id}/checkpoint-2")


def test_the_strengths_that_were_tried_are_drawn_with_the_one_that_is_kept() -> None:
    tried = [
        TriedStrength(strength=strength, heldout_loss=3.4 - strength, general_loss=1.5 + strength, known=9)
        for strength in (1.25, 1.0, 0.75, 0.5, 0.25)
    ]
    shown = scorecard_view(card_of(**SHORT), StrengthChoice(chosen=0.75, questions=40, tried=tried))
    assert "Loss by strength in percent" in shown and "<u>75%</u>" in shown and "kept 2.650" in shown
    assert "general questions 2.250" in shown and ">100<" in shown
    by_hand = scorecard_view(card_of(**SHORT), StrengthChoice(chosen=0.6, by_hand=True))
    assert "set by hand" in by_hand and "Loss by strength" not in by_hand
    untried = scorecard_view(card_of(**SHORT), StrengthChoice(chosen=0.6, by_hand=True, tried=tried))
    assert "Loss by strength" in untried and ">kept</span>" not in untried and ">kept</span>" in shown
