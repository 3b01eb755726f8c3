"""Which pairs of answers a report can show, and those it does show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sft_app.evaluation.answer_pairs import AnswerPair, kept_pairs, told_as_prompt
from sft_app.evaluation.word_diff import change_between
from sft_app.runs.folder import Run

SHOWN = 6


def pairs_of(run: Run) -> list[AnswerPair]:
    """Every pair of answers that the run's folder has, those first whose words changed most.

    They are what was kept while comparing, what the scorecard tells of its most changed rows, and the prompts that were
    watched during training.
    """
    found = [*kept_pairs(run), *_scored_pairs(run.scorecard() or {}), *watched_pairs(run)]
    unique = {pair.id: pair for pair in reversed(found)}  # of two that are the same the first one stays
    return sorted(reversed(unique.values()), key=lambda pair: -change_between(pair.base, pair.tuned))


def choose_pairs(pairs: Sequence[AnswerPair], chosen: Sequence[str] | None) -> list[AnswerPair]:
    """Of what `pairs_of` gives those with these ids; by default the first ones."""
    return list(pairs[:SHOWN]) if chosen is None else [pair for pair in pairs if pair.id in chosen]


def watched_pairs(run: Run) -> list[AnswerPair]:
    """What was answered before training and by the weights that were kept."""
    answers = {row["step"]: _whole_answers(row["answers"]) for row in run.snapshots()}
    kept = run.status().kept_step
    last = kept if kept in answers else max(answers, default=0)
    if last == 0 or 0 not in answers:
        return []
    return [
        AnswerPair(prompt, answers[0][prompt], text) for prompt, text in answers[last].items() if prompt in answers[0]
    ]


def _whole_answers(answers: Sequence[dict[str, Any]]) -> dict[str, str]:
    """By prompt, without those that broke off."""
    return {one["prompt"]: one["answer"] for one in answers if not one.get("broken")}


def _scored_pairs(card: dict[str, Any]) -> list[AnswerPair]:
    found = [row for rows in card.get("most_changed", {}).values() for row in rows]
    rows = [row for row in found if len(row["answers"]) == 2 and None not in row["answers"]]
    return [
        AnswerPair(
            prompt=told_as_prompt(row["messages"][:-1]),
            base=row["answers"][0],
            tuned=row["answers"][1],
            reference=str(row["messages"][-1]["content"]),
        )
        for row in rows
    ]
