"""Say in one sentence what a scorecard means, and what to do next. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sft_app.evaluation.beside.memorised_verdict import is_memorising, repeats_long_passages
from sft_app.evaluation.beside.prompted_verdicts import prompt_verdict
from sft_app.evaluation.results.findings import Findings, TaskOutcome, find_results
from sft_app.evaluation.verdicts import FEWEST_TO_JUDGE, cannot_be_judged
from sft_app.runs.scorecard import PredictedScores, Scorecard

Kind = Literal["better", "worse", ""]
FEWER_STEPS = "Train for fewer epochs or with a lower learning rate"
WEAKER = (
    "Compare at a strength below 1, train for fewer epochs, or mix general conversations into your examples, and look "
    "at what was lost."
)
USE_PROMPT = "Use the prompt, or train on more examples or for longer."
LONGER = "Train for longer, or with a higher learning rate."
LOWER_RATE = "Train again with a lower learning rate."
READ_FIRST = "Read some answers side by side before you use it."
NOT_A_NUMBER = "The result cannot be judged, because a model produced values that are not numbers."
_OPENINGS: dict[TaskOutcome, str] = {
    "better": "The model got better at your task",
    "worse": "Training made the model worse at your task",
    "unchanged": "Training changed nothing that can be measured",
    "too few": "It is not clear yet whether training helped",
    "not run": "The result is not known, because your tests decide and could not be run",
    "no tests": "The result is not known, because your tests decide and have no results",
    "all pass": "Both models pass all your tests, so these cannot show whether training helped",
    "all fail": "Both models fail all your tests, so these cannot show whether training helped",
}
_DECIDERS = {"loss": "the held-out loss", "tests": "your tests"}
_NEXT_STEPS: dict[TaskOutcome, str] = {
    "worse": f"{FEWER_STEPS}, and check on the Data tab that your examples are read as you mean them.",
    "no tests": "Measure the run again, and add tests first if it has none.",
    "all pass": "Write harder tests, or read the answers side by side.",
    "all fail": "Check what the tests expect, write easier ones, or read the answers side by side.",
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
    """Return the result in a sentence: by the measure that was named before training, and whatever contradicts it."""
    found = find_results(card)
    prompt = prompt_verdict(card.prompted) if card.prompted else "not judged"
    if found.task == "not a number":
        return Headline(NOT_A_NUMBER, _repair(card), "worse")
    losses = _losses(found)
    kind: Kind = "worse" if losses or found.task == "worse" else ""
    is_judged = found.task not in ("not run", "no tests")
    if is_judged and (prompt == "prompt" or (prompt == "as well" and found.task == "better")):
        does = "does better" if prompt == "prompt" else "does as well"
        sentence = f"{_task_sentence(found)}. A prompt with a few of your examples {does}."
        return Headline(sentence, USE_PROMPT, kind)
    if found.task == "better" and not losses:
        return _without_loss(card, found)
    return Headline(f"{_task_sentence(found)}.", _next_step(card, found), kind)


def _task_sentence(found: Findings) -> str:
    """Return what happened at the task, and what was lost and won besides, without the full stop."""
    losses, gains = _losses(found), _gains(found)
    opening = _OPENINGS[found.task]
    if found.task == "unchanged" and (losses or gains or found.others):
        opening = f"By {_DECIDERS[found.decider]}, training changed nothing"
    if losses:
        opening += f", {'but' if found.task == 'better' else 'and'} {' and '.join(losses)}"
    return opening + (f", but {' and '.join(gains)}" if gains else "")


def _losses(found: Findings) -> list[str]:
    """Return a clause for each part, besides the measure that decides, that got worse beyond chance or is broken."""
    it = _subject(found)
    clauses = {
        f"{it} passes fewer of your tests": found.decider == "loss" and found.tests == "worse",
        f"{it} predicts the held-out answers worse than before": found.decider == "tests" and found.loss == "worse",
        f"{it} forgot something that it knew": found.lost_beyond_chance,
        f"{it} predicts the answers to general questions worse than before": (
            found.general == "worse" and not found.lost_beyond_chance
        ),
        "on general questions a model produced values that are not numbers": found.is_forgetting_unjudged,
    }
    return [clause for clause, holds in clauses.items() if holds]


def _gains(found: Findings) -> list[str]:
    """Return a clause for each part that got better although the measure that decides does not say so."""
    it = _subject(found)
    clauses = {
        f"{it} passes more of your tests": found.decider == "loss" and found.tests == "better",
        f"{it} predicts the held-out answers better than before": found.decider == "tests" and found.loss == "better",
        f"{it} predicts the answers to general questions better than before": (
            found.task == "unchanged" and found.general == "better"
        ),
    }
    return [clause for clause, holds in clauses.items() if holds and found.task != "better"]


def _subject(found: Findings) -> str:
    return "it" if found.task in ("better", "worse") else "the fine-tuned model"


def _without_loss(card: Scorecard, found: Findings) -> Headline:
    """Return the headline of a model that got better, where no other part that is judged on its own got worse."""
    if worse := [label for label, verdict in found.others if verdict == "worse"]:
        which = "this measure" if len(worse) == 1 else "these measures"
        return Headline(f"{_task_sentence(found)}, but {which} got worse: {', '.join(worse)}.", READ_FIRST)
    sentence = f"{_task_sentence(found)}{_nothing_lost(found)}."
    if card.memorised and is_memorising(card.memorised):
        repeated = "Its answers repeat long passages of single training answers."
        if not repeats_long_passages(card.memorised):
            repeated = "Some of its short answers are the same as training answers."
        return Headline(f"{sentence} {repeated}", f"{FEWER_STEPS}.")
    if failing := _failing(card):
        return Headline(sentence, f"Read the {failing}.", "better")
    return Headline(sentence, "Read some answers side by side, then export it.", "better")


def _nothing_lost(found: Findings) -> str:
    """Return what is known about what was lost, where nothing was lost beyond chance."""
    match found.known:
        case "nothing lost":
            return ", and nothing that it knew was lost"
        case "some lost":
            return "; whether it lost anything is not clear"
        case _:
            return ""


def _next_step(card: Scorecard, found: Findings) -> str:
    if found.task == "not run":
        problem = card.tests.problem.rstrip(" .") if card.tests else ""
        return f"{problem}. Correct the tests and measure the run again."
    if found.task == "too few":
        return _how_to_be_clearer(card)
    if found.task == "unchanged" and not _losses(found):
        return _how_to_be_clearer(card) if _gains(found) or found.others else LONGER
    return _NEXT_STEPS.get(found.task) or _after_losses(card, found)


def _after_losses(card: Scorecard, found: Findings) -> str:
    """Return what to do about a model that got worse elsewhere, but not at the task."""
    if found.has_forgotten:
        return WEAKER
    if found.is_forgetting_unjudged:
        return _repair(card.general) if card.general else LOWER_RATE
    return f"Read the {_failing(card)} before you use it." if found.tests == "worse" else READ_FIRST


def _failing(card: Scorecard) -> str:
    """Return the number of tests that the fine-tuned model fails, in words; "" if none."""
    failing = len(card.tests.tests) - card.tests.passed(1) if card.tests else 0
    return "test that it fails" if failing == 1 else f"{failing} tests that it fails" if failing else ""


def _repair(part: PredictedScores) -> str:
    if cannot_be_judged(part.model_copy(update={"tuned": part.base})):
        return "Check the base model, or train with dtype float32."
    return LOWER_RATE


def _how_to_be_clearer(card: Scorecard) -> str:
    if card.primary == "tests":
        if card.tests and card.tests.is_flattered:
            return (
                "Replace the tests that ask what the model was trained on or what chose its weights, and measure again."
            )
        return "Write more tests, or read the answers side by side."
    if card.independent_rows < FEWEST_TO_JUDGE:
        return f"Hold out at least {FEWEST_TO_JUDGE} conversations, or bring a file of test conversations."
    return "Bring more held-out conversations, or read the answers side by side."
