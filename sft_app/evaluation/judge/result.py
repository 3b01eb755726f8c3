"""Say which side a judge prefers, and whether it agrees with people's votes often enough to count."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sft_app.data.checkup.finding import count_of
from sft_app.evaluation.answer_pairs import read_pairs
from sft_app.evaluation.judge.client import Judge
from sft_app.evaluation.judge.judgements import JudgeId, Judgement, judge_id, read_judgements
from sft_app.evaluation.statistics.anytime import ENOUGH, confidence_sequence, e_value, percent
from sft_app.evaluation.votes import SIDES, counted_votes, differing_pairs, first_choices
from sft_app.runs.folder import Run

OUTCOME_LABELS = ("Pairs judged", "Fine-tuned better", "Base better", "Tie", "Depends on the order", "No verdict")
NAMES = {"base": "base model’s", "tuned": "fine-tuned model’s"}


@dataclass(frozen=True)
class Share:
    """A share of two outcomes, with the interval that holds at any time (`evaluation/statistics/anytime`).

    `enough` is the e-value that decides, higher if several judges were tried.
    """

    hits: int
    misses: int
    enough: float = ENOUGH

    @property
    def total(self) -> int:
        return self.hits + self.misses

    @property
    def interval(self) -> tuple[float, float]:
        return confidence_sequence(self.hits, self.misses, self.enough)

    @property
    def is_above_half(self) -> bool:
        return self.hits > self.misses and e_value(self.hits, self.misses) >= self.enough

    @property
    def is_below_half(self) -> bool:
        return Share(self.misses, self.hits, self.enough).is_above_half

    def hits_to_decide(self) -> int:
        """Return how many further hits without a miss lift the whole interval above one half."""
        further = 0
        while not Share(self.hits + further, self.misses, self.enough).is_above_half:
            further += 1
        return further

    def __str__(self) -> str:
        low, high = self.interval
        return f"{percent(self.hits / self.total)} (95% interval {percent(low)} to {percent(high)})"


@dataclass(frozen=True)
class JudgeResult:
    """What a judge found in the pairs of a run, and its agreement with the votes that count.

    `wins` are pairs in which it prefers the fine-tuned answer in both orders, against those in which it prefers the
    base's. `agreement` is about the pairs of these on which people prefer a side, too; `constant` is how many of those
    a judge gets right that always chooses the side that people prefer more often. `judges` gave a verdict on this run.
    """

    judge: JudgeId
    pairs: int
    wins: Share
    ties: int
    by_order: int
    no_verdict: int
    agreement: Share
    constant: int
    judges: int

    @property
    def judged(self) -> int:
        return self.wins.total + self.ties + self.by_order + self.no_verdict

    @property
    def has_no_verdict(self) -> bool:
        """Return whether the judge gave no verdict on any pair."""
        return self.no_verdict == self.judged

    @property
    def counts(self) -> bool:
        """Return whether the judge's verdict counts: the whole interval of its agreement is above one half."""
        return self.agreement.is_above_half

    def outcomes(self) -> tuple[int, ...]:
        """Return the counts that `OUTCOME_LABELS` name."""
        return self.judged, self.wins.hits, self.wins.misses, self.ties, self.by_order, self.no_verdict

    def facts(self) -> dict[str, Any]:
        """Return plain values for JSON; an interval without an outcome is null."""
        address, model, checklist = self.judge
        return {
            "model": model,
            "address": address,
            "checklist": checklist,
            "pairs": self.pairs,
            "judged": self.judged,
            "ties": self.ties,
            "depends_on_order": self.by_order,
            "no_verdict": self.no_verdict,
            "fine_tuned_wins": _share_facts(self.wins),
            "agreement": _share_facts(self.agreement),
            "agreement_of_a_constant_choice": self.constant,
            "judges_tried": self.judges,
            "counts": self.counts,
            "sentences": judge_sentences(self),
        }


def judge_results(run: Run) -> list[JudgeResult]:
    """Return the result of every judge that was asked about this run's present pairs, the last one asked last."""
    pairs, choices = differing_pairs(read_pairs(run)), first_choices(counted_votes(run))
    known = {
        judge: {id: one for id, one in found.items() if id in pairs} for judge, found in read_judgements(run).items()
    }
    asked = {judge: found for judge, found in known.items() if found}
    judges = sum(any(one.outcome != "none" for one in found.values()) for found in asked.values())
    return [_result(judge, found, len(pairs), choices, max(judges, 1)) for judge, found in asked.items()]


