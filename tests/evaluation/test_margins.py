"""Whether the loss is not worse by more than a margin, which is another question than whether it got better."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sft_app.errors import SettingsError
from sft_app.evaluation.margins import loss_margins
from sft_app.evaluation.scorecard import RowScore, make_scorecard
from sft_app.runs.scorecard import Selection


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


def test_conversations_that_chose_the_weights_answer_nothing_unless_the_change_is_corrected() -> None:
    scores = [RowScore(20.0 + row, 10, 5) for row in range(8)]
    for rows, is_corrected, answer in (
        ("same", False, "not enough rows to tell"),
        ("same", True, "not worse"),
        ("other", True, "not worse"),
    ):
        selection = Selection(rows=rows, evaluations=4, is_corrected=is_corrected)
        card = make_scorecard(scores, scores).model_copy(update={"selection": selection})
        (found,) = loss_margins(card, 0.1)
        assert found.answer == answer
        assert ("the same conversations chose the weights" in found.sentence) == (not is_corrected)


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
