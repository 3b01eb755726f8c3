"""Apple's GPU is used only after a step on it agreed. There is none here: the CPU, changed, takes its place."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from sft_app.inference import device as inference_device
from sft_app.models import apple_gpu
from sft_app.models.apple_gpu import apple_gpu_problem, largest_difference, train_one_step, trial_problem
from sft_app.models.hardware import Hardware, detect_hardware
from sft_app.settings import parse_settings
from sft_app.training import distributed


@pytest.fixture
def mac(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """A Mac whose GPU takes its trial step as `change` makes it of the CPU's."""

    def make(change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        monkeypatch.setattr(sys, "platform", "darwin")
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 8 * 2**30)
        real = train_one_step
        monkeypatch.setattr(
            apple_gpu, "train_one_step", lambda name: real("cpu") if name == "cpu" else change(real("cpu"))
        )

    apple_gpu_problem.cache_clear()
    yield make
    apple_gpu_problem.cache_clear()


def test_gpu_whose_step_agrees_is_used_in_float32(mac: Callable[..., Any]) -> None:
    mac(lambda step: {name: value * (1 + 1e-6) for name, value in step.items()})
    found = detect_hardware()
    assert (found.device, found.name, found.dtype) == ("mps", "Apple GPU", "float32")
    assert 0 < found.memory_free_gib <= found.memory_gib == 8.0
    assert apple_gpu_problem() == ""


@pytest.mark.parametrize("name", ["loss", "gradient of model.layers.1.mlp.up_proj.weight", "model.norm.weight"])
def test_gpu_whose_step_differs_in_anything_is_not_used_and_says_so(mac: Callable[..., Any], name: str) -> None:
    mac(lambda step: {**step, name: step[name] * 1.05})
    assert detect_hardware().device == "cpu"
    assert apple_gpu_problem().startswith("The Apple GPU is not used, because a trial step on it differs from the pro")
    assert apple_gpu_problem().endswith("by 5.0%.")


def test_gpu_that_computes_nan_is_not_used(mac: Callable[..., Any]) -> None:
    mac(lambda step: {**step, "loss": step["loss"] * float("nan")})
    assert detect_hardware().device == "cpu"


def test_gpu_that_lacks_an_operation_is_not_used_and_says_so(mac: Callable[..., Any]) -> None:
    def fail(step: dict[str, Any]) -> dict[str, Any]:
        raise NotImplementedError("aten::something is not implemented for MPS")

    mac(fail)
    assert detect_hardware().device == "cpu"
    assert apple_gpu_problem() == (
        "The Apple GPU is not used, because a trial step failed on it "
        "(NotImplementedError: aten::something is not implemented for MPS)."
    )


def test_trial_step_is_the_same_each_time_and_leaves_the_random_numbers_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    assert largest_difference(train_one_step("cpu"), train_one_step("cpu")) == 0.0
    assert torch.rand(1) == expected
    assert trial_problem("cpu") == ""


def test_machine_without_such_a_gpu_has_no_problem_with_it() -> None:
    apple_gpu_problem.cache_clear()
    assert apple_gpu_problem() == ""


@pytest.mark.parametrize(
    ("settings", "is_checked"),
    [({}, True), ({"dtype": "bfloat16"}, False), ({"method": "qlora"}, False), ({"num_processes": 2}, False)],
)
def test_run_beyond_what_was_checked_uses_the_processor_and_says_so(
    settings: dict[str, Any], is_checked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = parse_settings({"method": "lora", **settings})
    gpu = Hardware("mps", "Apple GPU", "float32", "", 8.0, 8.0, 8)
    monkeypatch.setattr(distributed, "detect_hardware", lambda: gpu)
    assert (distributed.unchecked_on_apple_gpu(chosen) == "") == is_checked
    assert distributed.this_rank_hardware(chosen).device == ("mps" if is_checked else "cpu")


def test_comparison_on_such_a_gpu_is_in_float32() -> None:
    gpu = Hardware("mps", "Apple GPU", "float32", "", 8.0, 8.0, 8)
    assert inference_device.comparison_dtype(gpu, "bfloat16") == "float32"
