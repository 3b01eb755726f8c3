"""Whether the loss is not worse by more than a margin, which is another question than whether it got better."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sft_app.errors import SettingsError
from sft_app.evaluation.margins import loss_margins
from sft_app.evaluation.scorecard import RowScore, make_scorecard


def answers(changes: list[float], margin: float = 0.1) -> list[str]:
    base = [RowScore(10 * (2 + 0.1 * (row % 5)), 10, 5) for row in range(len(changes))]
    tuned = [RowScore(score.loss_sum + 10 * change, 10, 5) for score, change in zip(base, changes, strict=True)]
    card = make_scorecard(base, tuned)
    return [one.answer for one in loss_margins(card.model_copy(update={"general": card}), margin)]


@pytest.mark.parametrize(
    ("changes", "answer"),
    [
        ([-0.02, 0.0, 0.03, 0.01, -0.01, 0.02, 0.0, 0.01], "not worse"),
        ([0.3, 0.4, 0.35, 0.3, 0.4, 0.5, 0.3, 0.4], "worse"),
        ([0.3, -0.2, 0.2, -0.1, 0.4, 0.0, 0.1, 0.2], "not enough rows to tell"),
        ([0.0, 0.01, 0.0], "not enough rows to tell"),
        ([0.0] * 7 + [math.nan], "not a number"),
    ],
)
def test_each_part_has_its_answer(changes: list[float], answer: str) -> None:
    assert answers(changes) == [answer, answer]


@pytest.mark.parametrize("margin", [0.0, -0.1, math.nan])
def test_a_margin_that_makes_no_sense_is_refused(margin: float) -> None:
    with pytest.raises(SettingsError, match="must be above 0"):
        answers([0.0] * 8, margin)


@pytest.mark.parametrize("rows", [8, 16, 40])
def test_a_change_as_large_as_the_margin_is_rarely_called_not_worse(rows: int) -> None:
    """Nominally in 2.5 % of cases."""
    random = np.random.default_rng(4)
    called = [answers(list(random.normal(0.1, 0.1, rows)))[0] == "not worse" for _ in range(200)]
    assert sum(called) / len(called) <= 0.025 + 0.035
