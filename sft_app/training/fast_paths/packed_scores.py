"""Score held-out conversations in packed rows, from the per-token outputs of TRL's fused head."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import torch

from sft_app.data.tokens import RenderedConversation
from sft_app.evaluation.scorecard import RowScore
from sft_app.training.fast_paths.gradient_check import TOLERANCE

HELDOUT_TOKENS = 8192
"""Tokens in a packed row of held-out conversations."""


def group_by_tokens(conversations: Iterable[RenderedConversation], most: int) -> list[list[RenderedConversation]]:
    """Group the conversations that have a trained token, in order, into rows of at most `most` tokens if possible."""
    groups: list[list[RenderedConversation]] = []
    length = most
    for conversation in conversations:
        if conversation.trained == 0:
            continue
        length += conversation.kept
        if length > most:
            groups.append([])
            length = conversation.kept
        groups[-1].append(conversation)
    return groups


def row_scores(outputs: Any, borders: Sequence[int]) -> list[RowScore]:
    """Return the score of each conversation in a packed row, whose `borders` are those of its conversations.

    `outputs` are those of `trl.trainer.utils.add_fused_lm_head`: position i says how well token i + 1 is predicted.
    """
    losses, correct, trained = (-outputs.log_probs[0], outputs.is_top1[0], outputs.label_mask[0])
    scores = []
    for start, end in pairwise(borders):
        part = slice(start, end - 1)
        count = int(trained[part].sum())
        scores.append(RowScore(float(losses[part].double().sum()), count, int((correct[part] & trained[part]).sum())))
    return scores


def scores_agree(scores: Sequence[RowScore], plain: Sequence[RowScore], dtype: torch.dtype) -> bool:
    """Return whether the losses are equal up to what rounding explains in this dtype."""
    return all(
        one.tokens == other.tokens and abs(one.loss - other.loss) <= TOLERANCE[dtype] * max(1.0, abs(other.loss))
        for one, other in zip(scores, plain, strict=True)
    )
