"""What a run settles for itself: its `max_length`, which is the page's number, and its precision."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset

from sft_app.data.checkup.inspection import inspect_data
from sft_app.data.reading import open_data
from sft_app.errors import ModelError
from sft_app.inference.sides import find_sides
from sft_app.models.catalog import recorded_model
from sft_app.models.hardware import Hardware
from sft_app.models.loading import load_tokenizer
from sft_app.runs.folder import Run
from sft_app.training import auto_settings, distributed
from sft_app.training.auto_settings import resolve_max_length, resolve_precision, resolve_step_size
from sft_app.training.estimates.speed import MachineSpeed
from sft_app.training.tokenized_dataset import load_tokenized_dataset


def rows(lengths: list[int]) -> str:
    return "".join(json.dumps({"prompt": f"q{n}", "completion": "x" * size}) + "\n" for n, size in enumerate(lengths))


@pytest.mark.parametrize("longest", [20, 200, 3000])
def test_run_takes_what_the_check_up_told(make_run: Callable[..., Run], home: Path, longest: int) -> None:
    """The tiny model's context is 512."""
    run = make_run(max_length=None)
    settings = run.record().settings.model_copy(update={"data": str(home / "other.jsonl")})
    Path(settings.data).write_text(rows([5] * 20 + [longest]))
    from sft_app.training.launch import create_queued_run

    other = create_queued_run(settings, home)
    tokenizer = load_tokenizer(recorded_model(other), home)
    told = inspect_data(open_data(settings.reading(), home), settings, tokenizer).lengths
    assert told is not None
    assert resolve_max_length(other, tokenizer) == told.max_length
    assert other.record().settings.max_length == told.max_length == {20: 128, 200: 256, 3000: 512}[longest]


def test_length_that_was_asked_for_stays(make_run: Callable[..., Run], tokenizer: Any) -> None:
    run = make_run(max_length=100)
    before = (run.path / "settings.json").read_bytes()
    assert resolve_max_length(run, tokenizer) == 100
    assert (run.path / "settings.json").read_bytes() == before


def test_worked_out_length_stands_in_the_settings_after_the_run(
    make_run: Callable[..., Run], work: Callable[..., int]
) -> None:
    run = make_run(max_length=None)
    assert work(run) == 0
    assert run.status().state == "finished", run.status()
    assert run.record().settings.max_length == 128


def machine_with(dtype: str) -> Hardware:
    return Hardware("cpu", "a processor", dtype, "as the test says", 8.0, 8.0, 2)


def test_run_records_the_precision_it_was_trained_in(make_run: Callable[..., Run], work: Callable[..., int]) -> None:
    run = make_run(max_steps=1)
    assert work(run) == 0
    assert run.status().precision == distributed.detect_hardware().dtype


@pytest.mark.parametrize("asked", ["auto", "float32"])
def test_resumed_run_keeps_its_precision_on_a_machine_that_prefers_another(
    make_run: Callable[..., Run], asked: str
) -> None:
    run = make_run(dtype=asked)
    settings = run.record().settings
    first = resolve_precision(run, settings, machine_with("float32"))
    assert first == resolve_precision(run, settings, machine_with("bfloat16")) == run.status().precision == "float32"


def test_weights_that_are_trained_whole_are_float32(make_run: Callable[..., Run]) -> None:
    run = make_run(method="full", dtype="bfloat16")
    assert resolve_precision(run, run.record().settings, machine_with("bfloat16")) == "float32"


def test_sides_of_a_run_are_asked_for_in_its_recorded_precision(
    make_run: Callable[..., Run], work: Callable[..., int], home: Path
) -> None:
    run = make_run(max_steps=1)
    run.update_status(precision="bfloat16")
    assert work(run) == 0
    assert {side.dtype for side in find_sides("base", run.id, home)} == {"bfloat16"}


@pytest.mark.skipif(torch.cuda.is_available(), reason="float16 trains on a GPU")
@pytest.mark.parametrize(("recorded", "advice"), [("", "Set dtype to auto"), ("float16", "on a machine with a GPU")])
def test_float16_without_a_gpu_is_refused_with_what_to_do(
    make_run: Callable[..., Run], recorded: str, advice: str
) -> None:
    run = make_run(dtype="float16")
    run.update_status(precision=recorded)
    with pytest.raises(ModelError, match=advice):
        resolve_precision(run, run.record().settings, machine_with("float32"))


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Hardware:
    """A card, as far as the decision is concerned, with plenty of memory for the tiny model."""
    monkeypatch.setattr(auto_settings, "measure_speed", lambda *_: MachineSpeed("cuda", "bfloat16", 1e14, 1e12))
    return Hardware("cuda", "a card", "bfloat16", "", 24.0, 23.0, 8)


@pytest.fixture
def run_of_16(make_run: Callable[..., Run]) -> Run:
    return make_run(per_device_train_batch_size=4, gradient_accumulation_steps=4)


def tokenized(run: Run, tokenizer: Any) -> Dataset:
    return load_tokenized_dataset(run, tokenizer, run.record().settings.max_length or 0)


def test_a_gpu_computes_a_step_at_once_and_a_resumed_run_does_the_same(
    run_of_16: Run, tokenizer: Any, gpu: Hardware
) -> None:
    settings, train = run_of_16.record().settings, tokenized(run_of_16, tokenizer)
    first = resolve_step_size(run_of_16, settings, train, gpu)
    assert (first.per_device_train_batch_size, first.gradient_accumulation_steps) == (16, 1)
    assert first.gradient_checkpointing is False
    assert (run_of_16.status().micro_batch, run_of_16.status().checkpoint_every) == (16, 0)
    small = Hardware("cuda", "another card", "bfloat16", "", 1.0, 0.1, 8)
    assert resolve_step_size(run_of_16, settings, train, small) == first


def test_a_run_that_ran_out_of_memory_takes_the_smaller_step_it_was_given(
    run_of_16: Run, tokenizer: Any, gpu: Hardware
) -> None:
    run_of_16.update_status(micro_batch=8, checkpoint_every=1)
    found = resolve_step_size(run_of_16, run_of_16.record().settings, tokenized(run_of_16, tokenizer), gpu)
    assert (found.per_device_train_batch_size, found.gradient_accumulation_steps) == (8, 2)
    assert found.gradient_checkpointing is True
    asked = run_of_16.record().settings.model_copy(update={"gradient_checkpointing": False})
    assert resolve_step_size(run_of_16, asked, tokenized(run_of_16, tokenizer), gpu).gradient_checkpointing is False


def test_a_cpu_takes_the_step_as_it_stands_in_the_settings(run_of_16: Run, tokenizer: Any) -> None:
    settings = run_of_16.record().settings
    found = resolve_step_size(run_of_16, settings, tokenized(run_of_16, tokenizer), machine_with("float32"))
    assert found == settings and run_of_16.status().micro_batch is None
