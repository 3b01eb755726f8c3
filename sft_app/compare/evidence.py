"""What was really compared, computed from the models themselves."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch

from sft_app.compare.generate import Answer
from sft_app.compare.sides import Side

MEASURED_POSITIONS = 256


@dataclass(frozen=True)
class SideFacts:
    """`modules` is how many the adapter changes, `update_norm` the Frobenius norm of what it adds to the weights, at
    the strength it is used with; None where that is no plain sum (DoRA, a whole model)."""

    name: str
    label: str
    is_base: bool
    is_full_model: bool
    modules: int = 0
    update_norm: float | None = None

    def has_effect(self) -> bool:
        """Whether it is anything but the base model."""
        return self.is_full_model or self.modules > 0


@dataclass(frozen=True)
class Divergence:
    """How far the right side's next-token probabilities are from the left's, over the prompt's last `positions` tokens.

    `kl` is the mean Kullback-Leibler divergence of right from left, in nats; `changed` the share of positions at which
    another token is the likeliest.
    """

    positions: int
    kl: float
    changed: float


@dataclass(frozen=True)
class Evidence:
    """What is known before the answers, and with `identical`, which is None until both are complete, what after.

    `note` says what is out of the ordinary about the machine. `divergence` needs the same prompt on both sides.
    `reasons` say why the answers are the same, if they are.
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

    def as_record(self) -> dict[str, Any]:
        """As it is, and of the right side, which is mostly the run: its name and whether it is more than the base."""
        right = {"run": self.right.name, "adapter_active": self.right.has_effect(), "modules": self.right.modules}
        return {**right, **asdict(self)}


def describe_side(side: Side, modules: int, update_norm: float | None) -> SideFacts:
    return SideFacts(side.name, side.label, side.folder is None, side.is_full_model(), modules, update_norm)


def evidence_parts(evidence: Evidence) -> list[str]:
    """What was compared and how, in a few words each, for the eye."""
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
            f"mean KL divergence {evidence.divergence.kl:.3f}, another likeliest token at "
            f"{evidence.divergence.changed:.0%} of the prompt"
        )
    if evidence.identical is not None:
        parts.append("the two answers are the same" if evidence.identical else "the two answers differ")
    return parts


def _is_number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def why_broken(evidence: Evidence, left: Answer, right: Answer) -> tuple[str, ...]:
    """A sentence for each side whose answer ended because its numbers were not finite."""
    sides = ((evidence.left, left), (evidence.right, right))
    return tuple(
        f"{side.label} stopped after {answer.tokens} tokens: its numbers became infinite there. "
        "Lower its strength, or train again with a lower learning rate."
        for side, answer in sides
        if answer.broken
    )


def diverge(left: torch.Tensor, right: torch.Tensor) -> Divergence | None:
    """From logits of the same positions, `(positions, vocabulary)` each; None where they are not finite.

    Source: Kullback & Leibler 1951.
    """
    one, other = (torch.log_softmax(logits.float(), dim=-1) for logits in (left, right))
    kl = (one.exp() * (one - other)).sum(dim=-1).clamp(min=0).mean()
    changed = (one.argmax(dim=-1) != other.argmax(dim=-1)).float().mean()
    return Divergence(len(left), float(kl), float(changed)) if torch.isfinite(kl) else None


def why_the_same(evidence: Evidence) -> tuple[str, ...]:
    """The likely reasons for two equal answers, the surest first."""
    left, right = evidence.left, evidence.right
    if left.name == right.name:
        return ("Both sides are the same.",)
    if evidence.strength == 0:
        return ("At strength 0 every adapter is the base model.",)
    idle = [side.label for side in (left, right) if not side.is_base and not side.has_effect()]
    if idle:
        return tuple(f"The adapter of {label} changes nothing: it was saved before it had learnt." for label in idle)
    if evidence.divergence is not None and evidence.divergence.changed == 0:
        return (
            "The training moved the probabilities, but for this prompt nowhere so far that another word became the "
            "likeliest. A higher temperature shows more; so do more steps or a higher learning rate.",
        )
    return ("For this prompt the training makes no difference. Try one that is nearer to your examples.",)
