"""What a scorecard's numbers are said to mean."""

from __future__ import annotations

from typing import Any

import pytest

from sft_app.compare.verdicts import METRICS, forgetting_sentence, scorecard_lines, summary_sentence


def card(low: float, value: float, high: float, name: str = "loss") -> dict[str, Any]:
    return {
        "heldout": {"conversations": 20, "trained_tokens": 400},
        "base": {name: 4.0},
        "tuned": {name: 4.0 + value},
        "difference": {name: {"value": value, "low": low, "high": high}},
        "rows": {"better": 15, "worse": 5, "equal": 0},
    }


@pytest.mark.parametrize(
    ("name", "low", "value", "high", "verdict"),
    [
        ("loss", -2.0, -1.0, -0.5, "better"),
        ("loss", 0.5, 1.0, 2.0, "worse"),
        ("loss", -1.0, -0.5, 0.1, "not enough rows to tell"),
        ("rouge_l", 0.1, 0.2, 0.3, "better"),
        ("repetition", 0.1, 0.2, 0.3, "worse"),
        ("length_ratio", 0.1, 0.2, 0.3, "changed"),
        ("exact_match", 0.0, 0.0, 0.0, ""),
    ],
)
def test_a_verdict_needs_an_interval_without_zero(
    name: str, low: float, value: float, high: float, verdict: str
) -> None:
    (line,) = scorecard_lines(card(low, value, high, name))
    assert (line.name, line.label, line.verdict) == (name, METRICS[name].label, verdict)


def test_numbers_are_written_with_sign_and_interval() -> None:
    (line,) = scorecard_lines(card(-2.0, -1.0, -0.5))
    assert (line.base, line.tuned, line.difference) == ("4.000", "3.000", "−1.000")
    assert line.interval == "−2.000 … −0.500"


def test_a_number_without_an_interval_has_no_verdict() -> None:
    told = card(-2.0, -1.0, -0.5)
    told["base"]["perplexity"], told["tuned"]["perplexity"] = 54.6, 20.1
    line = scorecard_lines(told)[1]
    assert (line.name, line.interval, line.verdict) == ("perplexity", "", "")


def test_the_sentence_says_when_there_is_nothing_to_say() -> None:
    assert summary_sentence(card(-2.0, -1.0, -0.5)).startswith("The held-out answers are predicted better: loss −25%")
    assert "15 of 20" in summary_sentence(card(-2.0, -1.0, -0.5))
    assert summary_sentence(card(-1.0, -0.5, 0.1)).startswith("Not enough rows to tell")
    assert summary_sentence(card(0.0, 0.0, 0.0)).startswith("The held-out answers are predicted as before: 15 of 20")


@pytest.mark.parametrize(
    ("low", "value", "high", "told"),
    [
        (0.1, 0.4, 0.6, "Something was forgotten: the answers to 20 general questions are predicted worse"),
        (-0.6, -0.4, -0.1, "No sign of it: the answers to 20 general questions are predicted better"),
        (-0.1, 0.1, 0.4, "Not enough rows to tell"),
        (0.0, 0.0, 0.0, "The answers to 20 general questions are predicted as before."),
    ],
)
def test_forgetting_is_told_only_where_the_interval_says_so(low: float, value: float, high: float, told: str) -> None:
    assert forgetting_sentence(card(low, value, high)).startswith(told)
