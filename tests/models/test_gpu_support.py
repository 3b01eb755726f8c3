"""A GPU that is there and cannot be used: the reason and the command that helps, as a table."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sft_app.models import gpu_support
from sft_app.models.gpu_support import (
    Gpu,
    explain_gpu,
    find_gpu,
    gpu_problem,
    has_kernels,
    has_usable_gpu,
    parse_gpu,
    torch_cuda_version,
)

WHEEL = "https://download.pytorch.org/whl/"


@pytest.fixture(autouse=True)
def _asked_anew(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    gpu_support._first_gpu_use.cache_clear()
    yield
    gpu_support._first_gpu_use.cache_clear()


@pytest.fixture
def driver_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A machine whose driver's tool answers so."""

    def says(answer: str, status: int = 0) -> None:
        tool = tmp_path / "nvidia-smi"
        tool.write_text(f"#!/bin/sh\necho '{answer}'\nexit {status}\n")
        tool.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))

    return says


@pytest.mark.parametrize(
    ("card", "cuda", "told"),
    [
        ("NVIDIA H100 80GB HBM3, 580.95.05, 9.0", "13.0", ""),
        ("NVIDIA GeForce RTX 5090, 590.10, 12.0", "13.0", ""),
        ("NVIDIA GeForce RTX 3060, 535.183, 8.6", "12.6", ""),
        ("Tesla T4, 580.82, 7.5", "13.0", ""),
        ("NVIDIA GeForce RTX 4090, 550.54, 8.9", "13.0", f"driver 580 or newer, or an older build: .*{WHEEL}cu126"),
        ("NVIDIA A100-SXM4-40GB, 515.65, 8.0", "12.8", r"driver 525 or newer\.$"),
        ("NVIDIA A100-SXM4-40GB, 470.82, 8.0", "13.0", r"driver 580 or newer\.$"),
        ("Tesla V100-SXM2-16GB, 580.82, 7.0", "13.0", f"no kernels for a card of compute capability 7.0.*{WHEEL}cu126"),
        ("NVIDIA GeForce GTX 1080, 580.82, 6.1", "13.0", f"compute capability 6.1.*{WHEEL}cu126"),
        ("Tesla V100-SXM2-16GB, 580.82, 7.0", "12.6", ""),
        ("NVIDIA GeForce RTX 4070, 591.44, 8.9", None, f"built for CPUs only.*{WHEEL}cu130"),
        ("NVIDIA GeForce RTX 4070, 552.44, 8.9", None, f"built for CPUs only.*{WHEEL}cu126"),
        ("NVIDIA GeForce GTX 1080, 580.82, 6.1", None, f"built for CPUs only.*{WHEEL}cu126"),
        ("A card, [N/A], [N/A]", "13.0", ""),
    ],
)
def test_the_reason_and_what_helps(card: str, cuda: str | None, told: str) -> None:
    found = explain_gpu(parse_gpu(card), cuda)
    assert (found == "") == (told == "")
    if told:
        assert found.startswith(f"{card.split(',')[0]} cannot be used")
        assert re.search(told, found)


@pytest.mark.parametrize(
    ("capability", "built_for", "runs"),
    [
        ((9, 0), ["sm_75", "sm_80", "sm_90"], True),
        ((8, 6), ["sm_75", "sm_80", "sm_90"], True),
        ((8, 9), ["sm_90"], False),
        ((7, 0), ["sm_75", "sm_80"], False),
        ((12, 0), ["sm_90", "compute_90"], True),
        ((12, 0), ["sm_90a"], False),
        ((12, 1), ["sm_120", "compute_120"], True),
        ((8, 0), [], False),
    ],
)
def test_kernels_run_on_their_own_generation_or_from_an_intermediate_form(
    capability: tuple[int, int], built_for: list[str], runs: bool
) -> None:
    assert has_kernels(capability, built_for) == runs


def test_the_driver_is_asked_once_and_its_answer_decides(
    driver_says: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_support, "torch_cuda_version", lambda: "13.0")
    driver_says("NVIDIA GeForce RTX 4090, 550.54, 8.9")
    assert not has_usable_gpu() and "driver 550.54 is too old" in gpu_problem()
    driver_says("NVIDIA GeForce RTX 4090, 580.10, 8.9")
    assert not has_usable_gpu()  # not asked again
    gpu_support._first_gpu_use.cache_clear()
    assert has_usable_gpu() and gpu_problem() == ""


def test_a_driver_that_does_not_work_is_told(driver_says: Callable[..., None]) -> None:
    driver_says("Failed to initialize NVML: Driver/library version mismatch", 18)
    assert not has_usable_gpu()
    assert "(Failed to initialize NVML: Driver/library version mismatch). Restart the machine" in gpu_problem()


def test_a_driver_without_a_card_is_no_problem_and_no_gpu(driver_says: Callable[..., None]) -> None:
    driver_says("No devices were found", 6)
    assert find_gpu() is None and not has_usable_gpu() and gpu_problem() == ""


def test_a_hidden_gpu_is_no_problem(driver_says: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    driver_says("NVIDIA GeForce RTX 4090, 550.54, 8.9")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpu_problem() == "" and not has_usable_gpu()


def test_what_is_not_known_is_not_guessed() -> None:
    assert parse_gpu("") == Gpu("", None, None)
    assert explain_gpu(Gpu("The GPU"), "13.0") == ""


def test_the_installed_torch_says_what_it_was_built_for() -> None:
    import torch

    assert torch_cuda_version() == torch.version.cuda
