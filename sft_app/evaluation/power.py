"""Say before a run what its held-out rows can show: how small a change they tell from chance. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from sft_app.evaluation.statistics.intervals import student_limit
from sft_app.evaluation.verdicts import FEWEST_TO_JUDGE

if TYPE_CHECKING:
    from sft_app.evaluation.scorecard import RowScore

POWER = 0.8


def detectable_difference(spread: float, rows: int, power: float = POWER) -> float:
    """Return the mean difference that a two-sided paired t test at 5 % finds with this probability.

    `spread` is the standard deviation of the differences; `rows` is at least 2. Both quantiles are Student's: the exact
    power takes the noncentral distribution, from which this differs by less than 2 percentage points from 4 rows on.
    """
    return spread / math.sqrt(rows) * (student_limit(rows - 1) + student_limit(rows - 1, 2 * power - 1))


def loss_spread(scores: Sequence[RowScore]) -> float | None:
    """Return how much rows differ in what they add to the mean loss per token; None if that cannot be known.

    It is the standard deviation of (loss sum - tokens · mean loss) / mean tokens, of which the standard error of a
    ratio is made. Source: Cochran 1977, "Sampling Techniques", section 6.4.
    """
    if len(scores) < 2:
        return None
    sums, tokens = np.array([(score.loss_sum, score.tokens) for score in scores], dtype=float).T
    spread = float(np.std((sums - tokens * sums.sum() / tokens.sum()) / tokens.mean(), ddof=1))
    return spread if math.isfinite(spread) and spread > 0 else None


def rows_sentence(rows: int, base_spread: float | None = None, conversations: int | None = None) -> str:
    """Say which changes held-out rows can show: of a pass rate, or of the loss from the base's `loss_spread`.

    `rows` counts related `conversations` once; None if these are not more.

    It assumes that a run changes the rows' losses as unevenly as they are spread. Measured changes had
    5 to 93 % of that spread (docs/STATISTICS.md), so smaller ones often show too.
    """
    counted = f"{rows:,} held-out {'conversation' if rows == 1 else 'conversations'}"
    if conversations is not None and conversations > rows:
        counted = (
            f"{conversations:,} held-out conversations, which count as {rows:,} because copies and related ones "
            "count once"
        )
    if rows < FEWEST_TO_JUDGE:
        return (
            f"With {counted}, even the same change in all of them could be chance. "
            f"Hold out at least {FEWEST_TO_JUDGE} (heldout min)."
        )
    if base_spread is None:
        points = math.ceil(100 * FEWEST_TO_JUDGE / rows)
        return (
            f"With {counted}, the share of answers that pass a test must change by at least {points} percentage "
            f"{'point' if points == 1 else 'points'} ({FEWEST_TO_JUDGE} answers) to be more than chance."
        )
    change = _two_digits(detectable_difference(base_spread, rows))
    return f"With {counted}, a change in the loss of more than about {change} usually shows; a smaller one may not."


def _two_digits(value: float) -> str:
    """Round to two significant digits, without an exponent: 0.35, 0.042, 1.2."""
    return f"{value:.{max(0, 1 - math.floor(math.log10(value)))}f}"
