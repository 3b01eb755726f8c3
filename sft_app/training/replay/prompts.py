"""Find the general prompts that the base model answers for a run. We wrote them; they are part of the app."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sft_app.data.split import asked_in, opening_question
from sft_app.evaluation.forgetting.general_questions import general_questions_file
from sft_app.evaluation.suites.kept import kept_tests
from sft_app.runs.folder import Run

PROMPTS_FILE = Path(__file__).with_name("prompts.jsonl")


@dataclass(frozen=True)
class ReplayPrompt:
    """A general prompt of a kind, such as "facts"."""

    kind: str
    text: str

    @property
    def opening(self) -> str:
        return opening_question([("user", self.text)])


@cache
def replay_prompts() -> tuple[ReplayPrompt, ...]:
    """Return all prompts, the kinds in turn, so that the first ones are of all kinds."""
    rows = map(json.loads, PROMPTS_FILE.read_text(encoding="utf-8").splitlines())
    return tuple(ReplayPrompt(row["kind"], row["prompt"]) for row in rows)


def prompts_for(run: Run) -> list[ReplayPrompt]:
    """Return the prompts that nothing of the run asks: what it trains on, what judges it, and its tests.

    A question that judges must not be rehearsed, and one that is trained must not get a second answer.
    Raises: DataError if the run's tests cannot be read.
    """
    prompts = {prompt.opening: prompt for prompt in replay_prompts()}
    asked = {
        opening for file in (*run.data_files(), general_questions_file(run)) for opening in asked_in(file, prompts)
    }
    tests = kept_tests(run)
    asked |= set(tests.opening_questions() if tests else ())
    return [prompt for opening, prompt in prompts.items() if opening not in asked]
