"""Ask a judge about the pairs of a run, each in both orders, and keep its verdicts. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from sft_app.errors import JudgeError
from sft_app.evaluation.answer_pairs import AnswerPair, read_pairs
from sft_app.evaluation.judge.client import Judge, UnansweredError
from sft_app.evaluation.judge.questions import Reply, checklist_hash, question, read_reply
from sft_app.evaluation.votes import differing_pairs, read_votes
from sft_app.runs.folder import Run
from sft_app.runs.records import Record, UtcTime, utc_now
from sft_app.runtime.files import append_jsonl, read_records

Outcome = Literal["base", "tuned", "tie", "order", "none"]
JudgeId = tuple[str, str, str]
"""The address, the model and the hash of the checklist: another of one of them is another judge."""
MOST_FAILURES = 3
_BASE_FIRST: dict[Reply, Outcome] = {"A": "base", "B": "tuned", "tie": "tie", "none": "none"}
_TUNED_FIRST: dict[Reply, Outcome] = {"A": "tuned", "B": "base", "tie": "tie", "none": "none"}


class Judgement(Record):
    """A line of `judgements.jsonl`: what a judge replied about a pair in both orders, named by the answer that was A.

    Both replies are `none` if there was none. The last line of a judge on a pair counts.
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

    Pairs that this judge was not asked about come first, so that those without a verdict do not hold up the others; of
    these, pairs that people have voted on, since they show whether judge and people agree. Otherwise, they are in the
    order of their ids, which is random, so that the first ones are a fair sample.
    """
    known = read_judgements(run).get(judge_id(judge, checklist), {})
    done = {id for id, one in known.items() if one.outcome != "none"}
    voted = {vote.pair for vote in read_votes(run)}
    pairs = {id: pair for id, pair in differing_pairs(read_pairs(run)).items() if id not in done}
    return [pairs[id] for id in sorted(pairs, key=lambda id: (id in known, id not in voted, id))][:limit]


def judge_pairs(run: Run, pairs: Iterable[AnswerPair], judge: Judge, checklist: Sequence[str]) -> Iterator[Judgement]:
    """Ask the judge about each pair in both orders, and add its judgement to the run at once.

    A pair that the judge refuses, or takes too long for, has no verdict.

    Raises: JudgeError if the judge does not reply at all, to the first pair or to `MOST_FAILURES` in a row; the earlier
    judgements are kept.
    """
    address, model, points = judge_id(judge, checklist)
    failures = 0
    for judged, pair in enumerate(pairs):
        failure: JudgeError | None = None
        replies: tuple[Reply, Reply] = "none", "none"
        try:
            replies = _ask(judge, pair, True, checklist), _ask(judge, pair, False, checklist)
        except UnansweredError as error:
            failure = error
        except JudgeError as error:
            raise _with_what_is_saved(error, judged) from error
        judgement = Judgement(
            pair=pair.id,
            base_first=replies[0],
            tuned_first=replies[1],
            address=address,
            model=model,
            checklist=points,
            judged_utc=utc_now(),
        )
        append_jsonl(run.judgements_file, judgement.as_record())
        failures = failures + 1 if failure else 0
        if failure and (not judged or failures == MOST_FAILURES):
            raise _with_what_is_saved(failure, judged) from failure
        yield judgement


def _ask(judge: Judge, pair: AnswerPair, base_is_first: bool, checklist: Sequence[str]) -> Reply:
    return read_reply(judge.ask(question(pair, base_is_first, checklist)))


def _with_what_is_saved(error: JudgeError, judged: int) -> JudgeError:
    return JudgeError(f"{error} What was judged before is saved; ask again to continue.") if judged else error
