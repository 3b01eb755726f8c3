"""Which shortcuts a step takes: all that are possible, or as many as give what the plain way gives."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

Rows = Literal["end to end", "padded", "one by one"]

SHORTCUTS = {
    "separates": "separate attention per conversation",
    "uses_kernel": "the variable-length kernel",
    "shares_beginnings": "shared beginnings",
    "fuses": "fused functions",
    "splits_head": "the custom loss head",
}
LOGITS_AT_ONCE = 2**25
"""The loss head's: 128 MiB in float32, enough rows for the matrix product to be fast, and no more than that."""
WORTH_SHARING = 8
"""Tokens of a common beginning from which computing it once for all conversations pays."""


@dataclass(frozen=True)
class Way:
    """How conversations are laid out, and the shortcuts taken with those that lie end to end."""

    rows: Rows = "end to end"
    separates: bool = False
    uses_kernel: bool = False
    shares_beginnings: bool = False
    fuses: bool = False
    splits_head: bool = False

    def extended(self, shortcut: str, possible: Way) -> Way | None:
        """With one shortcut more, where it is `possible` and not taken yet."""
        needs_more = shortcut in ("uses_kernel", "shares_beginnings") and not self.separates
        if needs_more or not getattr(possible, shortcut) or getattr(self, shortcut):
            return None
        extra: dict[str, Any] = {shortcut: True}
        return replace(self, **extra)

    def lacks(self, possible: Way) -> list[str]:
        """The shortcuts of `possible` that this way does not take, in words."""
        return [SHORTCUTS[name] for name in SHORTCUTS if getattr(possible, name) and not getattr(self, name)]


PLAIN = Way("one by one")
PADDED = Way("padded")


def describe(way: Way, possible: Way, was_compared: bool) -> str:
    """A sentence for the person about a run that takes a plainer way than it could; empty when it does not."""
    if way == possible:
        return ""
    if not was_compared:
        return "Conversations are padded in this run: no other layout could be checked with this model."
    if way.rows == "padded":
        return (
            "Conversations are padded in this run, which takes longer: with packing, this model would "
            "learn something else."
        )
    if way.rows == "one by one":
        return (
            "Conversations are processed one by one in this run, which takes longer: with packing or padding, "
            "this model would learn something else."
        )
    return (
        f"This run trains without {' and '.join(way.lacks(possible))}, which takes longer: with them, "
        "this model would learn something else."
    )
