"""The precision of a CPU is decided by its processor and never by what else the machine is doing."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sft_app.models import precision
from sft_app.models.precision import bfloat16_unit, cpu_dtype, cpu_name, measure_speedup

AVX2 = "processor\t: 0\nmodel name\t: Plain\nflags\t\t: fpu sse4_2 avx avx2 fma\n"
AMX = "model name\t: Fast\nflags\t\t: avx2 avx512f avx512_bf16 amx_bf16 amx_tile\n"
AVX512 = "model name\t: Fair\nflags\t\t: avx2 avx512f avx512_bf16\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd sve bf16 i8mm\n"

Pretend = Callable[[str], None]


@pytest.fixture
def pretend(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Pretend:
    """Makes the processor another one."""

    def pretend(cpu_info: str) -> None:
        (tmp_path / "cpuinfo").write_text(cpu_info)
        monkeypatch.setattr(precision, "CPU_INFO", tmp_path / "cpuinfo")

    return pretend


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The speedups that are measured one after the other; what is used is taken off."""
    speedups: list[float] = []
    monkeypatch.setattr(precision, "measure_speedup", lambda: speedups.pop(0))
    return speedups


def test_processor_without_bfloat16_units_trains_in_float32_whatever_a_probe_would_say(
    pretend: Pretend, measured: list[float]
) -> None:
    pretend(AVX2)
    measured[:] = [9.0]
    assert cpu_dtype() == ("float32", "the processor reports no bfloat16 units")
    assert measured == [9.0]


@pytest.mark.parametrize(
    ("cpu_info", "unit"), [(AMX, "AMX"), (AVX512, "AVX-512 bfloat16"), (ARM, "Arm bfloat16"), (AVX2, None)]
)
def test_units_are_what_the_processor_reports(pretend: Pretend, cpu_info: str, unit: str | None) -> None:
    pretend(cpu_info)
    assert bfloat16_unit() == unit


def test_without_a_cpuinfo_file_torch_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "CPU_INFO", tmp_path / "missing")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "amx_bf16": False, "avx512_bf16": True})
    assert bfloat16_unit() == "AVX-512 bfloat16"


def test_decision_of_a_machine_never_flips(pretend: Pretend, measured: list[float]) -> None:
    """A later measurement on a busy machine would say otherwise; it is not made."""
    pretend(AMX)
    measured[:] = [5.0, 0.4]
    assert [cpu_dtype()[0] for _ in range(3)] == ["bfloat16"] * 3
    assert measured == [0.4]


def test_units_that_bring_nothing_are_not_used(pretend: Pretend, measured: list[float]) -> None:
    pretend(AVX512)
    measured[:] = [1.1]
    assert cpu_dtype()[0] == "float32"


def test_each_machine_has_its_own_measurement(home: Path, pretend: Pretend, measured: list[float]) -> None:
    measured[:] = [5.0, 0.9]
    for cpu_info, dtype in ((AMX, "bfloat16"), (AVX512, "float32"), (AMX, "bfloat16")):
        pretend(cpu_info)
        assert cpu_dtype()[0] == dtype
    assert len(json.loads((home / "machine.json").read_text())) == 2


@pytest.mark.parametrize("text", ["{", "[]", '{"machine": "fast"}', "\0"])
def test_damaged_note_is_measured_again(home: Path, pretend: Pretend, measured: list[float], text: str) -> None:
    (home / "machine.json").write_text(text)
    pretend(AMX)
    measured[:] = [5.0]
    assert cpu_dtype()[0] == cpu_dtype()[0] == "bfloat16"


def test_home_that_cannot_be_written_to_still_gives_an_answer(
    tmp_path: Path, pretend: Pretend, measured: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SFT_APP_HOME", str(tmp_path / "file" / "home"))
    pretend(AMX)
    measured[:] = [5.0]
    assert cpu_dtype()[0] == "bfloat16"


def _spin() -> None:
    while True:
        sum(range(10_000))


def test_measurement_on_a_busy_machine_stays_on_its_side_of_the_threshold() -> None:
    """Real products, beside a busy process for each core."""
    idle = measure_speedup()
    others = [
        multiprocessing.get_context("fork").Process(target=_spin, daemon=True) for _ in range(os.cpu_count() or 1)
    ]
    for other in others:
        other.start()
    try:
        busy = [measure_speedup() for _ in range(3)]
    finally:
        for other in others:
            other.kill()
            other.join()
    assert {speedup >= precision.MIN_SPEEDUP for speedup in busy} == {idle >= precision.MIN_SPEEDUP}


def test_processor_has_a_name() -> None:
    assert cpu_name()
