"""How a GPU computes a step: as few batches as fit, no more recomputed than needed, and always the same step."""

from __future__ import annotations

import copy
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from sft_app.models.hardware import Hardware
from sft_app.settings import RunSettings, parse_settings
from sft_app.training.estimates.memory import LargestBatch, checkpointed_layers, estimate_memory
from sft_app.training.estimates.speed import MachineSpeed
from sft_app.training.estimates.step_size import USABLE_SHARE, choose_step_size, largest_batch
from tests.training.estimates.gpu_decisions import shape_of, workload

SPEED = MachineSpeed("cuda", "bfloat16", 250e12, 1.5e12)
STEP = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 4, "method": "qlora", "lora_r": 16}


def gpu(free_gib: float) -> Hardware:
    return Hardware("cuda", "a card", "bfloat16", "", free_gib, free_gib, 8)


def choose(free_gib: float, **settings: Any) -> RunSettings:
    return choose_step_size(parse_settings({**STEP, **settings}), workload(), shape_of("1.7B"), gpu(free_gib), SPEED)


def gib(settings: RunSettings) -> float:
    batch = largest_batch(settings, workload(), "cuda")
    return estimate_memory(shape_of("1.7B"), settings, batch, "cuda", "bfloat16").total


def sizes(settings: RunSettings) -> tuple[int, int, int]:
    return (
        settings.per_device_train_batch_size,
        settings.gradient_accumulation_steps,
        checkpointed_layers(settings, "cuda"),
    )


def test_a_large_card_computes_a_step_at_once_and_nothing_twice() -> None:
    assert sizes(choose(80)) == (16, 1, 0)


def test_a_card_too_small_gets_the_step_that_takes_least() -> None:
    found = choose(1)
    assert gib(found) == min(gib(choose(1, **{**STEP, "per_device_train_batch_size": 1})), gib(found))
    assert checkpointed_layers(found, "cuda") == 1


@pytest.mark.parametrize("free_gib", [4, 6, 8, 12, 16, 24, 32, 48])
def test_a_step_fits_and_stays_the_same(free_gib: float) -> None:
    found = choose(free_gib)
    batch, accumulation, _ = sizes(found)
    assert batch * accumulation == 16
    smallest = choose(1)
    assert gib(found) <= max(USABLE_SHARE * free_gib, gib(smallest))


def test_more_memory_never_means_smaller_batches_with_more_recomputed() -> None:
    """Memory buys speed: fewer batches, or less that is computed twice."""
    found = [sizes(choose(free_gib)) for free_gib in range(4, 60, 4)]
    for (batch, _, every), (more, _, less) in zip(found, found[1:], strict=False):
        assert more >= batch or (every > 0 and (less == 0 or less > every))


@pytest.mark.parametrize("checkpointing", [True, False])
def test_what_people_chose_stays(checkpointing: bool) -> None:
    asked = {"auto_find_batch_size": False, "gradient_checkpointing": checkpointing, "checkpoint_every_n_layers": 2}
    assert sizes(choose(80, **asked)) == (4, 4, 2 if checkpointing else 0)
    assert sizes(choose(80, gradient_checkpointing=True, checkpoint_every_n_layers=3)) == (16, 1, 3)
    assert sizes(choose(80, auto_find_batch_size=False)) == (4, 4, 0)


def test_nothing_changes_on_a_cpu_or_where_the_model_is_split() -> None:
    settings = parse_settings(STEP)
    cpu = replace(gpu(80), device="cpu")
    assert choose_step_size(settings, workload(), shape_of("1.7B"), cpu, SPEED) == settings
    split = parse_settings({**STEP, "method": "lora", "fsdp": "full_shard", "num_processes": 2})
    assert choose_step_size(split, workload(), shape_of("1.7B"), gpu(80), SPEED) == split


def test_a_model_that_attends_to_the_whole_row_gets_shorter_rows() -> None:
    """Its scores grow with the square of the row's length."""
    plain = shape_of("1.7B")
    config = copy.deepcopy(plain.model.config)
    config.attn_logit_softcapping = 50.0
    masked = replace(plain, model=SimpleNamespace(config=config))
    batch = LargestBatch(16_384, 8_192)
    settings = parse_settings({**STEP, "method": "full", "gradient_checkpointing": True})
    one, other = (estimate_memory(shape, settings, batch, "cuda", "bfloat16").total for shape in (plain, masked))
    assert other - one > plain.heads * batch.tokens**2 * 2 / 2**30
