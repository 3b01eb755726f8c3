"""Keep pairs of answers with a run, to vote on and to show in its report. Imports no torch."""

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
    """A line of `answer_pairs.jsonl`: a prompt with both answers; `reference` is "" if there is none."""

    prompt: str
    base: str
    tuned: str
    reference: str = ""

    @property
    def id(self) -> str:
        """Return an id that depends only on the prompt and the answers."""
        text = "\0".join((self.prompt, self.base, self.tuned))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def add_pairs(run: Run, pairs: Iterable[AnswerPair], known: set[str] | None = None) -> None:
    """Add the pairs that the run does not have yet.

    `known` are the ids of the run's pairs, for callers that add repeatedly; by default they are read from the run.
    """
    known = read_pair_ids(run) if known is None else known
    for pair in pairs:
        if pair.id not in known:
            known.add(pair.id)
            append_jsonl(run.pairs_file, pair.model_dump())


def read_pair_ids(run: Run) -> set[str]:
    """Read the ids of the run's pairs."""
    return {pair.id for pair in read_pairs(run)}


def read_pairs(run: Run) -> list[AnswerPair]:
    """Read the run's pairs, in the order in which they were added."""
    return read_records(run.pairs_file, AnswerPair)


def join_as_prompt(messages: Sequence[Mapping[str, Any]]) -> str:
    """Return a conversation's prompt as one text: the only question, or all turns with their roles."""
    turns = [message for message in messages if message["role"] != "system"]
    if len(turns) == 1:
        return str(turns[0]["content"])
    return "\n\n".join(f"{message['role']}: {message['content']}" for message in turns)


def collect_pairs(run: Run) -> list[AnswerPair]:
    """Collect every pair of answers in the run's folder, the most changed first.

    They come from comparisons, from the most changed rows of the scorecard, and from the watch prompts.
    """
    pairs = [*read_pairs(run), *_scored_pairs(run.scorecard()), *watched_pairs(run)]
    unique = {pair.id: pair for pair in reversed(pairs)}  # of equal pairs, the first one stays
    return sorted(reversed(unique.values()), key=lambda pair: -change_between(pair.base, pair.tuned))


def choose_pairs(pairs: Sequence[AnswerPair], chosen: Sequence[str] | None) -> list[AnswerPair]:
    """Choose the pairs with these ids; by default, the first ones."""
    return list(pairs[:SHOWN]) if chosen is None else [pair for pair in pairs if pair.id in chosen]


def watched_pairs(run: Run) -> list[AnswerPair]:
    """Return the watch prompts, answered before training and by the kept weights; none if these were scaled since."""
    strength = run.strength()
    if strength is not None and strength.chosen != 1.0:
        return []
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
    """Return a snapshot's answers by prompt, without broken ones."""
    return {one.prompt: one.answer for one in snapshot.answers if not one.broken}


def _scored_pairs(card: Scorecard | None) -> list[AnswerPair]:
    changed = [*card.most_changed.improved, *card.most_changed.damaged] if card else []
    return [pair for row in changed if (pair := _pair_of_row(row))]


def _pair_of_row(row: ChangedRow) -> AnswerPair | None:
    """Return the pair of a changed row; None unless both sides have a complete answer."""
    if len(row.answers) != 2 or row.answers[0] is None or row.answers[1] is None:
        return None
    *turns, reference = row.messages
    prompt = join_as_prompt([message.as_record() for message in turns])
    return AnswerPair(prompt=prompt, base=row.answers[0], tuned=row.answers[1], reference=reference.content)
