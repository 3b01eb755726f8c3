"""Small branches for a GPU, with a stand-in for what torch tells about one."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sft_app.models.hardware import Hardware
from sft_app.runtime.resources import CUDA_CONTEXT_GIB
from sft_app.settings import parse_settings
from sft_app.training import callbacks, distributed
from sft_app.training.fast_paths import gradient_check
from sft_app.training.preflight import dry_run


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A card that has held 3 GiB and reserved 4, and is number 1 to this process; what was asked of it."""
    asked: list[str] = []
    answers: dict[str, Any] = {
        "is_available": True,
        "max_memory_allocated": 3 * 2**30,
        "max_memory_reserved": 4 * 2**30,
        "current_device": 1,
        "init": None,
        "synchronize": None,
    }
    for name, answer in answers.items():
        monkeypatch.setattr(torch.cuda, name, lambda name=name, answer=answer: (asked.append(name), answer)[1])
    return asked


def test_memory_is_that_of_the_card(card: list[str]) -> None:
    assert callbacks.used_memory_gib() == 3.0
    assert dry_run.peak_gib() == 4.0 + CUDA_CONTEXT_GIB


def test_a_step_is_timed_after_the_card_has_finished_it(card: list[str], tmp_path: Path) -> None:
    clock = dry_run.StepClock(SimpleNamespace(update_status=lambda **_: None))  # type: ignore[arg-type]
    card.clear()
    clock.on_step_end(None, SimpleNamespace(global_step=1), None)
    assert card == ["is_available", "synchronize"]


@pytest.mark.parametrize(("ranks", "fsdp", "device"), [(1, "", "cuda"), (2, "", "cuda:1"), (2, "full_shard", "cpu")])
def test_each_rank_has_a_card_of_its_own(
    card: list[str], monkeypatch: pytest.MonkeyPatch, ranks: int, fsdp: str, device: str
) -> None:
    found = Hardware("cuda", "a card", "bfloat16", "", 24.0, 23.0, 8)
    monkeypatch.setattr(distributed, "detect_hardware", lambda: found)
    monkeypatch.setenv("WORLD_SIZE", str(ranks))
    settings = parse_settings({"method": "lora", "num_processes": ranks, "fsdp": fsdp})
    assert distributed.this_rank_hardware(settings).device == device


def test_the_cards_random_state_is_restored_after_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    forked: list[Any] = []
    fork = torch.random.fork_rng
    monkeypatch.setattr(torch.random, "fork_rng", lambda devices: (forked.append(devices), fork([]))[1])
    card = torch.device("cuda", 0)
    model = SimpleNamespace(device=card, training=True, modules=list, parameters=list, train=lambda mode=True: None)
    with gradient_check.without_randomness(model):  # type: ignore[arg-type]
        pass
    assert forked == [[card]]
