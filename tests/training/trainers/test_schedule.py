"""The learning rate: what was asked for, at every step some of it, and after the warm-up transformers' own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import get_scheduler

from sft_app.training.trainers.arguments import learning_rate_factor, make_schedule

KINDS = ("cosine", "linear", "constant", "constant_with_warmup")


def rates(schedule: Any, optimizer: Any, total: int) -> list[float]:
    found = []
    for _ in range(total):
        found.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return found


def optimizer() -> Any:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("total", [1, 2, 3, 10])
@pytest.mark.parametrize("warmup", [0, 1, 2, 5])
def test_every_step_learns_and_one_at_the_full_rate(kind: str, total: int, warmup: int) -> None:
    steps = rates(make_schedule(chosen := optimizer(), kind, warmup, total), chosen, total)
    assert min(steps) > 0 and max(steps) == pytest.approx(1.0)
    if total == 1:
        assert steps == [1.0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("warmup", [0, 3])
def test_after_the_warm_up_it_is_transformers_own(kind: str, warmup: int) -> None:
    theirs = get_scheduler(kind, chosen := optimizer(), num_warmup_steps=warmup, num_training_steps=12)
    expected = rates(theirs, chosen, 12)[warmup:]
    assert [learning_rate_factor(step, kind, warmup, 12) for step in range(warmup, 12)] == pytest.approx(expected)


def test_the_rate_rises_by_equal_steps() -> None:
    assert [learning_rate_factor(step, "cosine", 3, 12) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]


@pytest.mark.parametrize("trainer", ["sft", "classic"])
def test_a_run_of_one_step_learns_at_the_rate_asked_for(
    make_run: Callable[..., Any], work: Callable[..., int], trainer: str
) -> None:
    run = make_run(trainer=trainer, max_steps=1, warmup_ratio=0.05)
    work(run)
    (step,) = (row for row in run.metrics() if row.loss is not None)
    before, after = (row.heldout_loss for row in run.metrics() if row.heldout_loss is not None)
    assert step.learning_rate == 1e-2
    assert after != before