def judge_result(run: Run, judge: Judge, checklist: Sequence[str]) -> JudgeResult | None:
    """Return the result of this judge; None if it has judged none of the run's present pairs."""
    asked = judge_id(judge, checklist)
    return next((found for found in judge_results(run) if found.judge == asked), None)


def _result(
    judge: JudgeId, judged: Mapping[str, Judgement], pairs: int, choices: Mapping[str, str], judges: int
) -> JudgeResult:
    enough = ENOUGH * judges
    outcomes = Counter(one.outcome for one in judged.values())
    both = [
        (one.outcome, choices[id]) for id, one in judged.items() if one.outcome in SIDES and choices.get(id) in SIDES
    ]
    agreed = sum(ours == theirs for ours, theirs in both)
    return JudgeResult(
        judge=judge,
        pairs=pairs,
        wins=Share(outcomes["tuned"], outcomes["base"], enough),
        ties=outcomes["tie"],
        by_order=outcomes["order"],
        no_verdict=outcomes["none"],
        agreement=Share(agreed, len(both) - agreed, enough),
        constant=max(Counter(theirs for _, theirs in both).values(), default=0),
        judges=judges,
    )


def judge_sentences(found: JudgeResult) -> list[str]:
    """Say what the judge chose, how far its choices can be used, and what to do next."""
    return [_choices(found), *_left_out(found), _agreement(found), _verdict(found)]


def _choices(found: JudgeResult) -> str:
    asked = f"{found.judge[1]} compared {found.judged:,} of {count_of(found.pairs, 'pair')}, each in both orders."
    if found.has_no_verdict:
        return f"{asked} It gave no verdict on any of them."
    if not found.wins.total:
        return f"{asked} It preferred neither side in any of them."
    decided = f"{found.wins.hits:,} of the {found.wins.total:,} that it decided"
    return f"{asked} The fine-tuned answer won {decided}: {found.wins}."


def _left_out(found: JudgeResult) -> list[str]:
    order = f"In {found.by_order:,} ({found.by_order / found.judged:.0%}), the choice depended on the order"
    parts = [f"{order}, which counts as a tie."] if found.by_order else []
    parts += [f"It called {count_of(found.ties, 'pair')} a tie."] if found.ties else []
    if found.no_verdict and not found.has_no_verdict:
        none = f"It gave no verdict on {count_of(found.no_verdict, 'pair')}"
        parts.append(f"{none}; if that is too many, choose another model.")
    return [" ".join(parts)] if parts else []


def _agreement(found: JudgeResult) -> str:
    agreement = found.agreement
    if not agreement.total:
        return "There is no pair that both the judge and people have decided."
    sentence = f"It agreed with people on {agreement.hits:,} of {count_of(agreement.total, 'pair')}: {agreement}."
    if found.counts and found.constant >= agreement.hits:
        same = f"Always choosing the same side would agree on {found.constant:,}"
        sentence += f" {same}, so this says little about its choice in a single pair."
    if found.judges > 1:
        sentence += f" {found.judges} judges were tried on this run, so the intervals are wider."
    return sentence


def _verdict(found: JudgeResult) -> str:
    if not found.counts:
        return f"The judge's choices are shown, but do not count yet: {_what_is_missing(found)}"
    if found.wins.is_above_half or found.wins.is_below_half:
        winner = NAMES["tuned" if found.wins.is_above_half else "base"]
        return f"Its verdict counts: it prefers the {winner} answers."
    return "Its verdict counts, but it may be chance: the interval includes 50%. More pairs would help."


def _what_is_missing(found: JudgeResult) -> str:
    agreement = found.agreement
    if agreement.is_below_half:
        return "it contradicts people more often than chance does. Choose another model or checklist."
    undecided = found.ties + found.by_order + (found.no_verdict if found.has_no_verdict else 0)
    needed = agreement.hits_to_decide()
    has_too_few = needed > found.pairs - undecided - agreement.total
    if has_too_few and 2 * undecided > found.judged:
        return "it decides too few pairs. Choose another model or checklist."
    first = (
        "answer more prompts with both sides in “Many prompts” and ask the judge about them. Then "
        if has_too_few
        else ""
    )
    return (
        f"{first}vote on at least {count_of(needed, 'more pair')} in the blind test, so that its agreement with people "
        "can be told from chance. If you have finished, let someone else vote on pairs that no one has decided."
    )


def _share_facts(share: Share) -> dict[str, Any]:
    low, high = share.interval if share.total else (None, None)
    rate = share.hits / share.total if share.total else None
    return {**asdict(share), "total": share.total, "rate": rate, "low": low, "high": high}
