"""The strength of an adapter: chosen by what it gains and what it loses, and the same everywhere afterwards."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sft_app.evaluation.forgetting.strength import COLUMNS, describe_strength, strength_text
from sft_app.runs.checkpoints import last_complete_checkpoint
from sft_app.runs.folder import Run
from sft_app.runs.strength import STRENGTHS, StrengthChoice, TriedStrength
from sft_app.training.strength import pick_strength


def tried(losses: dict[float, float | None], lost: dict[float, int]) -> list[TriedStrength]:
    return [
        TriedStrength(strength=strength, heldout_loss=losses.get(strength), known=20, lost=lost.get(strength, 0))
        for strength in STRENGTHS
    ]


GAINS = {1.25: 2.40, 1.0: 2.50, 0.75: 2.58, 0.5: 2.90, 0.25: 3.40}  # the base has 4.0


@pytest.mark.parametrize(
    ("losses", "lost", "expected"),
    [
        (GAINS, {}, 1.25),
        (GAINS, {1.25: 1}, 1.0),
        (GAINS, {1.25: 3, 1.0: 2}, 0.75),
        (GAINS, {1.25: 3, 1.0: 2, 0.75: 1}, 0.5),
        (GAINS, {1.25: 3, 1.0: 2, 0.75: 1, 0.5: 1}, 1.0),  # too little is gained where nothing is lost
        ({1.25: 2.9, 1.0: 2.6, 0.75: 2.5, 0.5: 2.7, 0.25: 3.2}, {}, 0.75),  # overfitted
        (dict.fromkeys(STRENGTHS, 4.5), {}, 1.0),  # it has learned nothing of use
        ({}, {}, 1.0),  # no conversations that choose: never more than was trained
        ({}, {1.0: 1}, 0.75),
        ({}, {1.0: 1, 0.75: 1, 0.5: 1}, 1.0),
    ],
)
def test_the_strength_that_is_kept(losses: dict[float, float | None], lost: dict[float, int], expected: float) -> None:
    assert pick_strength(tried(losses, lost), 4.0 if losses else None) == expected


def test_why_is_told() -> None:
    def told(chosen: float, lost: dict[float, int]) -> str:
        return describe_strength(StrengthChoice(chosen=chosen, questions=40, tried=tried(GAINS, lost)))

    assert told(1.0, {}) == "" == describe_strength(None)
    assert told(0.75, {1.0: 2}) == (
        "The adapter is kept at 0.75 of its trained strength: at full strength, 2 of 20 general questions that the "
        "base model knew are lost; at this one, none is."
    )
    assert told(0.75, {1.0: 2, 0.75: 1}).endswith("are lost; at this one, only 1 is.")
    assert told(1.25, {}).endswith("it predicts the conversations that choose best there, and loses no more.")
    assert told(1.0, {1.0: 1, 0.75: 1}).startswith("At the trained strength, 1 of 20 general questions that")
    text = strength_text(StrengthChoice(chosen=1.0, questions=40, tried=tried(GAINS, {1.25: 1})))
    assert text is not None and text.sentence.startswith("The adapter is kept as it was trained. Of the 40 general")
    assert [row[-1] for row in text.rows] == ["", "", "", "kept", ""] and len(COLUMNS) == len(text.rows[0])
    assert strength_text(None) is None


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_strength_that_gives_no_number_is_never_kept(broken: float) -> None:
    assert pick_strength(tried({**GAINS, 1.25: broken}, {}), 4.0) == 1.0
    assert pick_strength(tried({**GAINS, 1.0: broken}, {}), 4.0) == 1.0  # as it was trained: nothing can be told
    assert pick_strength(tried(GAINS, {}), broken) == 1.0


def test_nothing_above_the_trained_strength_is_kept_where_no_loss_could_be_seen() -> None:
    unknown = [one.model_copy(update={"known": 0}) for one in tried(GAINS, {})]
    assert pick_strength(unknown, 4.0) == 1.0


def second_factors(folder: Any) -> dict[str, torch.Tensor]:
    return {name: value for name, value in load_file(folder / "adapter_model.safetensors").items() if "lora_B" in name}


@pytest.fixture
def overtrained(home: Path, make_run: Callable[..., Run], work: Callable[..., int]) -> Run:
    """A run of the tiny model at a rate so large that less of the adapter is better for other conversations."""
    others = [("What is a fern?", "A plant."), ("Do you sell pots?", "We do, in clay."), ("Open on Sunday?", "Closed.")]
    rows = [
        {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}
        for question, answer in others
    ]
    (home / "others.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = make_run(
        choose_strength=True,
        learning_rate=0.05,
        max_steps=12,
        validation_data=str(home / "others.jsonl"),
        general_prompts=4,
        load_best_model_at_end=False,
    )
    assert work(run) == 0, run.status()
    return run


def test_a_run_keeps_the_strength_in_its_adapter_and_says_so(overtrained: Run) -> None:
    choice = overtrained.strength()
    assert choice is not None and [one.strength for one in choice.tried] == list(STRENGTHS)
    assert choice.questions == 40 and all(one.heldout_loss is not None for one in choice.tried)
    assert choice.chosen != 1.0, choice
    assert f"kept at {choice.chosen:g} of its trained strength" in overtrained.status().message
    trained = second_factors(last_complete_checkpoint(overtrained.checkpoints_dir))
    kept = second_factors(overtrained.adapter_dir)
    assert trained.keys() == kept.keys() and len(kept) > 0
    for name, value in kept.items():
        torch.testing.assert_close(value, trained[name] * choice.chosen)


def test_the_scorecard_judges_the_strength_that_was_kept(overtrained: Run) -> None:
    from sft_app.evaluation.score_run import score_run
    from sft_app.inference.pair import load_pair
    from sft_app.inference.sides import BASE, find_sides

    pair = load_pair(find_sides(BASE, overtrained.id, overtrained.home), overtrained.home)
    again, _ = score_run(overtrained, pair, 0)
    card = overtrained.scorecard()
    assert card is not None and card.tuned["loss"] == pytest.approx(again.tuned["loss"], abs=1e-4)


@pytest.mark.parametrize("settings", [{"method": "full"}, {"use_dora": True}, {"general_prompts": 140}])
def test_where_it_cannot_be_chosen_the_trained_strength_stays(
    make_run: Callable[..., Run], work: Callable[..., int], settings: dict[str, Any]
) -> None:
    run = make_run(choose_strength=True, max_steps=1, **settings)
    assert work(run) == 0, run.status()
    assert run.strength() is None and run.has_adapter()
    assert ("The adapter has its trained strength" in run.status().message) == (settings.get("method") != "full")


def test_what_fails_while_choosing_costs_no_adapter(
    make_run: Callable[..., Run], work: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError("out of luck")

    monkeypatch.setattr("sft_app.training.strength.pick_strength", fail)
    run = make_run(choose_strength=True, max_steps=1)
    assert work(run) == 0 and run.status().state == "finished" and run.has_adapter()
    assert "The adapter has its trained strength; the run's log says why." in run.status().message
    trained = second_factors(last_complete_checkpoint(run.checkpoints_dir))
    for name, value in second_factors(run.adapter_dir).items():
        torch.testing.assert_close(value, trained[name])
