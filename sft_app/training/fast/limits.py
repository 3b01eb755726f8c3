"""Bounds of the fast paths, which the preflight counts with too. Imports no torch."""

from __future__ import annotations

LOGITS_AT_ONCE = 2**25
"""The loss head's: 128 MiB in float32, enough rows for the matrix product to be fast, and no more than that."""
WORTH_SHARING = 8
"""Tokens of a common beginning from which computing it once for all conversations pays."""
