"""Score held-out conversations in packed rows, from the per-token outputs of TRL's fused head."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import torch

from sft_app.data.tokens import RenderedConversation
from sft_app.evaluation.scorecard import RowScore

HELDOUT_TOKENS = 8192
"""Tokens in a packed row of held-out conversations."""
CHECKED_BESIDE = 7
"""Short conversations in the row that is compared."""
LOSS_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 1e-2, torch.float16: 3e-3}
"""A conversation's mean loss varies less than the gradients, whose tolerance is larger."""
CORRECT_TOLERANCE = 0.05
"""The share of predictions that rounding may tip from one token to another that is as likely."""


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


def hardest_row(conversations: Iterable[RenderedConversation], most: int) -> list[RenderedConversation]:
    """Return the longest conversation with the shortest ones that fit beside it.

    A model that depends on the length of a whole row, as with LongRoPE, computes the short ones differently there.
    """
    longest, *others = sorted((one for one in conversations if one.trained), key=lambda one: one.kept, reverse=True)
    row, length = [longest], longest.kept
    for conversation in others[: -CHECKED_BESIDE - 1 : -1]:
        length += conversation.kept
        if length <= most:
            row.append(conversation)
    return row


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
    """Return whether losses and correct predictions are equal up to what rounding explains in this dtype."""
    return all(
        one.tokens == other.tokens
        and abs(one.loss - other.loss) <= LOSS_TOLERANCE[dtype] * max(1.0, abs(other.loss))
        and abs(one.correct - other.correct) <= 1 + CORRECT_TOLERANCE * one.tokens
        for one, other in zip(scores, plain, strict=True)
    )
