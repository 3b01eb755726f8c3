"""A copy of a run at another strength: what loads it has the new one, and the run stays as it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sft_app.errors import ModelError, SettingsError
from sft_app.evaluation.answer_pairs import read_pairs
from sft_app.evaluation.forgetting.strength import strength_text
from sft_app.evaluation.score_run import keep_score
from sft_app.evaluation.strength_copy import at_strength
from sft_app.inference.generation import Sampling
from sft_app.inference.pair import load_pair
from sft_app.inference.sides import BASE, find_sides
from sft_app.inference.stream import compare_prompt
from sft_app.models.adapter_strength import scale_saved_adapter
from sft_app.runs.directory import find_run, list_runs
from sft_app.runs.folder import Run
from sft_app.runs.summary import summarise_run
from sft_app.runtime.home import runs_dir
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


def test_a_copy_has_the_new_strength_and_the_run_stays_as_it_is(run: Run) -> None:
    half, whole = answer(run, 0.5), answer(run, 1.0)
    measure(run)
    card, files = run.scorecard(), {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    with at_strength(run, 0.5) as copy:
        assert copy.scorecard() is None and summarise_run(copy).heldout_loss_tuned is None
        measure(copy)
    assert {path: path.read_bytes() for path in files} == files
    assert half != whole and answer(copy, 1.0) == half
    assert find_run(run.home, "latest").id == copy.id and copy.record().settings.name.endswith(" at 0.5")
    moved = copy.scorecard()
    assert card is not None and moved is not None and moved.tuned["loss"] != card.tuned["loss"]
    assert "set by hand" in moved.note and "set by hand" not in card.note
    assert run.id in copy.status().message and copy.status().state == run.status().state
    assert read_pairs(copy) == [] and not copy.votes_file.exists()
    choice = copy.strength()
    assert choice is not None and (choice.chosen, choice.by_hand) == (0.5, True)
    text = strength_text(choice)
    assert text is not None and "kept at 0.5 of its trained strength, which was set by hand" in text.sentence
    with at_strength(copy, 1.0) as again:
        measure(again)
    back = again.scorecard()
    assert again.strength() is None and back is not None and "set by hand" not in back.note, "it is as it was trained"
    assert (again.record().settings.name or "").endswith(" at 1") and "0.5" not in again.record().settings.name
    weights = [load_file(one.adapter_dir / "adapter_model.safetensors") for one in (run, again)]
    assert all(torch.allclose(weights[0][name], weights[1][name], rtol=1e-6) for name in weights[0])


def test_nothing_remains_if_measuring_fails(run: Run) -> None:
    before = list_runs(run.home)
    with pytest.raises(KeyboardInterrupt), at_strength(run, 0.5):
        raise KeyboardInterrupt
    assert list_runs(run.home) == before and len(list(runs_dir(run.home).iterdir())) == len(before)


def test_without_a_strength_it_is_the_run_itself(run: Run) -> None:
    with at_strength(run, None) as measured:
        assert measured is run


@pytest.mark.parametrize("strength", [0.0, -1.0, 1.6, float("nan"), 1.0])
def test_a_strength_that_makes_no_sense_is_refused(run: Run, strength: float) -> None:
    told = "already" if strength == 1.0 else r"between 0\.05 and 1\.5"
    with pytest.raises(SettingsError, match=told), at_strength(run, strength):
        raise AssertionError


@pytest.mark.parametrize(
    "change", [{"use_dora": True}, {"bias": "all"}, {"modules_to_save": ["lm_head"]}, {"lora_bias": True}]
)
def test_an_adapter_that_is_more_than_a_product_is_left_alone(run: Run, change: dict[str, Any]) -> None:
    config = run.adapter_dir / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **change}))
    with pytest.raises(ModelError, match="cannot be changed after training"), at_strength(run, 0.5):
        raise AssertionError
    assert list_runs(run.home) == [run]


def test_without_an_adapter_there_is_no_strength(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no adapter"):
        scale_saved_adapter(tmp_path, 0.5)
