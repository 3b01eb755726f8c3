"""What a run will take, by hand, and what makes one fit that does not."""

from __future__ import annotations

import itertools
import json
import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, PreTrainedModel

from sft_app.data.checkup.lengths import measure_lengths
from sft_app.data.reading import load_data, open_data
from sft_app.errors import DataError
from sft_app.models.hardware import Hardware
from sft_app.models.shapes import LinearShape, ModelShape
from sft_app.settings import RunSettings, parse_settings
from sft_app.training.estimates.memory import GIB, NF4_BYTES, LargestBatch, estimate_memory
from sft_app.training.estimates.speed import (
    START_SECONDS,
    MachineSpeed,
    computed_per_step,
    count_evaluations,
    expected_longest,
    scoring_seconds,
    seconds_for,
    step_seconds,
)
from sft_app.training.fast_paths.step_plan import MAX_LOGITS_IN_MEMORY
from sft_app.training.preflight.fitting import suggest_change
from sft_app.training.preflight.plan import (
    DryRunResult,
    Machine,
    Preflight,
    Workload,
    check_plan,
    count_steps,
    largest_batch,
    plan_workload,
)


class TenLayers(PreTrainedModel):  # type: ignore[misc]
    """Without memory for its weights, as a preflight has it."""

    config_class = LlamaConfig

    def __init__(self) -> None:
        super().__init__(LlamaConfig())
        with torch.device("meta"):
            layers = [torch.nn.ModuleDict({"down_proj": torch.nn.Linear(100, 200, bias=False)}) for _ in range(10)]
        self.layers = torch.nn.ModuleList([torch.nn.ModuleDict({"mlp": layer}) for layer in layers])

    def get_output_embeddings(self) -> None:
        return None

    def prepare_inputs_for_generation(self) -> None:
        raise NotImplementedError


SHAPE = ModelShape(
    parameters=1_000_000,
    linears=tuple(LinearShape(f"layers.{n}.mlp.down_proj", 100, 200) for n in range(10)),
    hidden_size=100,
    intermediate_size=400,
    layers=10,
    vocabulary=1000,
    query_width=100,
    key_width=50,
    heads=4,
    model=TenLayers(),
)
CPU = Hardware("cpu", "a machine", "float32", "", 16.0, 8.0, 2)
SPEED = MachineSpeed("cpu", "float32", 1e11, 1e10)


def asked(**settings: Any) -> RunSettings:
    return parse_settings(
        {"method": "lora", "replay": 0, "num_train_epochs": 2.0, "gradient_accumulation_steps": 1, **settings}
    )


def workload(tokens: list[int], trained: list[int] | None = None, conversations: int | None = None) -> Workload:
    ordered = sorted(tokens, reverse=True)
    labels = trained or [token // 2 for token in ordered]
    return Workload(np.array(ordered), np.array(labels), conversations or len(tokens), 4, max(tokens))


# what is trained on


def test_workload_of_a_file_by_hand(home: Path, tmp_path: Path, tokenizer: Any) -> None:
    """24 conversations, two of them held out (`heldout_min`); one token a character."""
    path = tmp_path / "a.jsonl"
    rows = [{"prompt": "ab", "completion": "c" * (n + 1)} for n in range(24)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = asked(data=str(path), heldout_fraction=0.0, heldout_min=2)
    lengths = measure_lengths(tokenizer, load_data(open_data(settings.reading(), home)).examples, None, 24)
    frame = len("SuserNabENSassistantNEN")
    found = plan_workload(lengths, settings)
    assert found.tokens.tolist() == [frame + n for n in range(24, 0, -1)]
    assert found.trained.tolist() == [n + 1 for n in range(24, 0, -1)]
    assert (found.conversations, found.heldout, found.max_length) == (22, 2, 128)
    cut = plan_workload(lengths, asked(data=str(path), heldout_min=2, max_length=frame + 10))
    assert cut.tokens.max() == frame + 10
    assert cut.trained.tolist()[:3] == [11, 11, 11]


def test_too_few_conversations_are_told(tokenizer: Any, home: Path, data_file: Path) -> None:
    settings = asked(data=str(data_file), heldout_min=24)
    lengths = measure_lengths(tokenizer, load_data(open_data(settings.reading(), home)).examples, None, 24)
    with pytest.raises(DataError, match="24 conversations are too few"):
        plan_workload(lengths, settings)


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        ({"max_steps": 7}, 7),
        ({"num_train_epochs": 1, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 1}, 25),
        ({"num_train_epochs": 2, "per_device_train_batch_size": 3, "gradient_accumulation_steps": 2}, 34),
        ({"num_train_epochs": 1, "per_device_train_batch_size": 3, "gradient_accumulation_steps": 4}, 9),
        (
            {
                "num_train_epochs": 1,
                "per_device_train_batch_size": 1,
                "gradient_accumulation_steps": 1,
                "packing_strategy": "bfd",
                "max_length": 100,
            },
            50,
        ),
        (
            {
                "num_train_epochs": 1,
                "per_device_train_batch_size": 5,
                "gradient_accumulation_steps": 1,
                "num_processes": 2,
            },
            10,
        ),
    ],
)
def test_steps_by_hand(settings: dict[str, Any], steps: int) -> None:
    """100 conversations of 50 tokens."""
    assert count_steps(asked(**settings), replace(workload([50] * 100), max_length=100)) == steps


