"""Where a model is answered while something else has the GPU. A GPU is described here, not needed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from sft_app.compare import device
from sft_app.compare.device import choose_device, slowed_down_by
from sft_app.compare.pair import load_pair
from sft_app.compare.sides import BASE, Side, find_sides
from sft_app.compare.stream import compare_prompt
from sft_app.errors import ModelError
from sft_app.models.hardware import Hardware
from sft_app.processes import process_started


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
        monkeypatch.setattr(device, "free_gib", lambda _: cpu_free)

    return pretend


def at_work(made: Any) -> None:
    made.run.update_status(state="training", pid=os.getpid(), pid_started=process_started(os.getpid()))


def test_a_gpu_with_room_is_taken(made: Any, side: Side, gpu: Any) -> None:
    gpu(free=1.0)
    hardware, note = choose_device(side, made.home)
    assert (hardware.device, note) == ("cuda", "")


def test_a_gpu_that_trains_leaves_the_answers_to_the_cpu_and_that_is_told(made: Any, side: Side, gpu: Any) -> None:
    gpu(free=0.0)
    at_work(made)
    hardware, note = choose_device(side, made.home)
    assert (hardware.device, hardware.dtype) == ("cpu", "float32")
    assert note.startswith("answered on the CPU, since the GPU has 0.0 GiB free")
    assert f"because run {made.run.id} is training" in note


def test_no_room_anywhere_is_an_error_that_says_what_has_it(made: Any, side: Side, gpu: Any) -> None:
    gpu(free=0.0, cpu_free=0.0)
    at_work(made)
    with pytest.raises(ModelError, match=rf"no room for the model: .* run {made.run.id} is training\. Wait"):
        choose_device(side, made.home)


def test_a_model_too_large_for_the_memory_is_refused_before_it_is_loaded(
    made: Any, side: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "free_gib", lambda _: 0.0)
    with pytest.raises(ModelError, match=r"tiny needs 0\.0 GiB of memory, and 0\.0 GiB are free\. Take a smaller"):
        choose_device(side, made.home)


def test_answers_beside_a_run_at_work_say_so(made: Any) -> None:
    assert slowed_down_by(made.home) == ""
    pair = load_pair(find_sides(BASE, made.run.id, made.home), made.home)
    at_work(made)
    evidence = compare_prompt(pair, "Hi", "", sampling()).evidence
    assert evidence.note == f"run {made.run.id} is training on this machine, so this takes longer"


def sampling() -> Any:
    from sft_app.compare.generate import Sampling

    return Sampling(max_new_tokens=2)
