"""Ask a judge about the pairs of a run, each in both orders, and keep its verdicts. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from sft_app.evaluation.answer_pairs import AnswerPair, read_pairs
from sft_app.evaluation.judge.client import Judge
from sft_app.evaluation.judge.questions import Reply, checklist_hash, question, read_reply
from sft_app.evaluation.votes import differing_pairs, read_votes
from sft_app.runs.folder import Run
from sft_app.runs.records import Record, UtcTime, utc_now
from sft_app.runtime.files import append_jsonl, read_records

Outcome = Literal["base", "tuned", "tie", "order", "none"]
JudgeId = tuple[str, str, str]
"""The address, the model and the hash of the checklist: another of one of them is another judge."""
_BASE_FIRST: dict[Reply, Outcome] = {"A": "base", "B": "tuned", "tie": "tie", "none": "none"}
_TUNED_FIRST: dict[Reply, Outcome] = {"A": "tuned", "B": "base", "tie": "tie", "none": "none"}


class Judgement(Record):
    """A line of `judgements.jsonl`: what a judge replied about a pair in both orders, named by the answer that was A.

    The last line of a judge on a pair counts.
    """

    pair: str
    base_first: Reply
    tuned_first: Reply
    address: str
    model: str
    checklist: str
    judged_utc: UtcTime = None

    @property
    def judge(self) -> JudgeId:
        return self.address, self.model, self.checklist

    @property
    def outcome(self) -> Outcome:
        """Return the side that both replies prefer; `order` if they differ, `none` if one is no verdict."""
        found = _BASE_FIRST[self.base_first], _TUNED_FIRST[self.tuned_first]
        if "none" in found:
            return "none"
        return found[0] if found[0] == found[1] else "order"


def judge_id(judge: Judge, checklist: Sequence[str]) -> JudgeId:
    return judge.address, judge.model, checklist_hash(checklist)


def read_judgements(run: Run) -> dict[JudgeId, dict[str, Judgement]]:
    """Read the judgements of each judge by the pair's id. The judge that was asked last comes last."""
    found: dict[JudgeId, dict[str, Judgement]] = {}
    for one in read_records(run.judgements_file, Judgement):
        judged = found.pop(one.judge, {})
        found[one.judge] = {**judged, one.pair: one}
    return found


def missing_pairs(run: Run, judge: Judge, checklist: Sequence[str], limit: int | None = None) -> list[AnswerPair]:
    """Return the pairs of two different answers on which this judge has given no verdict yet, at most `limit`.

    Pairs that people have voted on come first, since they show whether judge and people agree. The others are in the
    order of their ids, which is random, so that the first ones are a fair sample.
    """
    known = read_judgements(run).get(judge_id(judge, checklist), {})
    done = {id for id, one in known.items() if one.outcome != "none"}
    voted = {vote.pair for vote in read_votes(run)}
    pairs = {id: pair for id, pair in differing_pairs(read_pairs(run)).items() if id not in done}
    return [pairs[id] for id in sorted(pairs, key=lambda id: (id not in voted, id))][:limit]


def judge_pairs(run: Run, pairs: Iterable[AnswerPair], judge: Judge, checklist: Sequence[str]) -> Iterator[Judgement]:
    """Ask the judge about each pair in both orders, and add its judgement to the run at once.

    Raises: JudgeError if the judge does not reply; the earlier judgements are kept.
    """
    address, model, points = judge_id(judge, checklist)
    for pair in pairs:
        base_first, tuned_first = (
            read_reply(judge.ask(question(pair, base_is_first, checklist))) for base_is_first in (True, False)
        )
        judgement = Judgement(
            pair=pair.id,
            base_first=base_first,
            tuned_first=tuned_first,
            address=address,
            model=model,
            checklist=points,
            judged_utc=utc_now(),
        )
        append_jsonl(run.judgements_file, judgement.as_record())
        yield judgement
