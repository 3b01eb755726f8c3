"""Moving the strength of a saved adapter: what loads it has the new one, and a failure takes it back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sft_app.errors import ModelError, SettingsError
from sft_app.evaluation.forgetting.strength import strength_text
from sft_app.evaluation.moved_strength import moved_strength
from sft_app.evaluation.score_run import keep_score
from sft_app.inference.generation import Sampling
from sft_app.inference.pair import load_pair
from sft_app.inference.sides import BASE, find_sides
from sft_app.inference.stream import compare_prompt
from sft_app.models.adapter_strength import scale_saved_adapter
from sft_app.runs.folder import Run
from sft_app.runs.strength import StrengthChoice, TriedStrength
from tests.made_runs import randomise_adapter

Make = Callable[..., Any]
QUESTION = {"role": "user", "content": "Where is it?"}


@pytest.fixture
def run(make_run: Make) -> Run:
    made = make_run(change=lambda model: randomise_adapter(model, 3, 0.3), dtype="float32", general_prompts=3)
    row = {"row": 1, "messages": [QUESTION, {"role": "assistant", "content": "Here."}]}
    made.run.heldout_file.write_text("".join(json.dumps({**row, "row": number}) + "\n" for number in range(1, 5)))
    run: Run = made.run
    return run


def measure(run: Run) -> Any:
    return keep_score(run, load_pair(find_sides(BASE, run.id, run.home), run.home), 0)


def answer(run: Run, strength: float) -> str:
    pair = load_pair(find_sides(BASE, run.id, run.home), run.home)
    return compare_prompt(pair, "Hi", "", Sampling(max_new_tokens=8), strength).right.text


def test_what_loads_the_adapter_has_the_new_strength(run: Run) -> None:
    half = answer(run, 0.5)
    assert half != answer(run, 1.0)
    with moved_strength(run, 0.5):
        assert run.scorecard() is None
        card = measure(run)
    assert run.scorecard() is not None and answer(run, 1.0) == half
    choice = run.strength()
    assert choice is not None and (choice.chosen, choice.by_hand) == (0.5, True)
    text = strength_text(choice)
    assert text is not None and "kept at 0.5 of its trained strength, which was set by hand" in text.sentence
    with moved_strength(run, 1.0):
        again = measure(run)
    assert again.tuned["loss"] != card.tuned["loss"] and answer(run, 0.5) == half


def test_nothing_changes_if_measuring_fails(run: Run) -> None:
    measure(run)
    card = run.scorecard()
    run.keep_strength(StrengthChoice(chosen=0.75, questions=3, tried=[TriedStrength(strength=0.75)]))
    file = run.adapter_dir / "adapter_model.safetensors"
    before, strength = load_file(file), run.strength()
    with pytest.raises(KeyboardInterrupt), moved_strength(run, 0.5):
        raise KeyboardInterrupt
    assert card is not None and run.scorecard() == card and run.strength() == strength
    after = load_file(file)
    assert all(torch.allclose(after[name], before[name], rtol=1e-6) for name in before)


@pytest.mark.parametrize("strength", [None, 1.0])
def test_the_same_strength_touches_nothing(run: Run, strength: float | None) -> None:
    file = run.adapter_dir / "adapter_model.safetensors"
    before = file.stat().st_mtime_ns
    with moved_strength(run, strength):
        pass
    assert file.stat().st_mtime_ns == before and run.strength() is None


@pytest.mark.parametrize("strength", [0.0, -1.0, 1.6, float("nan")])
def test_a_strength_that_makes_no_sense_is_refused(run: Run, strength: float) -> None:
    with pytest.raises(SettingsError, match=r"between 0\.05 and 1\.5"), moved_strength(run, strength):
        raise AssertionError


@pytest.mark.parametrize(
    "change", [{"use_dora": True}, {"bias": "all"}, {"modules_to_save": ["lm_head"]}, {"lora_bias": True}]
)
def test_an_adapter_that_is_more_than_a_product_is_left_alone(run: Run, change: dict[str, Any]) -> None:
    config = run.adapter_dir / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **change}))
    with pytest.raises(ModelError, match="cannot be changed after training"), moved_strength(run, 0.5):
        raise AssertionError
    assert run.strength() is None


def test_without_an_adapter_there_is_no_strength(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no adapter"):
        scale_saved_adapter(tmp_path, 0.5)
