"""Where a model is answered while something else has the GPU. A GPU is described here, not needed."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sft_app.errors import ModelError
from sft_app.evaluation.score_run import keep_score
from sft_app.export.report import report_markdown
from sft_app.inference import device
from sft_app.inference.device import choose_device, limit_gpu_memory, slowdown_note
from sft_app.inference.pair import load_pair
from sft_app.inference.sides import BASE, Side, find_sides
from sft_app.inference.stream import compare_prompt
from sft_app.models.hardware import Hardware
from sft_app.models.shapes import read_shape
from sft_app.runtime.files import write_json_atomically
from sft_app.runtime.processes import process_started
from sft_app.runtime.resources import CUDA_CONTEXT_GIB, LOADED_MODEL_FACTOR
from sft_app.ui.compare.scorecard_views import scorecard_view


@pytest.fixture
def made(make_run: Any, tmp_path: Path) -> Any:
    return make_run(home=tmp_path, dtype="float32")


@pytest.fixture
def side(made: Any) -> Side:
    return find_sides(BASE, made.run.id, made.home)[1]


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Pretends a GPU with so much free memory."""

    def pretend(free: float, cpu_free: float = 8.0) -> None:
        found = Hardware("cuda", "GPU", "bfloat16", "", 80.0, free, 8)
        monkeypatch.setattr(device, "detect_hardware", lambda: found)
        monkeypatch.setattr(device, "cpu_hardware", lambda: replace(found, device="cpu", memory_free_gib=cpu_free))
        monkeypatch.setattr(device, "free_memory_gib", lambda _: cpu_free)

    return pretend


def at_work(made: Any, state: str = "training", memory_gib: float | None = None) -> None:
    record = made.run.record().model_copy(update={"memory_gib": memory_gib})
    write_json_atomically(made.run.settings_file, record.model_dump())
    made.run.update_status(state=state, pid=os.getpid(), pid_started=process_started(os.getpid()))


def test_a_gpu_with_room_is_taken(made: Any, side: Side, gpu: Any) -> None:
    gpu(free=1.0)
    hardware, note = choose_device(side, made.home)
    assert (hardware.device, note) == ("cuda", "")


def test_a_gpu_that_trains_leaves_the_answers_to_the_cpu_and_that_is_told(made: Any, side: Side, gpu: Any) -> None:
    gpu(free=0.0)
    at_work(made)
    hardware, note = choose_device(side, made.home)
    assert (hardware.device, hardware.dtype) == ("cpu", "float32")
    assert note.startswith("answered on the CPU because the model needs 0.0 GiB of the GPU's memory, but only 0.0 GiB ")
    assert f"because run {made.run.id} is training" in note


def test_run_keeps_what_it_will_need_by_its_preflight(made: Any, side: Side, gpu: Any) -> None:
    gpu(free=20.0)
    at_work(made, memory_gib=30.0)
    assert choose_device(side, made.home)[0].device == "cpu"
    made.run.log_metric(step=1, loss=1.0, memory_gib=12.0)
    hardware, note = choose_device(side, made.home)  # it holds 12 of its 30 GiB, so 18 of the free 20 are left to it
    assert (hardware.device, hardware.memory_free_gib, note) == ("cuda", 20.0 - 18.0 - CUDA_CONTEXT_GIB, "")
    made.run.log_metric(step=2, loss=1.0, memory_gib=10.0)
    assert choose_device(side, made.home)[0].memory_free_gib == hardware.memory_free_gib
    made.run.update_status(state="scoring")  # it has freed its memory and will take it again
    assert choose_device(side, made.home)[0].device == "cpu"


def test_run_of_unknown_need_keeps_the_whole_gpu_until_it_has_been_measured(made: Any, side: Side, gpu: Any) -> None:
    gpu(free=20.0)
    at_work(made, state="preparing")
    assert choose_device(side, made.home)[0].device == "cpu"
    made.run.update_status(state="training")
    made.run.log_metric(step=1, loss=1.0, memory_gib=12.0)
    hardware, _ = choose_device(side, made.home)
    assert (hardware.device, hardware.memory_free_gib) == ("cuda", 20.0 - 6.0 - CUDA_CONTEXT_GIB)


