"""The one sentence on top: what a whole scorecard means, and what to do next."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from sft_app.data.conversation import make_conversation
from sft_app.data.tokens import render_conversation
from sft_app.evaluation.results.findings import find_results
from sft_app.evaluation.results.headline import headline
from sft_app.evaluation.score_run import score_run
from sft_app.evaluation.scorecard import RowScore, correct_for_several, make_scorecard
from sft_app.inference.pair import load_pair
from sft_app.inference.sides import BASE, find_sides
from sft_app.runs.known import Known, KnownCounts
from sft_app.runs.scorecard import PromptedScores, Scorecard
from sft_app.runs.suite_scores import JudgedAnswer, JudgedTest, SuiteScores
from tests.made_runs import overflowing

SPREAD = [2.0, 2.4, 1.7, 2.2, 2.6, 1.9, 2.1, 2.3, 1.8, 2.5]


def rows(*losses: float) -> list[RowScore]:
    return [RowScore(10 * loss, 10, 5) for loss in losses]


def card(change: float, **parts: Any) -> Scorecard:
    """A scorecard of ten rows whose loss changed by about this much."""
    tuned = [loss + change * (1 + 0.1 * (index % 3)) for index, loss in enumerate(SPREAD)]
    return make_scorecard(rows(*SPREAD), rows(*tuned)).model_copy(update=parts)


def known(lost: int, p: float, count: int = 30) -> Known:
    return Known(by_answer=KnownCounts(asked=60, known=count, lost=lost, gained=0, high=0.2, p_value=p, p_holm=p))


def prompted(change: float) -> PromptedScores:
    """A prompt whose loss the fine-tuned model differs from by `change`."""
    return PromptedScores(examples=3, used=3.0, predicted=card(change))


def suite(base: list[bool], tuned: list[bool]) -> SuiteScores:
    judged = [
        JudgedTest(name=str(n), answers=[JudgedAnswer(answer="x", failed=[] if one else ["no"]) for one in both])
        for n, both in enumerate(zip(base, tuned, strict=True))
    ]
    return SuiteScores(origin="t.yaml", sides=["base", "tuned"], tests=judged)


NAN = make_scorecard(rows(*SPREAD), rows(*SPREAD[:9], math.nan))


@pytest.mark.parametrize(
    ("found", "sentence", "next_step", "kind"),
    [
        (card(-0.5), "The model got better at your task.", "Read some answers", "better"),
        (
            card(-0.5, known=known(0, 1.0)),
            "better at your task, and nothing that it knew was lost.",
            "Read some",
            "better",
        ),
        (
            card(-0.5, known=known(2, 0.5)),
            "better at your task; whether it lost anything is not clear.",
            "Read",
            "better",
        ),
        (
            card(-0.5, known=known(9, 0.004)),
            "better at your task, but it forgot something that it knew.",
            "strength below 1",
            "worse",
        ),
        (card(-0.5, prompted=prompted(0.4)), "A prompt with a few of your examples does better.", "Use the prompt", ""),
        (
            card(-0.5, prompted=prompted(0.0)),
            "A prompt with a few of your examples does as well.",
            "Use the prompt",
            "",
        ),
        (card(-0.5, prompted=prompted(-0.4)), "The model got better at your task.", "Read some answers", "better"),
        (
            card(-0.5, prompted=prompted(0.4), known=known(9, 0.004)),
            "but it forgot something",
            "Use the prompt",
            "worse",
        ),
        (card(0.5), "Training made the model worse at your task.", "Train for fewer epochs", "worse"),
        (card(0.5, known=known(9, 0.004)), "worse at your task, and it forgot something", "fewer epochs", "worse"),
        (card(0.0), "Training changed nothing that can be measured.", "Train for longer", ""),
        (card(0.0, prompted=prompted(0.4)), "A prompt with a few of your examples does better.", "Use the prompt", ""),
        (make_scorecard(rows(*SPREAD), rows(*reversed(SPREAD))), "It is not clear yet", "more held-out", ""),
        (make_scorecard(rows(2.0, 2.1), rows(1.0, 1.2)), "It is not clear yet", "at least 6 conversations", ""),
        (NAN, "cannot be judged", "Train again with a lower learning rate.", "worse"),
        (
            card(-0.5, tests=suite([True] * 8, [True] * 6 + [False] * 2)),
            "got better",
            "Read the 2 tests that it fails.",
            "better",
        ),
    ],
)
def test_every_result_has_its_sentence_and_next_step(
    found: Scorecard, sentence: str, next_step: str, kind: str
) -> None:
    said = headline(found)
    assert sentence in said.sentence
    assert next_step in said.next_step
    assert said.kind == kind


@pytest.mark.parametrize(
    ("base", "tuned", "outcome"),
    [
        ([False] * 8, [True] * 8, "better"),
        ([True] * 8, [False] * 8, "worse"),
        ([True, False] * 4, [True, False] * 4, "unchanged"),
        ([False] * 8, [True] * 4 + [False] * 4, "too few"),
        ([True, False, True], [True, False, True], "too few"),
        ([False] * 3, [False] * 3, "all fail"),
        ([True] * 8, [True] * 8, "all pass"),
        ([], [], "no tests"),
    ],
)
def test_the_tests_decide_if_they_were_named_before_training(base: list[bool], tuned: list[bool], outcome: str) -> None:
    """Whatever the loss shows."""
    for change in (-0.5, 0.5):
        assert find_results(card(change, primary="tests", tests=suite(base, tuned))).task == outcome


def test_tests_that_were_trained_on_do_not_decide_and_are_to_be_replaced() -> None:
    """More of them would not help."""
    trained = suite([False] * 8, [True] * 8).model_copy(update={"trained_on": 1})
    found = card(-0.5, primary="tests", tests=trained)
    assert find_results(found).task == "too few"
    assert "Replace the tests that ask what the model was trained on" in headline(found).next_step


def test_tests_that_do_not_decide_are_corrected_for_the_number_of_measures() -> None:
    written = suite([False] * 7, [True] * 6 + [False])
    corrected = correct_for_several(card(-0.5, tests=written)).tests
    assert corrected is not None and corrected.p_holm is not None and corrected.p_holm > 2 / 64
    deciding = correct_for_several(card(-0.5, tests=written, primary="tests")).tests
    assert deciding is not None and deciding.p_holm is None


# of models whose change is known


HELDOUT = [(f"Where is order {n}, please?", "It will arrive soon!") for n in range(8)]


def learn(tokenizer: Any, steps: int = 40, sign: float = 1.0) -> Callable[[Any], Any]:
    """Trains the adapter on the answer, with other questions; with a negative sign, away from it."""

    def change(model: Any) -> Any:
        rows = [[{"role": "user", "content": f"Where is parcel {n}?"}, _answer(HELDOUT[0][1])] for n in range(4)]
        rendered = [render_conversation(tokenizer, make_conversation(row), 128) for row in rows]
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.Adam(trained, lr=3e-2)
        for step in range(steps):
            row = rendered[step % 4].as_training_row()
            ids, labels = (torch.tensor([row[name]]) for name in ("input_ids", "labels"))
            (sign * model(input_ids=ids, labels=labels).loss).backward()
            optimizer.step()
            optimizer.zero_grad()
        return model

    return change


def _answer(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def scorecard_of(make_run: Any, change: Callable[[Any], Any]) -> Scorecard:
    torch.manual_seed(3)
    made = make_run(change=change, general_prompts=1)
    lines = [{"row": n, "messages": [{"role": "user", "content": q}, _answer(a)]} for n, (q, a) in enumerate(HELDOUT)]
    made.run.heldout_file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found, _ = score_run(made.run, load_pair(find_sides(BASE, made.run.id, made.home), made.home), prompts=0)
    return found


def test_a_model_that_learned_nothing_is_said_to_have_changed_nothing(make_run: Any) -> None:
    said = headline(scorecard_of(make_run, lambda model: model))
    assert said.sentence == "Training changed nothing that can be measured."


def test_a_model_that_learned_the_answer_is_said_to_be_better(make_run: Any, tokenizer: Any) -> None:
    said = headline(scorecard_of(make_run, learn(tokenizer)))
    assert said.sentence.startswith("The model got better at your task")
    assert said.kind == "better"


def test_a_damaged_model_is_said_to_be_worse(make_run: Any, tokenizer: Any) -> None:
    card = scorecard_of(make_run, learn(tokenizer, steps=12, sign=-1.0))
    assert headline(card).sentence.startswith("Training made the model worse at your task"), card.difference


def test_a_model_without_numbers_cannot_be_judged(make_run: Any) -> None:
    said = headline(scorecard_of(make_run, overflowing))
    assert said.sentence.startswith("The result cannot be judged")
    assert said.next_step == "Train again with a lower learning rate."
