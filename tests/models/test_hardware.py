"""What the machine is said to be able to do."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sft_app.models import gpu_support, hardware
from sft_app.models.hardware import (
    default_method,
    describe_machine,
    detect_hardware,
    has_nvidia_gpu,
)

PROJECT = Path(__file__).resolve().parents[2]


def test_hardware_is_what_torch_sees() -> None:
    hardware = detect_hardware()
    assert hardware.device == ("cuda" if torch.cuda.is_available() else "cpu")
    assert hasattr(torch, hardware.dtype)
    assert hardware.name and hardware.reason
    assert 0 < hardware.memory_free_gib <= hardware.memory_gib
    assert hardware.cores >= 1


@pytest.mark.parametrize("hidden", ["", "-1"])
def test_hidden_gpu_is_no_gpu(hidden: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert not has_nvidia_gpu()
    assert default_method() == "lora"


def test_machine_with_the_drivers_tool_has_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'NVIDIA H100 80GB HBM3, 580.95.05, 9.0'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(gpu_support, "torch_cuda_version", lambda: "13.0")
    gpu_support._first_gpu_use.cache_clear()
    assert has_nvidia_gpu()
    assert default_method() == "qlora"
    gpu_support._first_gpu_use.cache_clear()


def test_default_method_is_known_without_importing_torch() -> None:
    code = "import sys; from sft_app.models.hardware import default_method as d; d(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_diagnosis_is_plain_facts(home: Path) -> None:
    from sft_app.models.diagnosis import diagnose

    facts = json.loads(json.dumps(diagnose(home)))
    assert facts["home"] == str(home)
    assert facts["starter_ready"] is False
    assert facts["device"] in ("cpu", "cuda")
    assert facts["disk_free_gib"] > 0
    assert {"torch", "transformers", "trl", "peft", "bitsandbytes", "python"} <= facts.keys()


def test_a_machine_is_described_with_its_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, model in enumerate(("Great GPU", "Small GPU", "Great GPU")):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "information").write_text(f"Model: \t\t {model}\nIRQ: 7\n")
    monkeypatch.setattr(hardware, "GPU_INFORMATION", tmp_path)
    monkeypatch.setattr(hardware, "has_nvidia_gpu", lambda: True)
    told = describe_machine()
    assert told.startswith("2 × Great GPU, 1 × Small GPU, ") and told.endswith(" GiB of memory")
    monkeypatch.setattr(hardware, "has_nvidia_gpu", lambda: False)
    assert "GPU," not in describe_machine() and " cores, " in describe_machine()
