"""What is wrong with a data set, each finding with its rows. It reports; it changes nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from sft_app.data.conversation import Conversation
from sft_app.data.tokens import RenderedConversation


@dataclass(frozen=True)
class Finding:
    """`rows` count from 1 as in the file."""

    kind: str
    rows: list[int]
    message: str


def examine(
    conversations: Sequence[Conversation],
    rendered: Sequence[RenderedConversation],
    row_numbers: Sequence[int],
    max_length: int,
) -> list[Finding]:
    """All findings; the three sequences go together."""
    found = [_find_duplicates(conversations, row_numbers), _find_cut(rendered, row_numbers, max_length)]
    return [finding for finding in found if finding is not None]


def _find_duplicates(conversations: Sequence[Conversation], row_numbers: Sequence[int]) -> Finding | None:
    rows_of: dict[Conversation, list[int]] = defaultdict(list)
    for conversation, row in zip(conversations, row_numbers, strict=True):
        rows_of[conversation].append(row)
    repeats = sorted(row for rows in rows_of.values() for row in rows[1:])
    if not repeats:
        return None
    return Finding("duplicate", repeats, f"{_count(repeats, 'row')} the same as an earlier one.")


def _find_cut(rendered: Sequence[RenderedConversation], row_numbers: Sequence[int], max_length: int) -> Finding | None:
    cut = [(row, item) for row, item in zip(row_numbers, rendered, strict=True) if item.trained_lost]
    if not cut:
        return None
    rows = [row for row, _ in cut]
    lost = sum(item.trained_lost for _, item in cut)
    share = lost / sum(item.trained + item.trained_lost for item in rendered)
    return Finding(
        "cut",
        rows,
        f"{_count(rows, 'conversation')} longer than max_length {max_length} and cut at the end; "
        f"{share:.1%} of the answer tokens are lost.",
    )


def _count(rows: list[int], noun: str) -> str:
    return f"1 {noun} is" if len(rows) == 1 else f"{len(rows)} {noun}s are"