@pytest.mark.parametrize("settings", [{}, {"gradient_accumulation_steps": 3}, {"num_train_epochs": 1.5}])
def test_steps_are_those_that_the_trainer_takes(make_run: Any, work: Any, settings: dict[str, Any]) -> None:
    run = make_run(**{"max_steps": -1, "num_train_epochs": 1, "per_device_train_batch_size": 3, **settings})
    assert work(run) == 0
    told = count_steps(run.record().settings, workload([30] * 20))
    assert run.status().total_steps == told


# the largest batch


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, LargestBatch(90 + 70, 45 + 35)),
        ({"packing": False}, LargestBatch(2 * 90, 45 + 35)),
        ({"trainer": "classic"}, LargestBatch(2 * 90, 45 + 35)),
        ({"trainer": "classic", "block_size": 64}, LargestBatch(128, 128)),
        ({"packing_strategy": "bfd"}, LargestBatch(180, 90)),
        ({"per_device_train_batch_size": 5}, LargestBatch(90 + 70 + 20 + 90 + 70, 170)),
    ],
)
def test_largest_batch_by_hand(settings: dict[str, Any], expected: LargestBatch) -> None:
    settings = {"per_device_train_batch_size": 2, **settings}
    assert largest_batch(asked(**settings), workload([20, 90, 70]), "cpu") == expected


def test_expected_longest_is_the_mean_over_all_draws() -> None:
    chance = random.Random(2)
    for rows in (1, 2, 3):
        tokens = sorted((chance.randint(1, 50) for _ in range(5)), reverse=True)
        draws = [max(draw) for draw in itertools.product(tokens, repeat=rows)]
        assert expected_longest(np.array(tokens), rows) == pytest.approx(sum(draws) / len(draws))


def test_padding_is_computed_and_not_counted_as_useful() -> None:
    tokens = [10, 20, 30, 40]
    packed, padded = (asked(packing=packing, per_device_train_batch_size=2) for packing in (True, False))
    rows = packed.rows_per_step()
    assert computed_per_step(packed, workload(tokens), "cpu")[0] == rows * 25
    assert computed_per_step(padded, workload(tokens), "cpu")[0] == pytest.approx(
        rows * expected_longest(np.array(tokens[::-1]), 2)
    )


# memory


def memory_of(batch: LargestBatch | None = None, device: str = "cpu", dtype: str = "float32", **settings: Any) -> Any:
    return estimate_memory(SHAPE, asked(**settings), batch or LargestBatch(64, 32), device, dtype)


def test_weights_and_trained_parts_by_hand() -> None:
    adapter = 16 * (100 + 200) * 10
    assert memory_of().weights * GIB == pytest.approx(4e6)
    assert memory_of(dtype="bfloat16").weights * GIB == pytest.approx(2e6)
    assert memory_of().trained * GIB == pytest.approx(16 * adapter)
    assert memory_of(method="full").trained * GIB == pytest.approx(12e6)
    four_bit = memory_of(method="qlora", dtype="bfloat16", device="cuda")
    assert four_bit.weights * GIB == pytest.approx(200_000 * NF4_BYTES + 800_000 * 2)
    assert four_bit.trained * GIB == pytest.approx(16 * adapter)


def test_total_is_the_sum_and_a_tenth() -> None:
    parts = memory_of()
    expected = parts.process + parts.weights + parts.trained + parts.activations + parts.loss_head
    assert parts.expected == pytest.approx(expected)
    assert parts.total == pytest.approx(1.1 * expected)


def test_head_of_the_packed_trainer_holds_a_chunk_and_that_of_others_all_logits() -> None:
    many = LargestBatch(80_000, 40_000)
    assert MAX_LOGITS_IN_MEMORY < 40_000 * 1000
    chunk = MAX_LOGITS_IN_MEMORY * 4 + 2 * 4 * 40_000 * 100
    assert memory_of(many).loss_head * GIB == pytest.approx(chunk)
    assert memory_of(many, trainer="classic").loss_head * GIB >= 80_000 * 1000 * 12


