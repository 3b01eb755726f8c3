"""Write votes as files, each with the two answers it is about."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from sft_app.evaluation.answer_pairs import AnswerPair
from sft_app.evaluation.tables import csv_text, jsonl_text
from sft_app.evaluation.votes import Vote

COLUMNS = ("voter", "pair", "prompt", "base", "tuned", "base_was", "choice")


def votes_table(votes: Iterable[Vote], pairs: Iterable[AnswerPair]) -> list[dict[str, Any]]:
    """Return each vote with its two answers, with the columns `COLUMNS`."""
    known = {pair.id: pair for pair in pairs}
    answers = {id: {"base": pair.base, "tuned": pair.tuned} for id, pair in known.items()}
    return [
        {name: {**answers.get(vote.pair, {}), **vote.as_record()}.get(name, "") for name in COLUMNS} for vote in votes
    ]


def votes_csv(votes: Iterable[Vote], pairs: Iterable[AnswerPair]) -> str:
    return csv_text(COLUMNS, votes_table(votes, pairs))


def votes_jsonl(votes: Iterable[Vote], pairs: Iterable[AnswerPair]) -> str:
    return jsonl_text(votes_table(votes, pairs))


def write_votes(votes: list[Vote], pairs: Sequence[AnswerPair]) -> list[str]:
    """Write all votes as CSV and as JSONL, and return the paths."""
    folder = Path(tempfile.mkdtemp(prefix="votes-"))
    files = [folder / "votes.csv", folder / "votes.jsonl"]
    for file, write in zip(files, (votes_csv, votes_jsonl), strict=True):
        file.write_text(write(votes, pairs), encoding="utf-8", newline="")
    return [str(file) for file in files]
