"""Say what a run's held-out curve shows: when it had learned most, and whether more training would help."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sft_app.runs.records import StepMetrics

MOST = 0.9
STILL_IMPROVING = 0.02
"""The least share of the whole gain that the last measurement must bring for more training to be worth trying."""
FEWEST_MEASUREMENTS = 4
"""Step 0 included. With fewer, a curve says little about its end."""


def describe_learning(metrics: Sequence[StepMetrics]) -> str:
    """Return two sentences on a finished run; "" if its curve is too short, broken, or did not get lower."""
    measured = [(row.step, row.heldout_loss) for row in metrics if row.heldout_loss is not None]
    if len(measured) < FEWEST_MEASUREMENTS or not all(math.isfinite(loss) for _, loss in measured):
        return ""
    before, (best_step, best) = measured[0][1], min(measured, key=lambda one: one[1])
    if best >= before:
        return ""
    reached = next(step for step, loss in measured if before - loss >= MOST * (before - best))
    last, previous = measured[-1], measured[-2]
    is_improving = best_step == last[0] and previous[1] - best >= STILL_IMPROVING * (before - best)
    if is_improving:
        return f"The held-out loss was still falling at step {best_step:,}. Train for more passes."
    return (
        f"{MOST:.0%} of the gain was reached by step {reached:,}, and all of it by step {best_step:,}. More steps "
        "would probably add little; more, or more varied, examples may help."
    )
