"""Measure how well a model predicts the held-out answers, and compare the base and fine-tuned models."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from sft_app.data.tokens import IGNORED, RenderedConversation
from sft_app.evaluation.statistics.exact import holm, sign_flip_test
from sft_app.evaluation.statistics.intervals import paired_intervals, sum_groups
from sft_app.evaluation.suites.summary import paired_counts
from sft_app.runs.folder import Run
from sft_app.runs.records import Number
from sft_app.runs.scorecard import ChangedRows, Counted, Interval, PromptedScores, Scorecard, Scores, SideAnswers
from sft_app.runtime.files import read_records, write_jsonl_atomically

MAX_LOGITS_IN_PASS = 2**26
"""256 MiB in float32. A conversation of 3,000 tokens has twelve times as many with a vocabulary of 262,000."""


@dataclass(frozen=True)
class RowScore:
    """The summed loss (in nats) and the correct top-1 predictions over a conversation's trained tokens.

    If the loss is not finite, `correct` is meaningless.
    """

    loss_sum: Number
    tokens: int
    correct: int

    @property
    def loss(self) -> float:
        return self.loss_sum / self.tokens


@torch.no_grad()
def score_conversations(model: Any, conversations: Iterable[RenderedConversation]) -> list[RowScore]:
    """Score each conversation in its own forward pass, with the loss in float32. The model's mode is restored."""
    was_training = model.training
    model.eval()
    try:
        return [score_copies(model, conversation, 1)[0] for conversation in conversations if conversation.trained > 0]
    finally:
        model.train(was_training)


def mean_loss(scores: Sequence[RowScore]) -> float:
    """Return the mean loss per token, not per conversation."""
    return sum(score.loss_sum for score in scores) / sum(score.tokens for score in scores)


def make_scorecard(
    base: Sequence[RowScore],
    tuned: Sequence[RowScore],
    seed: int = 0,
    groups: np.ndarray | None = None,
    judged: Sequence[RowScore] | None = None,
) -> Scorecard:
    """Make the scorecard of these rows, with paired bootstrap 95 % intervals over groups of related conversations.

    `groups` numbers related rows `(rows,)`; by default, every row is a group. `judged` are the scores to take the
    differences from if the tuned side's own would flatter it (`selection.without_selection`).
    """
    changes = [after.loss - before.loss for before, after in zip(base, tuned, strict=True)]
    numbers = list(filter(math.isfinite, changes))
    counted = ChangedRows(
        better=sum(change < 0 for change in numbers),
        worse=sum(change > 0 for change in numbers),
        equal=sum(change == 0 for change in numbers),
    )
    if broken := len(changes) - len(numbers):
        counted = counted.model_copy(update={"not_a_number": broken})
    return Scorecard(
        heldout=_counted(base, groups),
        base=_summary(_table(base)),
        tuned=_summary(_table(tuned)),
        difference=_differences(_table(base), _table(tuned if judged is None else judged), seed, groups),
        rows=counted,
    )


def correct_for_several(card: Scorecard) -> Scorecard:
    """Return the card with the p-values of all measures but the primary one corrected for their number (`p_holm`).

    Whether a prompt does as well is a question of its own, whose primary measure is the loss; whether further sides do
    is another one, without a primary measure. Answers of weights that were chosen on the same rows get no corrected
    value, since only the loss can be corrected for the choice.
    """
    chosen_here = card.selection is not None and card.selection.rows == "same"
    answers, prompted = (None, None) if chosen_here else (card.answers, card.prompted)
    decides = card.primary == "loss"
    parts = {name: part.difference for name, part in (("general", card.general), ("answers", answers)) if part}
    parts |= {"held out": card.difference}
    if card.tests and decides and len(card.tests.sides) == 2:
        parts["tests"] = {"passed": Interval(value=0.0, p_value=paired_counts(card.tests).p_value)}
    changes = _corrected(parts, {"general", *(["held out"] if decides else [])})
    changed: dict[str, Any] = {"difference": changes["held out"]}
    if card.tests and "tests" in changes:
        changed["tests"] = card.tests.model_copy(update={"p_holm": changes["tests"]["passed"].p_holm})
    if card.general:
        changed["general"] = card.general.model_copy(update={"difference": changes["general"]})
    if answers:
        changed["answers"] = answers.model_copy(update={"difference": changes["answers"]})
    if prompted:
        changed["prompted"] = prompted.model_copy(update=_corrected_prompt(prompted))
    if card.sides and not chosen_here:
        changed["sides"] = _corrected_sides(card.sides)
    return card.model_copy(update=changed)


def _corrected_prompt(prompted: PromptedScores) -> dict[str, Any]:
    parts: dict[str, Scores | None] = {"predicted": prompted.predicted, "answers": prompted.answers}
    changes = _corrected({name: part.difference for name, part in parts.items() if part}, {"predicted"})
    return {
        name: part.model_copy(update={"difference": changes[name]}) for name, part in parts.items() if part is not None
    }


