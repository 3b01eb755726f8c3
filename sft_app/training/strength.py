"""Choose how strongly an adapter is applied: as far as it helps and loses nothing the base model knew.

A weaker adapter keeps most of what was learned and forgets less. The general questions that choose are not those of
the scorecard, which judge the result.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from sft_app.data.tokens import RenderedConversation
from sft_app.evaluation.forgetting.general_questions import general_questions_file
from sft_app.evaluation.forgetting.known import KNOWN_LOSS, LEAST_RISE
from sft_app.evaluation.scorable_rows import read_scorable_rows
from sft_app.evaluation.scorecard import RowScore, mean_loss, score_conversations
from sft_app.inference.batched_adapters import can_apply_row_adapters, lora_layers
from sft_app.models.loading import ADAPTER_NAME
from sft_app.runs.folder import Run
from sft_app.runs.strength import CHOOSING_QUESTIONS, STRENGTHS, StrengthChoice, TriedStrength
from sft_app.training import distributed

LEAST_QUESTIONS = 8
"""With fewer general questions, nothing is tried."""
LEAST_GAIN, USUAL_GAIN = 0.5, 0.9
"""The least share of the largest gain for which a weaker adapter may be kept: so that nothing known is lost, and if
something is lost at every strength."""
TOLERANCE = 1e-2


def keep_best_strength(run: Run, trainer: Any, tokenizer: Any) -> StrengthChoice | None:
    """Choose the strength after training, as `choose_strength`; None on several GPUs, which would each have to choose
    the same."""
    if distributed.world_size() > 1:
        return None
    run.update_status(message="Trying the adapter at several strengths.")
    choosing = trainer.heldout if trainer.judging is not None else []
    choice = choose_strength(trainer.model, tokenizer, run, choosing)
    if choice is not None and choice.chosen != 1.0:
        trainer.scores.pop(trainer.kept_step(), None)  # those of the full strength
    return choice


def choose_strength(
    model: Any, tokenizer: Any, run: Run, choosing: Sequence[RenderedConversation]
) -> StrengthChoice | None:
    """Try the adapter at several strengths, write `strength.json`, and leave the model at the chosen one.

    `choosing` are the conversations that choose the weights; empty if the judging ones do, and then only what is lost
    decides. None if the strength cannot be changed (all weights, DoRA, experts) or too few general questions are left.
    """
    questions = _questions(run, tokenizer)
    if len(questions) < LEAST_QUESTIONS or not _is_adjustable(model):
        return None
    base, before = _scores(model, 0.0, questions), _loss(model, 0.0, choosing)
    tried = [_try(model, strength, choosing, questions, base) for strength in STRENGTHS]
    chosen = pick_strength(tried, before)
    expected = next(one for one in tried if one.strength == chosen)
    _scale_weights(model, chosen)
    if abs(mean_loss(_scores(model, 1.0, questions)) - expected.general_loss) > TOLERANCE:
        # Scaled weights do not do what a scaled product did, so the adapter stays as it was trained.
        _scale_weights(model, 1 / chosen)
        return None
    choice = StrengthChoice(chosen=chosen, questions=len(questions), tried=tried)
    run.keep_strength(choice)
    return choice


def pick_strength(tried: Sequence[TriedStrength], base_loss: float | None) -> float:
    """Return the best strength at which nothing known is lost; if something is lost at each, the one that loses least.

    With conversations that choose (`base_loss` is the base's on them), the best is where their loss is lowest;
    otherwise, it is the largest one up to 1. A strength that keeps less than half of the gain is never chosen, nor one
    of less than 90 % if it loses something all the same.
    """
    gains = {one.strength: _gain(one, base_loss) for one in tried}
    most = max(gains.values())
    if most <= 0:
        return 1.0
    careful = [one for one in tried if one.lost == 0 and gains[one.strength] >= LEAST_GAIN * most]
    if careful:
        return max(careful, key=lambda one: gains[one.strength]).strength
    close = [one for one in tried if gains[one.strength] >= USUAL_GAIN * most]
    return min(close, key=lambda one: (one.lost, -gains[one.strength])).strength


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


@torch.no_grad()
def _scale_weights(model: Any, strength: float) -> None:
    """Multiply the adapter's second matrices, so that everything that loads the adapter has this strength."""
    for layer in lora_layers(model):
        for factors in (layer.lora_B, layer.lora_embedding_B):
            if ADAPTER_NAME in factors:
                factor = factors[ADAPTER_NAME]
                getattr(factor, "weight", factor).mul_(strength)