@pytest.mark.parametrize("settings", [{}, {"method": "full"}, {"method": "qlora"}, {"trainer": "classic"}])
def test_more_tokens_take_more_and_checkpointing_less(settings: dict[str, Any]) -> None:
    few, many = LargestBatch(1000, 500), LargestBatch(40_000, 20_000)
    assert memory_of(many, **settings).total > memory_of(few, **settings).total
    twice = memory_of(many, **{**settings, "gradient_checkpointing": True})
    assert twice.activations < 0.7 * memory_of(many, **settings).activations


# time


def test_seconds_of_a_step_grow_with_tokens_and_repeats() -> None:
    one = step_seconds(asked(), SHAPE, SPEED, 1000, 500)
    assert step_seconds(asked(), SHAPE, SPEED, 2000, 1000) == pytest.approx(2 * one)
    assert step_seconds(asked(gradient_checkpointing=True), SHAPE, SPEED, 1000, 500) > one
    assert step_seconds(asked(method="full"), SHAPE, SPEED, 1000, 500) > one
    assert step_seconds(asked(), SHAPE, replace(SPEED, flops=1e9, bytes=1e8), 1000, 500) == pytest.approx(100 * one)


@pytest.mark.parametrize(
    ("eval_steps", "steps", "evaluations"), [(0.5, 44, 3), (0.25, 100, 5), (10, 25, 4), (1000, 25, 2), (0.1, 3, 4)]
)
def test_evaluations_by_hand(eval_steps: float, steps: int, evaluations: int) -> None:
    assert count_evaluations(asked(eval_steps=eval_steps), steps) == evaluations


def test_measured_pace_takes_the_place_of_the_formula() -> None:
    """A dry run of 400 tokens a step in 8 seconds; a step of this data has 100."""
    settings = asked(max_steps=10, per_device_train_batch_size=4, gradient_accumulation_steps=1, watch_prompts=())
    measured = DryRunResult(peak_gib=2.0, seconds_per_step=8.0, tokens_per_step=400.0, trained_per_step=200.0)
    seconds = seconds_for(settings, workload([25] * 40), SHAPE, SPEED, 10, measured)
    scoring = scoring_seconds(settings, workload([25] * 40), SHAPE, SPEED)
    assert seconds == pytest.approx(START_SECONDS + 10 * 2.0 + scoring, rel=0.01)


def test_answers_of_the_scorecard_take_their_time_in_batches() -> None:
    many = replace(workload([25] * 400), heldout=100)

    def took(prompts: int, tokens: int, examples: int = 0) -> float:
        settings = asked(
            scorecard_prompts=prompts, max_new_tokens=tokens, scorecard_prompted=examples, general_answers=0
        )
        return scoring_seconds(settings, many, SHAPE, SPEED)

    none = took(0, 100)
    assert took(0, 50) == none
    assert took(16, 100) - none == pytest.approx(2 * (took(8, 100) - none))
    assert took(16, 200) - none == pytest.approx(2 * (took(16, 100) - none))
    assert took(0, 100, examples=3) == none
    assert took(16, 100) < took(16, 100, examples=3) < took(16, 100, examples=30) < 2 * took(16, 100)


# the whole


def plan(settings: RunSettings, free_gib: float = 8.0, measured: DryRunResult | None = None) -> Preflight:
    longest = workload([min(n, settings.max_length or 4096) for n in range(4000, 4100)])
    hardware = replace(CPU, memory_free_gib=free_gib)
    return check_plan(settings, longest, SHAPE, hardware, SPEED, (1.0, 50.0), measured)


def test_preflight_is_one_json_document() -> None:
    told = plan(asked(per_device_train_batch_size=2, gradient_accumulation_steps=1)).as_json()
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert (told["steps"], told["rows_per_step"], told["trainable_share"]) == (100, 2, 48_000 / 1_000_000)
    assert told["tokens_per_step"] == pytest.approx(2 * 4049.5, rel=1e-4)
    assert told["memory_gib"] == told["memory"]["total"]
    assert (told["fits_memory"], told["fits_disk"]) == (True, True)


def test_measured_peak_takes_the_place_of_the_formula() -> None:
    measured = DryRunResult(peak_gib=7.9, seconds_per_step=1.0, tokens_per_step=100.0, trained_per_step=50.0)
    found = plan(asked(), measured=measured)
    assert found.memory_gib == pytest.approx(7.9 + found.memory.margin)
    assert not found.fits_memory


