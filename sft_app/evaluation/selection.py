"""Keep the choice of weights from flattering the result.

Training keeps the weights of its best evaluation. On the rows that made this choice, the chosen weights look better
than they are: the more evaluations there were, the more so. So either other rows choose (`data.split.hold_out`), or the
change is cross-fitted here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sft_app.data.split import asked_in
from sft_app.evaluation.scorecard import RowScore, mean_loss
from sft_app.evaluation.suites.tests_file import Suite
from sft_app.runs.folder import Run
from sft_app.runs.records import Number, Record
from sft_app.runs.scorecard import Selection
from sft_app.runs.suite_scores import SuiteScores
from sft_app.runtime.files import append_jsonl, read_records

Evaluations = Mapping[int, Sequence[RowScore]]


class Evaluation(Record):
    """A line of `evaluations.jsonl`: summed loss, tokens and correct predictions of each row after `step` steps."""

    step: int
    loss_sums: list[Number]
    tokens: list[int]
    correct: list[int]


def record_evaluation(run: Run, step: int, scores: Sequence[RowScore]) -> None:
    """Append an evaluation, from which the kept weights may be chosen."""
    columns: dict[str, Any] = {
        "loss_sums": [score.loss_sum for score in scores],
        "tokens": [score.tokens for score in scores],
        "correct": [score.correct for score in scores],
    }
    append_jsonl(run.evaluations_file, Evaluation(step=step, **columns).as_record())


def read_evaluations(run: Run) -> dict[int, list[RowScore]]:
    """Read the evaluations that could be chosen, by step: all but that of the base."""
    return {
        found.step: [RowScore(*row) for row in zip(found.loss_sums, found.tokens, found.correct, strict=False)]
        for found in read_records(run.evaluations_file, Evaluation)
        if found.step > 0
    }


def without_selection(
    run: Run, tuned: Sequence[RowScore], groups: np.ndarray | None = None
) -> tuple[list[RowScore], Selection | None]:
    """Return the scores to judge the kept weights by, and how they were chosen; None if nothing was chosen.

    `tuned` are the kept weights' scores of the judging rows, `groups` numbers related rows `(rows,)`.
    """
    if run.validation_file.exists():
        return list(tuned), Selection(rows="other", evaluations=_count_evaluations(run))
    if not run.record().settings.load_best_model_at_end:
        return list(tuned), None
    usable = {step: scores for step, scores in read_evaluations(run).items() if len(scores) == len(tuned)}
    kept = run.status().kept_step
    if _chose_nothing(run, usable):
        return list(tuned), None
    if kept is None or kept not in usable:  # begun by an earlier version, which recorded no evaluations
        return list(tuned), Selection(rows="same", evaluations=len(usable), is_corrected=False)
    strength = run.strength()
    chosen = 1.0 if strength is None else strength.chosen
    return cross_fit(usable, kept, tuned, groups, chosen), Selection(rows="same", evaluations=len(usable))


def with_flattering_tests(run: Run, scores: SuiteScores, suite: Suite) -> SuiteScores:
    """Return the results of a run's tests with the numbers of those that ask what it was trained on or chosen by.

    A new run leaves out what its tests ask (`training.run_data`), but tests may be written after training.
    """
    questions, choosing = suite.opening_questions(), choosing_file(run)
    counts = {
        "chose_weights": _count_asked(questions, choosing) if choosing else 0,
        "trained_on": _count_asked(questions, run.train_file) if run.train_file.is_file() else 0,
    }
    return scores.model_copy(update=counts)


def _count_asked(questions: Sequence[str], file: Path) -> int:
    """Return how many questions a conversation of this file begins with."""
    found = asked_in(file, questions)
    return sum(question in found for question in questions)


def choosing_file(run: Run) -> Path | None:
    """Return the file of the conversations that chose the kept weights; None if none did."""
    if not run.record().settings.load_best_model_at_end:
        return None
    if run.validation_file.exists():
        return run.validation_file
    return None if _chose_nothing(run, read_evaluations(run)) else run.heldout_file


def _chose_nothing(run: Run, evaluations: Evaluations) -> bool:
    """Return whether there was one evaluation to choose from at most, and it is that of the kept weights."""
    kept = run.status().kept_step
    return len(evaluations) < 2 and (kept is None or kept in evaluations)


def cross_fit(
    evaluations: Evaluations,
    kept: int,
    tuned: Sequence[RowScore],
    groups: np.ndarray | None = None,
    strength: float = 1.0,
) -> list[RowScore]:
    """Return what the rows would show if others had chosen: each half has the scores of the weights that the other half
    would have kept. Related rows stay in one half.

    `tuned` are the scores of the weights of step `kept`; they may have been computed in another precision, so only the
    difference between two evaluations is taken from `evaluations`. If the adapter was scaled afterwards, its `strength`
    scales that difference too, which is exact for small ones. Simulated in `tests/evaluation/test_selection`.
    Source: Chernozhukov et al. 2018, "Double/debiased machine learning", two folds.
    """
    numbers = np.arange(len(tuned)) if groups is None else np.asarray(groups)
    _, first, index = np.unique(numbers, return_index=True, return_inverse=True)
    is_second = (np.argsort(np.argsort(first)) % 2 == 1)[index]
    if is_second.all() or not is_second.any():
        return list(tuned)
    chosen = [_best(evaluations, ~is_second), _best(evaluations, is_second)]
    return [
        _moved(score, evaluations[kept][row], evaluations[chosen[0 if second else 1]][row], strength)
        for row, (score, second) in enumerate(zip(tuned, is_second, strict=True))
    ]


def _best(evaluations: Evaluations, rows: np.ndarray) -> int:
    """Return the step with the lowest mean loss on these rows."""
    indices: list[int] = np.flatnonzero(rows).tolist()
    losses = {step: mean_loss([scores[index] for index in indices]) for step, scores in evaluations.items()}
    return min(losses, key=lambda step: (losses[step] != losses[step], losses[step]))


def _moved(score: RowScore, before: RowScore, after: RowScore, strength: float) -> RowScore:
    loss, correct = after.loss_sum - before.loss_sum, round(strength * (after.correct - before.correct))
    return RowScore(score.loss_sum + strength * loss, score.tokens, score.correct + correct)


def _count_evaluations(run: Run) -> int:
    return sum(row.heldout_loss is not None and row.step > 0 for row in run.metrics())
