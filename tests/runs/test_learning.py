"""What a run's curve says about its end."""

from __future__ import annotations

import math

import pytest

from sft_app.runs.learning import describe_learning
from sft_app.runs.records import StepMetrics


def told(*losses: float) -> str:
    return describe_learning([StepMetrics(step=10 * place, heldout_loss=loss) for place, loss in enumerate(losses)])


def test_a_flat_end_asks_for_more_examples() -> None:
    assert told(4.0, 3.2, 3.05, 3.0, 3.01, 3.02) == (
        "90% of the gain was reached by step 20, and all of it by step 30. More steps would "
        "probably add little; more, or more varied, examples may help."
    )
    assert told(4.0, 3.2, 3.05, 3.01, 3.0).startswith(
        "90% of the gain was reached by step 20, and all of it by step 40"
    )


def test_a_falling_end_asks_for_more_training() -> None:
    assert told(4.0, 3.6, 3.3, 3.1) == ("The held-out loss was still falling at step 30. Train for more passes.")


@pytest.mark.parametrize("losses", [(), (4.0, 3.0), (4.0, 3.0, 2.0), (4.0, 4.1, 4.2, 4.3), (4.0, math.nan, 3.0, 2.0)])
def test_nothing_is_said_of_what_shows_nothing(losses: tuple[float, ...]) -> None:
    assert told(*losses) == ""


def test_measurements_between_the_steps_of_training_count_alone() -> None:
    rows = [StepMetrics(step=step, loss=1.0) for step in range(9)]
    assert describe_learning(rows) == ""
