"""Run the blind test: show two unlabelled answers, record votes, and evaluate them. Imports no torch."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from sft_app.errors import RunError
from sft_app.evaluation.answer_pairs import AnswerPair
from sft_app.evaluation.statistics.anytime import ENOUGH, confidence_sequence, e_value, percent
from sft_app.runs.folder import Run
from sft_app.runs.records import Record
from sft_app.runtime.files import append_jsonl, read_records

Choice = Literal["base", "tuned", "tie", "both bad"]
Key = Literal["1", "2", "0", "-"]
SIDES = ("base", "tuned")
WITHDRAWN: Literal["withdrawn"] = "withdrawn"
FINISHED: Literal["finished"] = "finished"
ANY_TIME = "The interval stays valid however often someone looks and whenever voting stops."


class Vote(Record):
    """A line of `votes.jsonl`: a voter's choice for a pair, and the side the base's answer was on.

    A line without a pair says that the voter has finished. `told` says whether the voter learned right after the vote
    which side it was for, as in earlier versions; such votes have nothing to hide.
    """

    pair: str
    voter: str
    choice: Choice | Literal["withdrawn", "finished"]
    base_was: str = ""
    prompt: str = ""
    told: bool = True


@dataclass(frozen=True)
class Ballot:
    """A pair as it is shown to one voter."""

    pair: AnswerPair
    base_is_left: bool

    @property
    def left(self) -> str:
        return self.pair.base if self.base_is_left else self.pair.tuned

    @property
    def right(self) -> str:
        return self.pair.tuned if self.base_is_left else self.pair.base

    def choice(self, key: Key) -> Choice:
        """Translate a voter's key: 1 is left, 2 right, 0 a tie, and - means both are bad."""
        if key == "0":
            return "tie"
        if key == "-":
            return "both bad"
        return "base" if (key == "1") == self.base_is_left else "tuned"


@dataclass(frozen=True)
class Tally:
    """The result of a set of votes.

    `win_rate` is the tuned side's share of decisive votes, with its 95 % interval; None without decisive votes.
    `evidence` is the e-value against a share of one half. Both are valid at any time (`evaluation/statistics/anytime`).
    """

    tuned: int
    base: int
    tie: int
    both_bad: int
    win_rate: float | None
    low: float | None
    high: float | None
    evidence: float | None

    @property
    def is_decided(self) -> bool:
        """Return whether the votes prefer one side: then the interval excludes one half."""
        return self.evidence is not None and self.evidence >= ENOUGH


@dataclass(frozen=True)
class VotingProgress:
    """How many pairs a voter has voted on; `alike` pairs have two equal answers and are not shown."""

    voted: int
    total: int
    alike: int


def voter_name(text: str) -> str:
    """Normalise a voter's name. Raises: RunError if it is empty."""
    name = " ".join(text.split())
    if not name:
        raise RunError("Enter your name first, so that several people can vote and each can continue later.")
    return name


def open_ballots(pairs: Iterable[AnswerPair], voter: str, votes: Sequence[Vote]) -> list[Ballot]:
    """Return the ballots this voter still has, in an order and with sides that are fixed for each voter.

    Pairs with equal answers are left out, because there is nothing to prefer.
    """
    done = {vote.pair for vote in votes if vote.voter == voter}
    unique = {id: pair for id, pair in differing_pairs(pairs).items() if id not in done}
    order = sorted(unique, key=lambda id: _draw(voter, "order", id))
    return [Ballot(unique[id], base_is_left=_draw(voter, "side", id) % 2 == 0) for id in order]


def voting_progress(pairs: Sequence[AnswerPair], voter: str, votes: Sequence[Vote]) -> VotingProgress:
    differing = differing_pairs(pairs)
    voted = {vote.pair for vote in votes if vote.voter == voter} & set(differing)
    return VotingProgress(len(voted), len(differing), len({pair.id for pair in pairs}) - len(differing))


def cast_vote(run: Run, ballot: Ballot, key: Key, voter: str) -> None:
    """Record a vote.

    Raises: RunError if the key is not one of the four, or the voter has no name or has finished.
    """
    if key not in get_args(Key):
        raise RunError(f"Vote with 1 (first), 2 (second), 0 (tie) or - (both bad), not {key!r}.")
    name = voter_name(voter)
    _refuse_if_finished(run, name)
    side = "left" if ballot.base_is_left else "right"
    vote = Vote(
        pair=ballot.pair.id,
        voter=name,
        choice=ballot.choice(key),
        base_was=side,
        prompt=ballot.pair.prompt,
        told=False,
    )
    append_jsonl(run.votes_file, vote.as_record())


def withdraw_last(run: Run, voter: str) -> str:
    """Withdraw the voter's last vote, and return the id of its pair.

    Raises: RunError if there is none, or the voter has finished.
    """
    _refuse_if_finished(run, voter)
    last = next((vote for vote in reversed(read_votes(run)) if vote.voter == voter), None)
    if last is None:
        raise RunError("You have no vote to undo.")
    append_jsonl(run.votes_file, last.model_copy(update={"choice": WITHDRAWN}).as_record())
    return last.pair


def finish_voting(run: Run, voter: str) -> None:
    """Close the voter's votes, which are counted from now on. Raises: RunError if the voter has no name."""
    name = voter_name(voter)
    if name not in finished_voters(run):
        append_jsonl(run.votes_file, Vote(pair="", voter=name, choice=FINISHED).as_record())


