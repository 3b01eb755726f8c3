"""Pairs of answers that a run keeps: what there is to vote on, and to show in its report. Imports no torch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sft_app.evaluation.word_diff import change_between
from sft_app.runs.folder import Run
from sft_app.runs.records import Record, Snapshot
from sft_app.runs.scorecard import ChangedRow, Scorecard
from sft_app.runtime.files import append_jsonl, read_records

SHOWN = 6


class AnswerPair(Record):
    """A line of `answer_pairs.jsonl`: a prompt with both answers; `reference` is empty where none was given."""

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
            append_jsonl(run.pairs_file, pair.model_dump())


def known_pairs(run: Run) -> set[str]:
    """The ids of the pairs that it has."""
    return {pair.id for pair in kept_pairs(run)}


def kept_pairs(run: Run) -> list[AnswerPair]:
    """In the order in which they were made."""
    return read_records(run.pairs_file, AnswerPair)


def join_as_prompt(messages: Sequence[Mapping[str, Any]]) -> str:
    """What was asked, in one text: the question alone, or all turns with who spoke."""
    spoken = [message for message in messages if message["role"] != "system"]
    if len(spoken) == 1:
        return str(spoken[0]["content"])
    return "\n\n".join(f"{message['role']}: {message['content']}" for message in spoken)


def collect_pairs(run: Run) -> list[AnswerPair]:
    """Every pair of answers that the run's folder has, those first whose words changed most.

    They are what was kept while comparing, what the scorecard tells of its most changed rows, and the prompts that were
    watched during training.
    """
    found = [*kept_pairs(run), *_scored_pairs(run.scorecard()), *watched_pairs(run)]
    unique = {pair.id: pair for pair in reversed(found)}  # of two that are the same the first one stays
    return sorted(reversed(unique.values()), key=lambda pair: -change_between(pair.base, pair.tuned))


def choose_pairs(pairs: Sequence[AnswerPair], chosen: Sequence[str] | None) -> list[AnswerPair]:
    """Of what `collect_pairs` gives those with these ids; by default the first ones."""
    return list(pairs[:SHOWN]) if chosen is None else [pair for pair in pairs if pair.id in chosen]


def watched_pairs(run: Run) -> list[AnswerPair]:
    """What was answered before training and by the weights that were kept."""
    answers = {snapshot.step: _whole_answers(snapshot) for snapshot in run.snapshots()}
    kept = run.status().kept_step
    last = kept if kept in answers else max(answers, default=0)
    if last == 0 or 0 not in answers:
        return []
    return [
        AnswerPair(prompt=prompt, base=answers[0][prompt], tuned=text)
        for prompt, text in answers[last].items()
        if prompt in answers[0]
    ]


def _whole_answers(snapshot: Snapshot) -> dict[str, str]:
    """By prompt, without those that broke off."""
    return {one.prompt: one.answer for one in snapshot.answers if not one.broken}


def _scored_pairs(card: Scorecard | None) -> list[AnswerPair]:
    changed = [*card.most_changed.improved, *card.most_changed.damaged] if card else []
    return [pair for row in changed if (pair := _pair_of_row(row))]


def _pair_of_row(row: ChangedRow) -> AnswerPair | None:
    """None where a side has no complete answer."""
    if len(row.answers) != 2 or row.answers[0] is None or row.answers[1] is None:
        return None
    *asked, given = row.messages
    prompt = join_as_prompt([message.as_record() for message in asked])
    return AnswerPair(prompt=prompt, base=row.answers[0], tuned=row.answers[1], reference=given.content)
