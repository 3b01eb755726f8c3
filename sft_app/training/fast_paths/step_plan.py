"""Plan how a step is computed: the layout of its conversations and the shortcuts it takes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

BatchLayout = Literal["packed", "padded", "one by one"]

SHORTCUTS = {
    "separates_attention": "separate attention per conversation",
    "uses_kernel": "the variable-length kernel",
    "shares_prefix": "the shared prefix",
    "fuses_modules": "fused functions",
    "uses_liger": "Liger's kernels",
    "chunks_loss": "the chunked loss",
}
MAX_LOGITS_IN_MEMORY = 2**25
"""128 MiB in float32: enough rows for a fast matrix product in the loss head, and no more."""
MIN_SHARED_TOKENS = 8
"""Shortest common prefix, in tokens, worth computing once for all conversations."""


@dataclass(frozen=True)
class StepPlan:
    """Describes the layout of conversations, and the shortcuts taken if they are packed."""

    layout: BatchLayout = "packed"
    separates_attention: bool = False
    uses_kernel: bool = False
    shares_prefix: bool = False
    fuses_modules: bool = False
    uses_liger: bool = False
    chunks_loss: bool = False

    def with_shortcut(self, shortcut: str, possible: StepPlan) -> StepPlan | None:
        """Return the plan with one more shortcut, or None if it is not in `possible` or already taken."""
        needs_more = shortcut in ("uses_kernel", "shares_prefix") and not self.separates_attention
        if needs_more or not getattr(possible, shortcut) or getattr(self, shortcut):
            return None
        changes: dict[str, Any] = {shortcut: True}
        return replace(self, **changes)

    def missing_shortcuts(self, possible: StepPlan) -> list[str]:
        """Name the shortcuts of `possible` that this plan does not take."""
        return [SHORTCUTS[name] for name in SHORTCUTS if getattr(possible, name) and not getattr(self, name)]


ONE_BY_ONE_PLAN = StepPlan("one by one")
PADDED_PLAN = StepPlan("padded")
ONE_BY_ONE = "Conversations are processed one by one in this run"


def describe_plan(plan: StepPlan, possible: StepPlan, was_compared: bool) -> str:
    """Explain in a sentence why a run is slower than it could be; empty if it is not."""
    if plan == possible:
        return ""
    if not was_compared:
        return "Conversations are padded in this run: no other layout could be checked with this model."
    if plan.layout == "padded":
        return slower_notice("Conversations are padded in this run", "packing")
    if plan.layout == "one by one":
        return slower_notice(ONE_BY_ONE, "packing or padding")
    missing = " and ".join(plan.missing_shortcuts(possible))
    return slower_notice(f"This run trains without {missing}", "using them")


def slower_notice(what: str, cause: str) -> str:
    """Say that a run takes longer because a faster way, the cause, gives other gradients for its model."""
    return f"{what}, which takes longer: {cause} would change what this model learns."
