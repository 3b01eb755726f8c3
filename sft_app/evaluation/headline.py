"""Say in one sentence what a scorecard means, and what to do next. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sft_app.evaluation.beside.memorised_verdict import is_memorising
from sft_app.evaluation.beside.prompted_verdicts import prompt_verdict
from sft_app.evaluation.forgetting.sentences import lost_more_than_gained, situation
from sft_app.evaluation.suites.summary import suite_verdict
from sft_app.evaluation.verdicts import FEWEST_TO_JUDGE, TOO_FEW, UNJUDGED, cannot_be_judged, verdict_of_loss
from sft_app.runs.scorecard import Scorecard

Outcome = Literal["better", "worse", "unchanged", "too few", "not a number"]
Kind = Literal["better", "worse", ""]
FEWER_STEPS = "Train for fewer epochs or with a lower learning rate"
WEAKER = (
    "Compare at a strength below 1, train for fewer epochs, or mix general conversations into your examples, and look "
    "at what was lost."
)


USE_PROMPT = "Use the prompt, or train on more examples or for longer."
NOT_A_NUMBER = "The result cannot be judged, because a model produced values that are not numbers."
_SENTENCES = {
    "better": "The model got better at your task",
    "worse": "Training made the model worse at your task",
    "unchanged": "Training changed nothing that can be measured",
    "too few": "It is not clear yet whether training helped",
}
_FORGOT = {True: ", but forgot something that it knew", False: ", and it forgot something that it knew"}
_NEXT_STEPS = {
    "worse": f"{FEWER_STEPS}, and check on the Data tab that your examples are read as you mean them.",
    "unchanged": "Train for longer, or with a higher learning rate.",
}


@dataclass(frozen=True)
class Headline:
    """What the whole scorecard means. `kind` is how it is marked: as better, as worse, or not at all."""

    sentence: str
    next_step: str
    kind: Kind = ""

    def __str__(self) -> str:
        return f"{self.sentence} {self.next_step}"


def headline(card: Scorecard) -> Headline:
    """Return the result in a sentence: by the measure that was named before training, what was lost, and the prompt."""
    outcome, forgot = task_outcome(card), card.known is not None and lost_more_than_gained(card.known)
    prompt = prompt_verdict(card.prompted) if card.prompted else "not judged"
    if outcome == "not a number":
        return Headline(NOT_A_NUMBER, _repair(card), "worse")
    if outcome == "better" and prompt not in ("prompt", "as well") and not forgot:
        return _without_drawback(card)
    found = _SENTENCES[outcome] + _FORGOT[outcome == "better"] * forgot + "."
    kind: Kind = "worse" if forgot or outcome == "worse" else ""
    if prompt == "prompt" or (prompt == "as well" and outcome == "better"):
        does = "does better" if prompt == "prompt" else "does as well"
        return Headline(f"{found} A prompt with a few of your examples {does}.", USE_PROMPT, kind)
    if outcome == "better":
        return Headline(found, WEAKER, kind)
    return Headline(found, _how_to_be_clearer(card) if outcome == "too few" else _NEXT_STEPS[outcome], kind)


def task_outcome(card: Scorecard) -> Outcome:
    """Return what happened at the person's own task, by the measure that was named before training."""
    if cannot_be_judged(card):
        return "not a number"
    if card.primary == "tests":
        return "too few" if card.tests is None else suite_verdict(card.tests)
    verdict = verdict_of_loss(card)
    if verdict == UNJUDGED:
        return "not a number"
    if verdict == TOO_FEW:
        return "too few"
    return "better" if verdict == "better" else "worse" if verdict == "worse" else "unchanged"


def _without_drawback(card: Scorecard) -> Headline:
    if card.general and cannot_be_judged(card.general):
        sentence = f"{_SENTENCES['better']}, but on general questions it produced values that are not numbers."
        return Headline(sentence, "Train again with a lower learning rate.", "worse")
    found = f"{_SENTENCES['better']}{_nothing_lost(card)}."
    if card.memorised and is_memorising(card.memorised):
        return Headline(f"{found} Its answers repeat long passages of single training answers.", f"{FEWER_STEPS}.")
    if failing := len(card.tests.tests) - card.tests.passed(1) if card.tests else 0:
        are = "test that it fails" if failing == 1 else f"{failing} tests that it fails"
        return Headline(found, f"Read the {are}.", "better")
    return Headline(found, "Read some answers side by side, then export it.", "better")


def _nothing_lost(card: Scorecard) -> str:
    """Return what is known about what was lost, where nothing was lost beyond chance."""
    if card.known is None:
        return ""
    match situation(card.known):
        case "nothing lost":
            return ", and nothing that it knew was lost"
        case "some lost":
            return "; whether it lost anything is not clear"
        case _:
            return ""


def _repair(card: Scorecard) -> str:
    if cannot_be_judged(card.model_copy(update={"tuned": card.base})):
        return "Check the base model, or train with dtype float32."
    return "Train again with a lower learning rate."


def _how_to_be_clearer(card: Scorecard) -> str:
    if card.primary == "tests":
        return "Write more tests, or read the answers side by side."
    if card.independent_rows < FEWEST_TO_JUDGE:
        return f"Hold out at least {FEWEST_TO_JUDGE} conversations, or bring a file of test conversations."
    return "Bring more held-out conversations, or read the answers side by side."
