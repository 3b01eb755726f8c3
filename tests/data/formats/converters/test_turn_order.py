"""Times are read as programs write them, all values of a conversation in the same way."""

from __future__ import annotations

import pytest

from sft_app.data.formats.converters.turn_order import order_keys


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("2", "10"),
        ("2024-01-01 09:00", "2024-01-01T10:05:00"),
        ("01/02/2024 9:01 AM", "01/02/2024 1:05 PM"),
        ("28.02.2024 10:00", "01.03.2024 09:00"),
        ("Feb 28, 2024 10:00 AM", "Mar 1, 2024 9:00 AM"),
        ("02/28/2024", "03/01/2024"),
        ("9:59", "10:01"),
        ("Mon, 5 May 2025 10:00:00 +0200", "Mon, 5 May 2025 09:30:00 +0000"),
    ],
)
def test_later_times_have_larger_keys(first: str, second: str) -> None:
    earlier, later = order_keys([first, second]) or [0, 0]
    assert earlier < later
    later, earlier = order_keys([second, first]) or [0, 0]
    assert earlier < later


def test_days_and_months_that_could_be_swapped_follow_the_file() -> None:
    assert order_keys(["03/04/2024", "04/03/2024"]) == sorted(order_keys(["03/04/2024", "04/03/2024"]) or [])


@pytest.mark.parametrize(
    "values", [["a", "b"], [None, None], ["nan", "nan"], ["1", "soon"], ["1", "1"], ["10:01", "?"]]
)
def test_other_values_give_no_order(values: list[object]) -> None:
    assert order_keys(values) is None
