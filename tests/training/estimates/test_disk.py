"""The estimate of the room that a run needs, against what it really leaves on the disk."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sft_app.runs.folder import Run
from sft_app.settings import parse_settings
from sft_app.training.estimates.disk import disk_needed_gib, trained_weights


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    "settings",
    [
        {"method": "lora", "lora_r": 4},
        {"method": "lora", "lora_target_modules": "q_proj, v_proj"},
        {"method": "qlora", "lora_r": 32},
        {"method": "full"},
    ],
)
def test_trained_weights_are_counted_from_the_files(tiny_model_dir: Path, settings: dict[str, object]) -> None:
    from transformers import AutoModelForCausalLM

    from sft_app.models.lora_targets import attach_lora

    parsed = parse_settings(settings)
    model = AutoModelForCausalLM.from_pretrained(tiny_model_dir)
    if parsed.method != "full":
        model = attach_lora(model, parsed)
    expected = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    assert trained_weights(parsed, tiny_model_dir) == expected


@pytest.mark.parametrize("method", ["lora", "full"])
def test_estimate_is_what_a_run_leaves_and_not_much_more(
    make_run: Callable[..., Run],
    work: Callable[..., int],
    tiny_model_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
) -> None:
    """But for the margin, which is larger than all of it here."""
    monkeypatch.setattr("sft_app.training.estimates.disk.LEAST_GIB", 0.0)
    run = make_run(method=method, lora_r=128, max_steps=8, load_best_model_at_end=False)
    work(run)
    data = Path(run.record().source.path).stat().st_size
    estimate = disk_needed_gib(run.record().settings, tiny_model_dir, data) * 2**30
    left = [path for pattern in ("*.safetensors", "optimizer.pt") for path in run.path.rglob(pattern)]
    weights = sum(path.stat().st_size for path in left)
    one_more = size(run.checkpoints_dir / "checkpoint-8") if method == "full" else 0
    assert weights + one_more < estimate < 3 * weights


def test_unknown_model_needs_the_least(tmp_path: Path) -> None:
    assert disk_needed_gib(parse_settings({"method": "full"}), tmp_path / "nowhere", 0) == 1.0
    (tmp_path / "model.safetensors").write_bytes(os.urandom(8))
    assert disk_needed_gib(parse_settings({"method": "full"}), tmp_path, 0) == 1.0


def test_large_data_counts(tmp_path: Path) -> None:
    assert disk_needed_gib(parse_settings({}), tmp_path, 2**31) == 8.0
