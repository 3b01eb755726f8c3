"""Pairs of answers that a run keeps: what there is to vote on, and to show in its report. Imports no torch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sft_app.runs.folder import Run
from sft_app.runtime.files import append_jsonl, read_jsonl


@dataclass(frozen=True)
class AnswerPair:
    """A prompt with both answers; `reference` is empty where none was given."""

    prompt: str
    base: str
    tuned: str
    reference: str = ""

    @property
    def id(self) -> str:
        """The same for the same prompt and answers, whoever made them and when."""
        text = "\0".join((self.prompt, self.base, self.tuned))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def keep_pairs(run: Run, pairs: Iterable[AnswerPair], known: set[str] | None = None) -> None:
    """Adds those that the run does not have yet.

    `known` are the ids of those it has, for who adds again and again; they are read from the run otherwise.
    """
    known = known_pairs(run) if known is None else known
    for pair in pairs:
        if pair.id not in known:
            known.add(pair.id)
            append_jsonl(run.pairs_file, asdict(pair))


def known_pairs(run: Run) -> set[str]:
    """The ids of the pairs that it has."""
    return {pair.id for pair in kept_pairs(run)}


def kept_pairs(run: Run) -> list[AnswerPair]:
    """In the order in which they were made."""
    return [AnswerPair(**row) for row in read_jsonl(run.pairs_file)]


def told_as_prompt(messages: Sequence[dict[str, Any]]) -> str:
    """What was asked, in one text: the question alone, or all turns with who spoke."""
    spoken = [message for message in messages if message["role"] != "system"]
    if len(spoken) == 1:
        return str(spoken[0]["content"])
    return "\n\n".join(f"{message['role']}: {message['content']}" for message in spoken)