def finished_voters(run: Run) -> set[str]:
    """Return who has finished, may see results, and can no longer vote."""
    return {vote.voter for vote in read_records(run.votes_file, Vote) if vote.choice == FINISHED}


def read_votes(run: Run) -> list[Vote]:
    """Read the valid votes, each voter's last one on a pair, in the order in which they were cast."""
    return [vote for _, vote in _valid_votes(run)]


def counted_votes(run: Run) -> list[Vote]:
    """Read the votes that a result may show: those of voters who have finished, or who knew the sides anyway.

    They are in the order in which a result could first show them, so that what is counted once stays counted.
    """
    finished: dict[str, int] = {}
    for line, vote in enumerate(read_records(run.votes_file, Vote)):
        if vote.choice == FINISHED:
            finished.setdefault(vote.voter, line)
    votes = [
        (line if vote.told else finished[vote.voter], vote)
        for line, vote in _valid_votes(run)
        if vote.told or vote.voter in finished
    ]
    return [vote for _, vote in sorted(votes, key=lambda counted: counted[0])]


def waiting_sentence(run: Run) -> str:
    """Say how many people are still voting, whose votes no result shows yet; "" if none."""
    finished = finished_voters(run)
    waiting = {vote.voter for vote in read_votes(run) if not vote.told and vote.voter not in finished}
    if not waiting:
        return ""
    people = "1 person is" if len(waiting) == 1 else f"{len(waiting)} people are"
    return f"{people} still voting. Their votes are counted once they have finished and pressed “Show results”."


def _valid_votes(run: Run) -> list[tuple[int, Vote]]:
    """Return each valid vote with its line in the file, in the order of the lines."""
    latest: dict[tuple[str, str], tuple[int, Vote]] = {}
    for line, vote in enumerate(read_records(run.votes_file, Vote)):
        latest.pop((vote.voter, vote.pair), None)
        latest[vote.voter, vote.pair] = line, vote
    return [(line, vote) for line, vote in latest.values() if vote.choice not in (WITHDRAWN, FINISHED)]


def by_voter(votes: Iterable[Vote]) -> dict[str, list[Vote]]:
    """Group the votes by voter."""
    grouped: dict[str, list[Vote]] = defaultdict(list)
    for vote in votes:
        grouped[vote.voter].append(vote)
    return dict(sorted(grouped.items()))


def first_choices(votes: Iterable[Vote]) -> dict[str, str]:
    """Return one choice for each pair, by its id: the first that prefers a side, or else the first.

    Several people's votes on one pair are not independent, so only one of them counts. A majority would not stay valid
    at any time: as more people vote, it moves from one side to the other and back.
    """
    choices: dict[str, str] = {}
    for vote in votes:
        known = choices.get(vote.pair)
        if known is None or (known not in SIDES and vote.choice in SIDES):
            choices[vote.pair] = vote.choice
    return choices


def tally(votes: Iterable[Vote]) -> Tally:
    """Tally votes; ties and pairs where both are bad are counted but favour neither side."""
    return tally_choices([vote.choice for vote in votes])


def tally_choices(choices: Sequence[str]) -> Tally:
    """Tally choices as `tally` does."""
    tuned, base = choices.count("tuned"), choices.count("base")
    total = tuned + base
    low, high = confidence_sequence(tuned, base) if total else (None, None)
    return Tally(
        tuned=tuned,
        base=base,
        tie=choices.count("tie"),
        both_bad=choices.count("both bad"),
        win_rate=tuned / total if total else None,
        low=low,
        high=high,
        evidence=e_value(tuned, base) if total else None,
    )


def tally_by_pair(votes: Iterable[Vote]) -> Tally:
    """Tally votes of several people, with each pair counted once."""
    return tally_choices(list(first_choices(votes).values()))


def tally_sentence(result: Tally) -> str:
    """Say what the votes show, and whether there are enough of them."""
    total = result.tuned + result.base
    if result.win_rate is None or result.low is None or result.high is None:
        return "No one has voted for either side yet, so there is nothing to conclude."
    if result.is_decided:
        winner = "fine-tuned model’s" if result.tuned > result.base else "base model’s"
        verdict = f"The interval excludes 50%: people prefer the {winner} answers"
    else:
        verdict = "The interval includes 50%, so this could be chance; more votes would help"
    return (
        f"The fine-tuned answer won {result.tuned} of the {total} decisive {'vote' if total == 1 else 'votes'}: "
        f"{result.win_rate:.0%} (95% interval {percent(result.low)} to {percent(result.high)}). {verdict}."
    )


def votes_sentence(votes: Sequence[Vote]) -> str:
    """Say what all votes show together; with several voters, each pair counts once."""
    voters = len(by_voter(votes))
    if voters == 1:
        return tally_sentence(tally(votes))
    sentence = f"{voters} people voted without seeing which answer was which."
    once = "Each pair counts once: the first vote for one of its answers decides."
    return f"{sentence} {once} {tally_sentence(tally_by_pair(votes))}"


def _refuse_if_finished(run: Run, voter: str) -> None:
    if voter in finished_voters(run):
        raise RunError(f"{voter} has finished voting on this run, so these votes can't be changed.")


def differing_pairs(pairs: Iterable[AnswerPair]) -> dict[str, AnswerPair]:
    """Return the pairs with two different answers, by id."""
    return {pair.id: pair for pair in pairs if pair.base != pair.tuned}


def _draw(*names: str) -> int:
    """Return a pseudo-random number that is the same for the same names on every machine."""
    return int.from_bytes(hashlib.sha256("\0".join(names).encode()).digest()[:8], "big")