def test_machine_tells_a_real_model_and_disk(tiny_model_dir: Path, home: Path, data_file: Path, tokenizer: Any) -> None:
    settings = asked(model=str(tiny_model_dir), data=str(data_file))
    lengths = measure_lengths(tokenizer, load_data(open_data(settings.reading(), home)).examples, None, 24)
    found = Machine(home).preflight(settings, lengths, data_file.stat().st_size)
    assert (found.conversations, found.heldout, found.max_length) == (16, 8, 128)
    assert 0 < found.trainable < found.parameters
    assert found.disk_free_gib > 0 and found.fits_memory and math.isfinite(found.seconds)


# what makes it fit


def needs(**settings: Any) -> float:
    return plan(asked(**settings)).memory_gib


def suggest(free_gib: float, **settings: Any) -> Any:
    now = asked(**settings)
    return suggest_change(now, plan(now, free_gib), lambda changed: plan(changed, free_gib))


BIG = {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 2, "model": "somewhere/large"}


def test_nothing_is_suggested_where_it_fits_or_nothing_helps() -> None:
    assert suggest(100.0, **BIG) is None
    assert suggest(0.1, **BIG) is None


def test_fewer_conversations_at_once_come_first_and_a_step_stays_as_large() -> None:
    free = needs(**{**BIG, "per_device_train_batch_size": 4}) + 0.001
    found = suggest(free, **BIG)
    assert found.changes == {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 4}
    assert found.preflight.rows_per_step == 16 and found.preflight.fits_memory
    assert found.sentence == (
        "To make it fit: use batches of 4 and accumulate 4 (each step still covers the same number of conversations)."
    )


def test_activations_twice_come_next_with_as_large_a_batch_as_fits() -> None:
    free = needs(**{**BIG, "per_device_train_batch_size": 1}) - 0.001
    found = suggest(free, **BIG)
    assert found.changes["gradient_checkpointing"] is True
    assert "max_length" not in found.changes and "method" not in found.changes
    assert found.preflight.memory_gib <= free


@pytest.fixture
def heavy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model of many weights, which four bits make small."""
    linears = tuple(LinearShape(f"layers.{n}.mlp.down_proj", 100, 20_000) for n in range(10))
    monkeypatch.setitem(globals(), "SHAPE", replace(SHAPE, parameters=20_800_000, linears=linears))


@pytest.mark.usefixtures("heavy")
def test_four_bits_come_next_and_alone_where_that_is_enough() -> None:
    smallest = {**BIG, "per_device_train_batch_size": 1, "gradient_checkpointing": True}
    found = suggest(needs(**smallest) - 0.0001, **BIG).changes
    assert found["method"] == "qlora" and "max_length" not in found
    one: dict[str, Any] = {**BIG, "per_device_train_batch_size": 1, "gradient_accumulation_steps": 1}
    alone = suggest(
        needs(**one, method="qlora", gradient_checkpointing=True) + 0.001, **one, gradient_checkpointing=True
    )
    assert alone.changes == {"method": "qlora"}


def test_layers_that_are_not_recomputed_are_a_way_out() -> None:
    few = {**BIG, "gradient_checkpointing": True, "checkpoint_every_n_layers": 8, "per_device_train_batch_size": 1}
    free = needs(**{**few, "checkpoint_every_n_layers": 1}) + 0.001
    found = suggest(free, **few)
    assert found is not None and found.changes == {"gradient_checkpointing": True, "checkpoint_every_n_layers": 1}


@pytest.mark.usefixtures("heavy")
def test_conversations_are_cut_last_and_no_shorter_than_needed() -> None:
    smallest = {**BIG, "per_device_train_batch_size": 1, "gradient_checkpointing": True, "method": "qlora"}
    found = suggest(needs(**smallest) - 0.0001, **BIG).changes
    assert found["max_length"] == 2048


def test_what_was_measured_to_be_more_is_expected_to_stay_more() -> None:
    """Twice the formula: what fits by the formula alone is not suggested."""
    now = asked(**BIG)
    free = needs(**{**BIG, "per_device_train_batch_size": 4}) + 0.001
    told = plan(now, free)
    measured = DryRunResult(2 * told.memory.expected, 1.0, 100.0, 50.0)
    found = suggest_change(now, plan(now, free, measured), lambda changed: plan(changed, free))
    assert found.changes["per_device_train_batch_size"] < 4


@pytest.mark.parametrize("free_gib", [0.9, 1.0, 1.2, 1.5, 2.0, 3.0])
def test_whatever_is_suggested_is_valid_and_fits(free_gib: float) -> None:
    found = suggest(free_gib, **BIG)
    if found is not None:
        changed = parse_settings({**asked(**BIG).model_dump(), **found.changes})
        assert plan(changed, free_gib).fits_memory
        assert changed.rows_per_step() == asked(**BIG).rows_per_step()
