"""Measure what was compared, from the models themselves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from sft_app.inference.generation import Answer
from sft_app.inference.sides import Side

MEASURED_POSITIONS = 256
# In units of the logits' precision. Kernels round each logit, and each layer's values, up or down.
ROUNDING_STEPS = 4


@dataclass(frozen=True)
class SideFacts:
    """Describes how a side differs from the base.

    `modules` is how many modules the adapter changes, `update_norm` the Frobenius norm of what it adds to the weights
    at its current strength; None if that is not a plain sum (DoRA, a full model).
    """

    name: str
    label: str
    is_base: bool
    is_full_model: bool
    modules: int = 0
    update_norm: float | None = None

    def has_effect(self) -> bool:
        """Return whether the side is anything but the base model."""
        return self.is_full_model or self.modules > 0


@dataclass(frozen=True)
class Divergence:
    """Measures how far the right side's next-token probabilities are from the left's.

    Measured at the last `positions` tokens of the prompt. `kl` is the mean Kullback-Leibler divergence of right from
    left, in nats; `changed` is the share of positions with a different most likely token.
    """

    positions: int
    kl: float
    changed: float


@dataclass(frozen=True)
class Agreement:
    """Measures how often a side's row of the batch picks the token the side picks alone, over its answer's `positions`.

    Rounding depends on the number of rows, so it can tip a token. `first_difference` is the 1-based position of the
    first such token, `chances` the probabilities the side alone gives to its own token and to the batch's.
    `is_near_tie` says whether rounding explains the difference. All three are None if every token agrees.
    """

    positions: int
    same: int
    first_difference: int | None = None
    chances: tuple[float, float] | None = None
    is_near_tie: bool | None = None


@dataclass(frozen=True)
class Evidence:
    """Collects what is known about a comparison before the answers and, once both are complete, after them.

    `note` mentions anything unusual about the machine. `divergence` needs the same prompt on both sides. `agreement`
    covers each side that was a row of one batch and has an answer. `identical` is None until both answers are complete.
    `reasons` explain why the answers are the same, or which one broke off; if `is_broken`, `identical` is meaningless.
    """

    left: SideFacts
    right: SideFacts
    how: str
    prompt_tokens: tuple[int, int]
    strength: float = 1.0
    note: str = ""
    identical: bool | None = None
    divergence: Divergence | None = None
    reasons: tuple[str, ...] = ()
    agreement: tuple[Agreement | None, Agreement | None] = (None, None)
    is_broken: bool = False

    def as_record(self) -> dict[str, Any]:
        """Return the evidence as a dict, with facts about the right side (usually the run) at the top level."""
        right = {"run": self.right.name, "adapter_active": self.right.has_effect(), "modules": self.right.modules}
        return {**right, **asdict(self)}


def describe_side(side: Side, modules: int, update_norm: float | None) -> SideFacts:
    """Build the facts about a side."""
    return SideFacts(side.name, side.label, side.folder is None, side.is_full_model(), modules, update_norm)


def evidence_parts(evidence: Evidence) -> list[str]:
    """Describe what was compared and how, as short phrases to display."""
    parts = [evidence.how, evidence.note] if evidence.note else [evidence.how]
    for side in (evidence.left, evidence.right):
        if side.is_full_model:
            parts.append(f"{side.label}: all weights")
        elif not side.is_base:
            norm = f", norm {side.update_norm:.3g}" if _is_number(side.update_norm) else ""
            active = f"adapter active in {side.modules} modules{norm}"
            parts.append(f"{side.label}: {active if side.modules else 'the adapter changes nothing'}")
    tokens = sorted(set(evidence.prompt_tokens))
    parts.append(f"{' and '.join(map(str, tokens))} prompt tokens")
    if evidence.strength != 1:
        parts.append(f"strength {evidence.strength:g}")
    if evidence.divergence is not None:
        parts.append(
            f"mean KL divergence {evidence.divergence.kl:.3f}, a different most likely token at "
            f"{evidence.divergence.changed:.0%} of the prompt positions"
        )
    parts += _agreement_parts(evidence)
    if evidence.identical is not None and not evidence.is_broken:
        parts.append("the two answers are the same" if evidence.identical else "the two answers differ")
    return parts


def _agreement_parts(evidence: Evidence) -> list[str]:
    known = [found for found in evidence.agreement if found is not None]
    if known and all(found.same == found.positions for found in known):
        return ["each side picks the same tokens on its own"]
    return [
        f"{side.label} picks the same token on its own at {found.same} of {found.positions} positions"
        + _first_difference_note(found)
        for side, found in zip((evidence.left, evidence.right), evidence.agreement, strict=True)
        if found is not None
    ]


def _first_difference_note(agreement: Agreement) -> str:
    if agreement.first_difference is None or agreement.chances is None:
        return ""
    own, pairs = agreement.chances
    kind = "a near-tie" if agreement.is_near_tie else "more than rounding explains"
    return f" (first difference at token {agreement.first_difference}, {kind}: {own:.1%} vs. {pairs:.1%})"


def measure_agreement(logits: torch.Tensor, scores: torch.Tensor, picked: Sequence[int]) -> Agreement:
    """Compare the tokens a side picks alone with those its row of the batch picked.

    `logits` and `scores`, both `(positions, vocabulary)`, are those of the side alone; it picks the largest score.
    """
    chosen = torch.tensor(picked, device=scores.device)
    best = scores.argmax(dim=-1)
    others = (best != chosen).nonzero()[:, 0].tolist()
    if not others:
        return Agreement(len(picked), len(picked))
    at = others[0]
    pair = torch.stack([best[at], chosen[at]])
    own, pairs = scores[at].float()[pair].tolist()
    rounding = torch.finfo(logits.dtype).eps * float(logits[at].float()[pair].abs().max())
    chances = torch.softmax(logits[at].float(), dim=-1)[pair].tolist()
    is_near_tie = own - pairs <= ROUNDING_STEPS * rounding
    return Agreement(len(picked), len(picked) - len(others), at + 1, (chances[0], chances[1]), is_near_tie)


def _is_number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def explain_broken(evidence: Evidence, left: Answer, right: Answer) -> tuple[str, ...]:
    """Return a sentence for each side whose answer ended because its logits were not finite."""
    sides = ((evidence.left, left), (evidence.right, right))
    return tuple(
        f"{side.label} stopped after {answer.tokens} tokens because it produced NaN or infinite values. "
        "Lower its strength, or train again with a lower learning rate."
        for side, answer in sides
        if answer.broken
    )


def measure_divergence(left: torch.Tensor, right: torch.Tensor) -> Divergence | None:
    """Measure the divergence of logits at the same positions, `(positions, vocabulary)` each; None if not finite.

    Source: Kullback & Leibler 1951.
    """
    one, other = (torch.log_softmax(logits.float(), dim=-1) for logits in (left, right))
    kl = (one.exp() * (one - other)).sum(dim=-1).clamp(min=0).mean()
    changed = (one.argmax(dim=-1) != other.argmax(dim=-1)).float().mean()
    return Divergence(len(left), float(kl), float(changed)) if torch.isfinite(kl) else None


def explain_identical(evidence: Evidence) -> tuple[str, ...]:
    """Return the likely reasons for two identical answers, the most certain first."""
    left, right = evidence.left, evidence.right
    if left.name == right.name:
        return ("Both sides are the same.",)
    if evidence.strength == 0:
        return ("At strength 0 every adapter is the base model.",)
    idle = [side.label for side in (left, right) if not side.is_base and not side.has_effect()]
    if idle:
        return tuple(
            f"The adapter of {label} changes nothing: it was saved before it learned anything." for label in idle
        )
    if evidence.divergence is not None and evidence.divergence.changed == 0:
        return (
            "Training shifted the probabilities, but for this prompt never far enough to make another word the most "
            "likely. A higher temperature shows more; so does training with more steps or a higher learning rate.",
        )
    return ("Training makes no difference for this prompt. Try one closer to your examples.",)
