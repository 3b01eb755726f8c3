"""What a number of held-out rows can show: the stated change is found as often as stated."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sft_app.evaluation.power import POWER, detectable_difference, loss_spread, rows_sentence
from sft_app.evaluation.scorecard import RowScore
from sft_app.evaluation.statistics.intervals import student_limit


def share_found(change: float, rows: int) -> float:
    """How often a paired t test at 5 % finds a mean change, with differences of spread 1."""
    drawn = np.random.default_rng(0).normal(change, 1, (20_000, rows))
    found = np.abs(drawn.mean(1)) / drawn.std(1, ddof=1) * math.sqrt(rows) > student_limit(rows - 1)
    return float(found.mean())


@pytest.mark.parametrize("rows", [4, 8, 16, 40, 200])
def test_the_stated_change_is_found_in_four_of_five_cases(rows: int) -> None:
    assert share_found(detectable_difference(1.0, rows), rows) == pytest.approx(POWER, abs=0.025)
    assert share_found(0.5 * detectable_difference(1.0, rows), rows) < 0.5


def test_rows_that_all_have_one_loss_per_token_have_no_spread() -> None:
    assert loss_spread([RowScore(2.0 * tokens, tokens, 0) for tokens in (3, 10, 50)]) is None
    assert loss_spread([RowScore(1.0, 2, 0)]) is None and loss_spread([RowScore(math.nan, 1, 0)] * 3) is None


def test_spread_gives_the_standard_error_of_the_mean_loss_per_token() -> None:
    random, rows = np.random.default_rng(0), 50
    tokens = random.integers(5, 200, (4000, rows))
    sums = tokens * random.normal(2, 0.5, (4000, rows))
    losses = sums.sum(1) / tokens.sum(1)
    samples = [
        [RowScore(float(loss), int(count), 0) for loss, count in zip(*both, strict=True)]
        for both in zip(sums[:200], tokens[:200], strict=True)
    ]
    spreads = [loss_spread(sample) or 0.0 for sample in samples]
    assert np.mean(spreads) / math.sqrt(rows) == pytest.approx(losses.std(), rel=0.05)


@pytest.mark.parametrize(
    ("rows", "spread", "words"),
    [
        (
            8,
            0.3,
            "With 8 held-out conversations, a change in the loss of more than about 0.35 usually shows; a smaller",
        ),
        (200, 0.3, "more than about 0.060"),
        (6, 20.0, "more than about 28 "),
        (
            8,
            None,
            "answers that pass a test must change by at least 75 percentage points (6 answers) to be more than chance",
        ),
        (200, None, "at least 3 percentage points"),
        (1, 0.3, "With 1 held-out conversation, even the same change"),
        (5, None, "Hold out at least 6"),
    ],
)
def test_what_rows_can_show_in_plain_words(rows: int, spread: float | None, words: str) -> None:
    assert words in rows_sentence(rows, spread)


def test_related_rows_count_once() -> None:
    assert rows_sentence(5, conversations=40).startswith(
        "With 40 held-out conversations, which count as 5 because copies and related ones count once, even the same"
    )
    assert rows_sentence(8, conversations=8) == rows_sentence(8)
