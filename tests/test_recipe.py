"""What a run chooses for its data and model, as a table: from 50 rows on a laptop to 50,000 on a large GPU."""

from __future__ import annotations

from typing import Any

import pytest

from sft_app.settings import PRESETS, RunSettings, parse_settings, with_recipe, with_schedule

STARTER, LLAMA_1B, LLAMA_8B, QWEN_4B = (576, "llama"), (2048, "llama"), (4096, "llama"), (2560, "qwen3")


def chosen(conversations: int, model: tuple[int, str], **given: Any) -> RunSettings:
    return with_recipe(parse_settings({"method": "lora", **given}), conversations, *model)


@pytest.mark.parametrize(
    ("preset", "conversations", "model", "rows", "passes", "rate"),
    [
        ("quick", 50, STARTER, 4, 3.87, 1.3e-3),
        ("quick", 226, STARTER, 4, 0.851, 1.3e-3),
        ("quick", 50_000, LLAMA_8B, 4, 0.00477, 2.9e-4),
        ("good", 20, STARTER, 4, 8.0, 1.3e-3),
        ("good", 50, STARTER, 4, 6.45, 1.3e-3),
        ("good", 120, STARTER, 4, 3.0, 1.3e-3),
        ("good", 226, STARTER, 4, 3.0, 1.3e-3),
        ("good", 450, STARTER, 4, 3.0, 1.3e-3),  # the limits are those of one's own conversations
        ("good", 1_000, LLAMA_1B, 8, 3.0, 4.9e-4),
        ("good", 1_700, LLAMA_1B, 8, 3.0, 4.9e-4),
        ("good", 5_000, QWEN_4B, 16, 2.0, 4.9e-4),
        ("good", 50_000, LLAMA_8B, 32, 1.0, 2.9e-4),
        ("best", 226, STARTER, 4, 4.5, 1.3e-3),
        ("best", 50_000, LLAMA_8B, 32, 1.5, 2.9e-4),
    ],
)
def test_the_recipe(
    preset: str, conversations: int, model: tuple[int, str], rows: int, passes: float, rate: float
) -> None:
    found = chosen(conversations, model, preset=preset)
    assert (found.rows_per_step(), found.passes(), found.learning_rate) == (rows, passes, rate)
    assert found.max_steps == (60 if preset == "quick" else -1) and found.replay == 0.2


@pytest.mark.parametrize("preset", PRESETS)
def test_all_weights_learn_at_a_tenth_of_an_adapters_rate(preset: str) -> None:
    full, adapter = (chosen(100, LLAMA_1B, preset=preset, method=method) for method in ("full", "lora"))
    assert full.learning_rate == pytest.approx(adapter.learning_rate / 10, rel=0.1)


def test_a_narrow_model_does_not_get_a_rate_without_limit() -> None:
    assert chosen(100, (16, "llama")).learning_rate == 2e-3


def test_what_was_chosen_by_hand_stays() -> None:
    given = {"num_train_epochs": 7.0, "gradient_accumulation_steps": 3, "learning_rate": 1e-5, "max_steps": 9}
    assert chosen(100, STARTER, **given).model_dump(include=set(given)) == given


@pytest.mark.parametrize(("at_once", "processes", "batches"), [(1, 1, 4), (2, 1, 2), (3, 1, 1), (16, 1, 1), (4, 8, 1)])
def test_a_step_has_as_many_conversations_however_they_are_computed(at_once: int, processes: int, batches: int) -> None:
    given = {"per_device_train_batch_size": at_once, "num_processes": processes}
    assert chosen(100, STARTER, **given).gradient_accumulation_steps == batches


def test_a_choice_is_made_once() -> None:
    once = chosen(100, STARTER)
    assert with_recipe(once, 50_000, *LLAMA_8B) == once and with_schedule(once, 50_000) == once


@pytest.mark.parametrize("preset", PRESETS)
def test_no_conversations_yet_is_no_error(preset: str) -> None:
    assert with_schedule(parse_settings({"preset": preset}), 0).passes() > 0
