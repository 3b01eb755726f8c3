"""The GPU, described without CUDA in this process. The driver's tool and torch's CUDA functions are stand-ins."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sft_app.models import gpu_state
from sft_app.models.gpu_state import GpuState, choose_line, parse_state, read_gpu_state
from sft_app.models.hardware import detect_hardware
from sft_app.settings import parse_settings
from sft_app.training.preflight import machine_speed

H200 = "NVIDIA H200, 9.0, 143771, 140032, Disabled"
SMALL = "NVIDIA T4, 7.5, 15360, 15000, [N/A]"
IN_CHILD = GpuState("from the child", (8, 6), 24.0, 20.0)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """A machine whose `nvidia-smi` writes these lines, and on which torch refuses to create a CUDA context."""

    def refuse() -> None:
        raise AssertionError("this process would have a CUDA context")

    def make(*lines: str) -> None:
        tool = tmp_path / "nvidia-smi"
        tool.write_text("#!/bin/sh\n" + "".join(f"echo '{line}'\n" for line in lines))
        tool.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "_lazy_init", refuse)
        monkeypatch.setattr(torch.version, "cuda", "13.0")
        monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_75", "sm_80", "sm_90"])
        monkeypatch.setattr(gpu_state, "_ask_child", lambda: IN_CHILD)

    return make


def test_driver_describes_the_only_gpu(machine: Callable[..., Any]) -> None:
    machine(H200)
    found = detect_hardware()
    assert (found.device, found.name, found.dtype) == ("cuda", "NVIDIA H200", "bfloat16")
    assert (found.memory_gib, found.memory_free_gib) == (pytest.approx(140.4, abs=0.1), 136.75)


def test_card_without_bfloat16_trains_in_float16(machine: Callable[..., Any]) -> None:
    machine(SMALL)
    assert detect_hardware().dtype == "float16"


def test_card_without_kernels_leaves_the_work_to_the_cpu(machine: Callable[..., Any]) -> None:
    machine("Tesla P100, 6.0, 16384, 16000, [N/A]")
    assert detect_hardware().device == "cpu"


@pytest.mark.parametrize(
    ("lines", "environment", "chosen"),
    [
        ([H200], {}, H200),
        ([H200, SMALL], {}, None),  # CUDA may count them in another order
        ([H200, SMALL], {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "1,0"}, SMALL),
        ([H200], {"CUDA_VISIBLE_DEVICES": "MIG-1c2a"}, None),
        ([H200], {"CUDA_VISIBLE_DEVICES": "3"}, None),
        ([], {}, None),
    ],
)
def test_driver_is_believed_only_about_the_gpu_that_torch_would_use(
    lines: list[str], environment: dict[str, str], chosen: str | None
) -> None:
    assert choose_line(lines, environment) == chosen


@pytest.mark.parametrize(
    "line", ["NVIDIA GB10, 12.1, [N/A], [N/A], [N/A]", H200.replace("Disabled", "Enabled"), "no answer", ""]
)
def test_line_that_does_not_say_everything_is_left_to_the_child(line: str, machine: Callable[..., Any]) -> None:
    assert parse_state(line) is None
    machine(line)
    assert read_gpu_state() == IN_CHILD


def test_gpu_in_use_by_this_process_is_asked_directly(
    machine: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(H200)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr("sft_app.models.hardware.gpu_state_from_torch", lambda: IN_CHILD)
    assert detect_hardware().name == "from the child"


def test_speed_of_a_gpu_is_measured_in_a_child_and_kept(
    machine: Callable[..., Any], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(H200)
    asked: list[Any] = []
    answer = {"device": "cuda", "dtype": "bfloat16", "flops": 9e14, "bytes": 4e12}

    def ask(arguments: list[str], seconds: float) -> tuple[int, str]:
        asked.append(arguments)
        return 0, f"a warning\n{json.dumps(answer)}\n"

    monkeypatch.setattr(machine_speed, "ask_python", ask)
    for _ in range(2):
        found = machine_speed.machine_speed(detect_hardware(), parse_settings({}))
        assert (found.device, found.flops, found.bytes) == ("cuda", 9e14, 4e12)
    assert asked == [["-m", "sft_app.training.preflight.machine_speed", "cuda", "bfloat16"]]


def test_speed_of_a_gpu_is_not_measured_while_a_run_uses_it(
    machine: Callable[..., Any], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from filelock import FileLock

    from sft_app.errors import RunError
    from sft_app.runtime.home import machine_lock_file

    machine(H200)
    with FileLock(machine_lock_file(home)), pytest.raises(RunError, match="A run is using the GPU"):
        machine_speed.machine_speed(detect_hardware(), parse_settings({}))


def test_the_child_answers_in_json() -> None:
    child = ["-m", "sft_app.training.preflight.machine_speed", "cpu", "float32"]
    status, text = machine_speed.ask_python(child, 120) or (1, "")
    assert status == 0, text
    assert json.loads(text.splitlines()[-1])["flops"] > 1e8


def test_page_estimates_for_a_gpu_without_a_cuda_context(
    machine: Callable[..., Any], home: Path, tiny_model_dir: Path, data_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sft_app.ui.context import PageContext

    machine(H200)
    answer = json.dumps({"device": "cuda", "dtype": "bfloat16", "flops": 9e14, "bytes": 4e12})
    monkeypatch.setattr(machine_speed, "ask_python", lambda *_: (0, answer))
    monkeypatch.setattr("sft_app.ui.services.preflight.has_usable_gpu", lambda: True)
    context = PageContext(home)
    settings = parse_settings({"model": str(tiny_model_dir), "data": str(data_file), "method": "qlora"})
    found, _ = context.preflight.estimate(settings)
    context.models.release()
    assert (found.device, found.memory_free_gib) == ("cuda", 136.75)
    assert context.preflight.expected_memory_gib(settings) == found.memory_gib