def test_comparison_beside_a_run_cannot_take_more_than_the_run_leaves(
    made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares: list[float] = []
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", shares.append)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: 2 * 2**30)
    usable = Hardware("cuda", "GPU", "bfloat16", "", 80.0, 6.0, 8)
    limit_gpu_memory(usable, made.home)
    at_work(made)
    limit_gpu_memory(usable, made.home)
    limit_gpu_memory(replace(usable, device="cpu"), made.home)
    assert shares == [1.0, 0.1]


def test_4bit_counts_its_linear_layers_at_half_a_byte_and_the_rest_in_full(made: Any, side: Side) -> None:
    shape = read_shape(side.base, made.home)
    rest = shape.parameters - shape.linear_weights
    assert rest > shape.linear_weights / 10  # the embedding of a small model
    expected = LOADED_MODEL_FACTOR * (0.55 * shape.linear_weights + 2 * rest) / 2**30
    assert device._needed_gib(replace(side, in_4bit=True), made.home, "bfloat16") == pytest.approx(expected)


def test_room_for_two_whole_models_is_needed_on_a_gpu_and_on_the_cpu_instead(made: Any, side: Side, gpu: Any) -> None:
    one = device._needed_gib(side, made.home, "float32")
    gpu(free=1.5 * one + CUDA_CONTEXT_GIB, cpu_free=1.5 * one)
    assert choose_device(side, made.home, models=1)[0].device == "cuda"
    with pytest.raises(ModelError, match="does not fit in memory"):
        choose_device(side, made.home, models=2)
    gpu(free=0.0, cpu_free=2.1 * one)
    assert choose_device(side, made.home, models=2)[0].device == "cpu"


def test_cpu_that_answers_instead_may_compute_in_the_narrower_dtype(made: Any, side: Side, gpu: Any) -> None:
    gpu(free=0.0, cpu_free=1.5 * device._needed_gib(side, made.home, "bfloat16"))
    hardware, note = choose_device(replace(side, dtype="auto"), made.home)
    assert (hardware.device, hardware.dtype) == ("cpu", "bfloat16")
    assert "answered on the CPU because" in note and " and computed in bfloat16 because float32 needs" in note


def test_no_room_anywhere_is_an_error_that_says_what_has_it(made: Any, side: Side, gpu: Any) -> None:
    gpu(free=0.0, cpu_free=0.0)
    at_work(made)
    with pytest.raises(ModelError, match=rf"The model does not fit in memory: .* run {made.run.id} is training\. Wait"):
        choose_device(side, made.home)


def test_a_model_too_large_for_the_memory_is_refused_before_it_is_loaded(
    made: Any, side: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "free_memory_gib", lambda _: 0.0)
    with pytest.raises(
        ModelError, match=r"tiny needs 0\.0 GiB of memory, but only 0\.0 GiB is free\. Choose a smaller"
    ):
        choose_device(side, made.home)


@pytest.fixture
def fast_in_bfloat16(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Pretends a CPU that trains in bfloat16, with room for so many numbers of the side's model at 2 bytes each."""

    def pretend(side: Side, home: Path, times: float) -> None:
        found = Hardware("cpu", "CPU", "bfloat16", "", 8.0, 8.0, 2)
        room = times * LOADED_MODEL_FACTOR * read_shape(side.base, home).parameters * 2 / 2**30
        monkeypatch.setattr(device, "detect_hardware", lambda: found)
        monkeypatch.setattr(device, "free_memory_gib", lambda _: room)

    return pretend


@pytest.mark.parametrize("dtype", ["auto", "bfloat16", "float16", "float32"])
def test_a_cpu_compares_in_float32_whatever_it_trains_in(
    made: Any, side: Side, fast_in_bfloat16: Any, dtype: str
) -> None:
    fast_in_bfloat16(side, made.home, 2.1)
    hardware, note = choose_device(replace(side, dtype=dtype), made.home)
    assert (hardware.device, hardware.dtype, note) == ("cpu", "float32", "")


def test_where_float32_has_no_room_the_result_says_so(made: Any, side: Side, fast_in_bfloat16: Any) -> None:
    side = replace(side, dtype="auto")
    fast_in_bfloat16(side, made.home, 1.5)
    hardware, note = choose_device(side, made.home)
    assert hardware.dtype == "bfloat16" and note.startswith("computed in bfloat16 because float32 needs")
    fast_in_bfloat16(side, made.home, 0.9)
    with pytest.raises(ModelError, match="Choose a smaller model"):
        choose_device(side, made.home)


def test_room_for_a_whole_second_model_is_reckoned_with(made: Any, side: Side, fast_in_bfloat16: Any) -> None:
    side = replace(side, dtype="auto")
    fast_in_bfloat16(side, made.home, 3.0)
    assert choose_device(side, made.home, models=1)[0].dtype == "float32"
    assert choose_device(side, made.home, models=2)[0].dtype == "bfloat16"


def test_the_scorecard_says_what_it_was_computed_in(made: Any, fast_in_bfloat16: Any) -> None:
    sides = find_sides(BASE, made.run.id, made.home)
    sides = tuple(replace(side, dtype="auto") for side in sides)
    fast_in_bfloat16(sides[0], made.home, 1.5)
    card = keep_score(made.run, load_pair(sides, made.home), 0)
    assert card.dtype == "bfloat16" and "Computed in bfloat16 because float32 needs" in scorecard_view(card)
    assert "Computed in bfloat16" in report_markdown(made.run)


def test_answers_beside_a_run_at_work_say_so(made: Any) -> None:
    assert slowdown_note(made.home) == ""
    pair = load_pair(find_sides(BASE, made.run.id, made.home), made.home)
    at_work(made)
    evidence = compare_prompt(pair, "Hi", "", sampling()).evidence
    assert evidence.note == f"run {made.run.id} is training on this machine, so this takes longer"


def sampling() -> Any:
    from sft_app.inference.generation import Sampling

    return Sampling(max_new_tokens=2)