def _corrected_sides(sides: Sequence[SideAnswers]) -> list[SideAnswers]:
    measured = {str(number): side.answers.difference for number, side in enumerate(sides) if side.answers}
    changes, found = _corrected(measured, ()), []
    for number, side in enumerate(sides):
        if side.answers:
            answers = side.answers.model_copy(update={"difference": changes[str(number)]})
            found.append(side.model_copy(update={"answers": answers}))
        else:
            found.append(side)
    return found


def _corrected(
    measured: Mapping[str, Mapping[str, Interval]], primary: Collection[str]
) -> dict[str, dict[str, Interval]]:
    """Return each part's differences with `p_holm`, but not for the loss of the parts in which it is `primary`."""
    p_values = {
        f"{name}/{metric}": math.nan if change.p_value is None else change.p_value
        for name, changes in measured.items()
        for metric, change in changes.items()
        if metric != "loss" or name not in primary
    }
    corrected = holm(p_values)
    return {
        name: {
            metric: change.model_copy(update={"p_holm": corrected[key]})
            if (key := f"{name}/{metric}") in corrected
            else change
            for metric, change in changes.items()
        }
        for name, changes in measured.items()
    }


def write_base_scores(run: Run, scores: Iterable[RowScore]) -> None:
    """Write the base model's held-out scores to the run folder."""
    write_jsonl_atomically(run.base_scores_file, map(asdict, scores))


def read_base_scores(run: Run) -> list[RowScore]:
    """Read the scores that `write_base_scores` wrote."""
    return read_records(run.base_scores_file, RowScore)


@torch.no_grad()
def score_copies(model: Any, conversation: RenderedConversation, copies: int) -> list[RowScore]:
    """Score a conversation `copies` times as rows of one batch, for a model with another adapter in each row.

    A long conversation takes several forward passes, each with the logits of some of its positions.
    """
    row = conversation.as_training_row()
    labels = torch.tensor(row["labels"][1:], device=model.device)
    indices = (labels != IGNORED).nonzero()[:, 0]
    ids = torch.tensor([row["input_ids"]] * copies, device=model.device)
    losses, correct = [0.0] * copies, [0] * copies
    for part in indices.split(_positions_per_pass(model, copies)):
        targets = labels[part]
        for copy, logits in enumerate(model(input_ids=ids, use_cache=False, logits_to_keep=part).logits):
            losses[copy] += torch.nn.functional.cross_entropy(logits.float(), targets, reduction="sum").item()
            correct[copy] += int((logits.argmax(-1) == targets).sum())
    return [RowScore(loss, len(indices), right) for loss, right in zip(losses, correct, strict=True)]


def _positions_per_pass(model: Any, copies: int) -> int:
    vocabulary: int = model.config.get_text_config().vocab_size
    return max(1, MAX_LOGITS_IN_PASS // (copies * vocabulary))


def _table(scores: Sequence[RowScore]) -> np.ndarray:
    """Return `(conversations, 3)`: summed loss, tokens, correct. If a loss is not finite, both sums are NaN, because
    the largest of NaN logits is not a prediction."""
    table = np.array([(score.loss_sum, score.tokens, score.correct) for score in scores], dtype=float)
    table[~np.isfinite(table[:, 0]), ::2] = math.nan
    return table


def _summary(table: np.ndarray) -> dict[str, float]:
    loss_sum, tokens, correct = table.sum(axis=0)
    loss = loss_sum / tokens
    return {"loss": loss, "perplexity": _perplexity(loss), "token_accuracy": correct / tokens}


def _perplexity(loss: float) -> float:
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf


def _counted(scores: Sequence[RowScore], groups: np.ndarray | None) -> Counted:
    counted = Counted(conversations=len(scores), trained_tokens=sum(score.tokens for score in scores))
    return counted if groups is None else counted.model_copy(update={"groups": len(np.unique(groups))})


def _differences(base: np.ndarray, tuned: np.ndarray, seed: int, groups: np.ndarray | None) -> dict[str, Interval]:
    intervals = paired_intervals(base, tuned, _ratios, seed, groups)
    changes = (tuned - base)[:, ::2]  # both sides predicted the same tokens
    p_values = sign_flip_test(changes if groups is None else sum_groups(changes, groups), seed).tolist()
    return {
        name: interval.model_copy(update={"p_value": p_value})
        for name, interval, p_value in zip(("loss", "token_accuracy"), intervals, p_values, strict=True)
    }


def _ratios(tables: np.ndarray) -> np.ndarray:
    """Return loss and accuracy per token, `(..., 2)`, from tables made by `_table`."""
    sums = tables.sum(axis=-2)
    ratios: np.ndarray = sums[..., [0, 2]] / sums[..., [1]]
    return ratios
