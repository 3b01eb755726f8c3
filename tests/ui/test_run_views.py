"""Several runs side by side: names, results, and when their losses may be compared."""

from __future__ import annotations

import re
from typing import Any

from sft_app.runs.summary import RunSummary
from sft_app.ui.runs import run_views


def summary(name: str, tuned: float | None = 3.0, **others: Any) -> RunSummary:
    values: dict[str, Any] = {
        "run": f"id-{name}-{tuned}",
        "name": name,
        "state": "finished",
        "steps": 4,
        "total_steps": 4,
        "model": "m",
    }
    measured = {"heldout_loss_base": 4.0, "heldout_loss_tuned": tuned, "tokens_per_second": 250.4, "seconds": 65.0}
    return RunSummary(**{**values, **measured, **others})


def test_two_runs_of_one_name_are_told_apart_by_their_ids() -> None:
    assert run_views.run_names([summary("Shop", 1.0), summary("Shop", 2.0), summary("", 3.0)]) == [
        "Shop (id-Shop-1.0)",
        "Shop (id-Shop-2.0)",
        "id--3.0",
    ]


def test_the_lower_heldout_loss_is_marked() -> None:
    card = run_views.comparison_card([summary("A", 3.0), summary("B", 2.0)], [("lora_r", ["16", "32"])])
    assert re.findall(r"ft-best>([^<]+)<", card) == ["4.00 → 2.00 (-50%)"]
    assert "<th>lora r</th><td>16</td><td>32</td>" in card
    assert run_views.NOT_COMPARABLE not in card


def test_losses_on_other_heldout_tokens_are_not_ranked() -> None:
    for name in ("seed", "data", "model", "heldout_fraction", "contents of shop.jsonl (sha256)"):
        card = run_views.comparison_card([summary("A", 3.0), summary("B", 2.0)], [(name, ["1", "2"])])
        assert "ft-best" not in card and run_views.NOT_COMPARABLE in card


def test_equal_losses_and_unknown_ones_have_no_winner() -> None:
    assert "ft-best" not in run_views.comparison_card([summary("A", 2.0), summary("B", 2.0)], [])
    card = run_views.comparison_card([summary("A", 2.0), summary("B", None)], [])
    assert "ft-best" not in card and "the same settings" in card


def test_names_and_values_are_never_markup() -> None:
    card = run_views.comparison_card([summary("<i>"), summary("B")], [("watch_prompts", ["<script>", "x"])])
    assert "<script>" not in card and "&lt;script&gt;" in card and "&lt;i&gt;" in card


def test_the_queue_counts_from_one() -> None:
    assert run_views.queue_choices([summary("B"), summary("A")]) == [("1. B", "id-B-3.0"), ("2. A", "id-A-3.0")]


def test_a_run_is_compared_once_it_has_learned_and_can_be_read() -> None:
    assert run_views.can_be_compared(summary("A"))
    assert not run_views.can_be_compared(summary("A", steps=0))
    assert not run_views.can_be_compared(summary("A", model=None))


def test_with_too_few_runs_the_next_step_is_told() -> None:
    assert "Train another with a different setting" in run_views.too_few_card(1)
    assert "Choose two or more" in run_views.too_few_card(2)
