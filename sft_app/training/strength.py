"""Choose how strongly an adapter is applied: as far as it helps and loses nothing the base model knew.

A weaker adapter keeps most of what was learned and forgets less. The general questions that choose are not those of
the scorecard, which judge the result.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from sft_app.data.tokens import RenderedConversation
from sft_app.errors import AppError
from sft_app.evaluation.forgetting.general_questions import general_questions_file
from sft_app.evaluation.forgetting.known import KNOWN_LOSS, LEAST_RISE
from sft_app.evaluation.scorable_rows import read_scorable_rows
from sft_app.evaluation.scorecard import RowScore, mean_loss, score_conversations
from sft_app.inference.batched_adapters import can_apply_row_adapters, lora_layers
from sft_app.models.loading import ADAPTER_NAME
from sft_app.runs.folder import Run
from sft_app.runs.strength import CHOOSING_QUESTIONS, STRENGTHS, StrengthChoice, TriedStrength
from sft_app.training import distributed
from sft_app.training.termination import StopRequested

logger = logging.getLogger(__name__)

LEAST_QUESTIONS, LEAST_KNOWN = 8, 8
"""With fewer general questions, nothing is tried; with fewer that the base knows, nothing above the trained strength
is kept."""
NOT_CHOSEN = "The adapter has its trained strength"
LEAST_GAIN, USUAL_GAIN = 0.5, 0.9
"""The least share of the largest gain for which a weaker adapter may be kept: so that nothing known is lost, and if
something is lost at every strength."""
TOLERANCE = 1e-2


def keep_best_strength(run: Run, trainer: Any, tokenizer: Any) -> tuple[StrengthChoice | None, str]:
    """Choose the strength after training and leave the model at it; if none was chosen, say why.

    A stop, and whatever fails here, leaves the adapter as it was trained.
    """
    if distributed.world_size() > 1:  # each process would have to choose the same
        return None, f"{NOT_CHOSEN}, because the run used several processes."
    run.update_status(message="Trying the adapter at several strengths.")
    choosing = trainer.heldout if trainer.judging is not None else []
    try:
        with trainer.termination.stoppable():
            choice, why_not = choose_strength(trainer.model, tokenizer, run, choosing)
    except StopRequested:
        return None, f"{NOT_CHOSEN}, because the run was stopped."
    except AppError as error:
        return None, f"{NOT_CHOSEN}: {error}"
    except Exception:  # what was trained is saved whatever fails here; the traceback goes to the run's log
        logger.exception("the strength could not be chosen")
        return None, f"{NOT_CHOSEN}; the run's log says why."
    if choice is not None and choice.chosen != 1.0:
        trainer.scores.pop(trainer.kept_step(), None)  # those of the full strength
    return choice, why_not


def choose_strength(
    model: Any, tokenizer: Any, run: Run, choosing: Sequence[RenderedConversation]
) -> tuple[StrengthChoice | None, str]:
    """Try the adapter at several strengths and leave the model at the one that is kept; without a choice, say why.

    `choosing` are the conversations that choose the weights; empty if the judging ones do, and then only what is lost
    decides.
    """
    if not _is_adjustable(model):
        return None, "" if not hasattr(model, "peft_config") else f"{NOT_CHOSEN}: this kind of adapter has only one."
    questions = _questions(run, tokenizer)
    if len(questions) < LEAST_QUESTIONS:
        return None, f"{NOT_CHOSEN}: too few general questions are left after those of the scorecard."
    base, before = _scores(model, 0.0, questions), _loss(model, 0.0, choosing)
    tried = [_try(model, strength, choosing, questions, base) for strength in STRENGTHS]
    chosen = pick_strength(tried, before)
    expected = next(one for one in tried if one.strength == chosen)
    with _kept_if_equal(model, chosen) as is_kept:
        difference = abs(mean_loss(_scores(model, 1.0, questions)) - expected.general_loss)
        is_kept.append(chosen == 1.0 or difference <= TOLERANCE)
    if not is_kept[0]:
        return None, f"{NOT_CHOSEN}: scaled weights did something else than a scaled adapter."
    return StrengthChoice(chosen=chosen, questions=len(questions), tried=tried), ""


def pick_strength(tried: Sequence[TriedStrength], base_loss: float | None) -> float:
    """Return the best strength at which nothing known is lost; if something is lost at each, the one that loses least.

    With conversations that choose (`base_loss` is the base's on them), the best is where their loss is lowest;
    otherwise, it is the largest one up to 1. A strength that keeps less than half of the gain is never chosen, nor one
    of less than 90 % if it loses something all the same, nor one above 1 if the base knows too few of the questions to
    see a loss.
    """
    usable = [one for one in tried if _is_finite(one) and (one.strength <= 1 or one.known >= LEAST_KNOWN)]
    gains = {one.strength: _gain(one, base_loss) for one in usable}
    most = max(gains.values(), default=0.0)
    if 1.0 not in gains or not 0 < most < math.inf:
        return 1.0
    careful = [one for one in usable if one.lost == 0 and gains[one.strength] >= LEAST_GAIN * most]
    if careful:
        return max(careful, key=lambda one: gains[one.strength]).strength
    close = [one for one in usable if gains[one.strength] >= USUAL_GAIN * most]
    return min(close, key=lambda one: (one.lost, -gains[one.strength])).strength


def _is_finite(one: TriedStrength) -> bool:
    return all(math.isfinite(loss) for loss in (one.heldout_loss, one.general_loss) if loss is not None)


def _gain(one: TriedStrength, base_loss: float | None) -> float:
    """Return how much lower the choosing conversations' loss is than the base's, or the strength without them."""
    if base_loss is None or one.heldout_loss is None:
        return one.strength if one.strength <= 1 else 0.0
    return base_loss - one.heldout_loss


def _try(
    model: Any,
    strength: float,
    choosing: Sequence[RenderedConversation],
    questions: Sequence[RenderedConversation],
    base: Sequence[RowScore],
) -> TriedStrength:
    scores = _scores(model, strength, questions)
    known = [(before.loss, after.loss) for before, after in zip(base, scores, strict=True) if before.loss <= KNOWN_LOSS]
    return TriedStrength(
        strength=strength,
        heldout_loss=_loss(model, strength, choosing),
        general_loss=mean_loss(scores),
        known=len(known),
        lost=sum(not (after <= KNOWN_LOSS or after - before < LEAST_RISE) for before, after in known),
    )


def _questions(run: Run, tokenizer: Any) -> list[RenderedConversation]:
    rows = read_scorable_rows(general_questions_file(run), tokenizer, None)
    return [row.rendered for row in rows[run.record().settings.general_prompts :][:CHOOSING_QUESTIONS]]


def _is_adjustable(model: Any) -> bool:
    return hasattr(model, "peft_config") and can_apply_row_adapters(model, [ADAPTER_NAME])


def _loss(model: Any, strength: float, rows: Sequence[RenderedConversation]) -> float | None:
    return mean_loss(_scores(model, strength, rows)) if rows else None


def _scores(model: Any, strength: float, rows: Sequence[RenderedConversation]) -> list[RowScore]:
    with _scaled(model, strength):
        return score_conversations(model, rows)


@contextmanager
def _scaled(model: Any, strength: float) -> Iterator[None]:
    layers = [layer for layer in lora_layers(model) if ADAPTER_NAME in layer.scaling]
    before = [layer.scaling[ADAPTER_NAME] for layer in layers]
    try:
        for layer, scaling in zip(layers, before, strict=True):
            layer.scaling[ADAPTER_NAME] = scaling * strength
        yield
    finally:
        for layer, scaling in zip(layers, before, strict=True):
            layer.scaling[ADAPTER_NAME] = scaling


@contextmanager
def _kept_if_equal(model: Any, strength: float) -> Iterator[list[bool]]:
    """Scale the adapter's weights; take it back unless the block appends True to what it is given."""
    is_kept: list[bool] = []
    _scale_weights(model, strength)
    try:
        yield is_kept
    finally:
        if is_kept != [True]:
            _scale_weights(model, 1 / strength)


@torch.no_grad()
def _scale_weights(model: Any, strength: float) -> None:
    """Multiply the adapter's second matrices, so that everything that loads the adapter has this strength."""
    for layer in lora_layers(model):
        for factors in (layer.lora_B, layer.lora_embedding_B):
            if ADAPTER_NAME in factors:
                factor = factors[ADAPTER_NAME]
                getattr(factor, "weight", factor).mul_(strength)
