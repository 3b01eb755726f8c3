"""Curves: which points are drawn, where they stand, and what is said of them."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest

from sft_app import curves
from sft_app.runs.records import StepMetrics

LONG = [
    StepMetrics(step=step, loss=3.0 + (5.0 if step == 4321 else 0.001 * (step % 7)), grad_norm=1.0)
    for step in range(1, 10_001)
]


def metrics_of(*rows: dict[str, Any]) -> list[StepMetrics]:
    return [StepMetrics.model_validate(row) for row in rows]


def test_points_are_sorted_and_a_step_measured_twice_counts_once() -> None:
    rows = [{"step": 2, "loss": 3.0}, {"step": 1, "loss": 4.0}, {"step": 2, "loss": 3.5}, {"step": 3, "other": 1}]
    metrics = metrics_of(*rows)
    assert curves.metric_points(metrics, "loss") == ((1, 4.0), (2, 3.5))


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_what_is_no_finite_number_is_left_out(value: float | None) -> None:
    assert curves.metric_points(metrics_of({"step": 1, "loss": value}, {"step": 2, "loss": 1.0}), "loss") == ((2, 1.0),)


def test_few_points_are_all_kept() -> None:
    kept = curves.thin([(1, 4.0), (2, 3.0)], 10)
    assert [(one.step, one.low, one.mean, one.high) for one in kept] == [(1, 4, 4, 4), (2, 3, 3, 3)]


def test_of_many_points_each_stretch_keeps_its_mean_and_both_extremes() -> None:
    kept = curves.thin([(1, 1.0), (2, 2.0), (3, 6.0), (4, 5.0), (5, 9.0), (6, 1.0)], 2)
    assert [(one.step, one.low, one.mean, one.high) for one in kept] == [(2, 1, 3, 6), (5, 1, 5, 9)]


def test_a_long_run_sends_few_points_and_loses_no_spike() -> None:
    drawn = curves.run_curves(LONG)
    assert len(re.findall(r"[ML]-?[\d.]+ ", drawn)) < 2000  # line and band of two pictures, in place of 20,000 points
    assert len(drawn) < 60_000
    stretches = curves.thin(curves.metric_points(LONG, "loss"))
    assert len(stretches) <= 500 and max(one.high for one in stretches) == 8.0


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 10, [0, 5, 10]),
        (0, 8, [0, 2, 4, 6, 8]),
        (2.9, 4.1, [3, 3.5, 4]),
        (0, 0.001, [0, 0.0005, 0.001]),
        (3, 3, [3]),
    ],
)
def test_ticks_are_round_numbers_inside_the_range(low: float, high: float, expected: list[float]) -> None:
    assert curves.ticks(low, high, 4) == pytest.approx(expected)


def test_the_lowest_value_stands_lowest_and_the_last_step_rightmost() -> None:
    drawn = curves.plot([curves.Series("training", ((0, 4.0), (5, 3.0), (10, 2.0)), "#123456")])
    places = re.search(r'ft-thin" stroke="#123456" d="M([^"]+)"', drawn)
    assert places is not None
    points = [tuple(map(float, place.split())) for place in places[1].split("L")]
    assert [x for x, _ in points] == [0, 500, 1000]
    assert points[0][1] < points[1][1] == 500 < points[2][1]  # SVG counts downwards


def test_a_single_point_is_a_dot() -> None:
    assert re.search(r'ft-dots" stroke="#111" d="M0 500h0"', curves.plot([curves.Series("x", ((7, 2.0),), "#111")]))


def test_the_pointer_is_told_the_values_of_a_step() -> None:
    drawn = curves.run_curves(
        metrics_of({"step": 0, "heldout_loss": 4.0}, {"step": 3, "loss": 2.5}, {"step": 3, "heldout_loss": 3})
    )
    told = re.search(r"<u>Step 3</u>(.*?)</em>", drawn)
    assert told is not None
    assert "training 2.500" in told[1] and "held-out 3.000" in told[1]


def test_the_four_other_curves_tell_their_latest_value() -> None:
    row = {"loss": 2.0, "learning_rate": 2e-4, "grad_norm": 0.5, "tokens_per_second": 1234.4, "memory_gib": 1.5}
    drawn = curves.run_curves(metrics_of({"step": 1, **row}, {"step": 2, **row, "learning_rate": 1e-4}))
    shown = dict(re.findall(r"<figcaption>([^<]+)<strong>([^<]+)</strong>", drawn))
    assert shown == {
        "Learning rate": "0.0001",
        "Gradient norm": "0.5",
        "Speed, tokens/s": "1,234",
        "Memory, GiB": "1.50",
    }


def test_before_the_first_step_the_place_says_what_will_be_there() -> None:
    assert "after the first step" in curves.run_curves([])
    assert "None of these runs" in curves.loss_of_runs([("a", []), ("b", [])])


def test_runs_in_one_chart_have_a_colour_each_and_their_names_are_never_markup() -> None:
    metrics = metrics_of({"step": 0, "heldout_loss": 4.0}, {"step": 1, "loss": 3.0})
    drawn = curves.loss_of_runs([("<b>A</b>", metrics), ("B", metrics)])
    assert "<b>A</b>" not in drawn and "&lt;b&gt;A&lt;/b&gt;" in drawn
    assert drawn.count("ft-thick") == drawn.count("ft-thin") == 2
    assert (
        f'ft-thick" stroke="{curves.run_colour(0)}"' in drawn and f'ft-thick" stroke="{curves.run_colour(1)}"' in drawn
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None])
def test_a_chart_says_from_where_on_the_loss_is_not_a_number(value: float | None) -> None:
    rows = metrics_of({"step": 1, "loss": 3.0}, {"step": 2, "loss": value}, {"step": 3, "loss": value})
    told = "At step 2 the loss is not a number"
    assert told in curves.run_curves(rows) and told in curves.run_curves(rows[1:])
    assert f"A&amp;B: {told}" in curves.loss_of_runs([("A&B", rows), ("C", rows[:1])])
    assert "not a number" not in curves.run_curves(rows[:1])
