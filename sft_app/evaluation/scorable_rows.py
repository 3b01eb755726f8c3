"""Read conversations that can be scored: those with a trained token that the model's chat template takes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sft_app.data.conversation import Conversation, make_conversation
from sft_app.data.tokens import RenderedConversation, render_conversation
from sft_app.errors import DataError
from sft_app.runtime.files import iterate_jsonl


@dataclass(frozen=True)
class ScorableRow:
    """A conversation with at least one trained token, its row number in the data file, and its tokens.

    Rows with the same `group` are related, and count as one.
    """

    number: int
    conversation: Conversation
    rendered: RenderedConversation
    group: int


def read_scorable_rows(file: Path, tokenizer: Any, max_length: int | None) -> list[ScorableRow]:
    """Read the conversations with an answer to score. Raises: DataError if there is none."""
    rows = []
    for number, row in enumerate(iterate_jsonl(file), start=1):
        conversation = make_conversation(row["messages"])
        try:
            rendered = render_conversation(tokenizer, conversation, max_length or tokenizer.model_max_length)
        except DataError:  # training skipped it too and reported it
            continue
        if rendered.trained:
            place = row.get("row", number)
            rows.append(ScorableRow(place, conversation, rendered, row.get("group", place)))
    if not rows:
        raise DataError(f"{file.name} contains no conversation this model can be measured on.")
    return rows


def number_equal(prompts: Iterable[Sequence[int]]) -> list[int]:
    """Number rendered prompts, equal ones alike: each gets the place of its first copy.

    Copies give a model nothing new to answer, so they are one observation, however often they are asked.
    """
    first: dict[tuple[int, ...], int] = {}
    return [first.setdefault(tuple(prompt), place) for place, prompt in enumerate(prompts)]
