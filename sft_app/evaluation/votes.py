"""Run the blind test: show two unlabelled answers, record votes, and evaluate them. Imports no torch."""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from sft_app.errors import RunError
from sft_app.evaluation.answer_pairs import AnswerPair
from sft_app.evaluation.tables import csv_text, jsonl_text
from sft_app.runs.folder import Run
from sft_app.runs.records import Record
from sft_app.runtime.files import append_jsonl, read_records

Choice = Literal["base", "tuned", "tie", "both bad"]
Key = Literal["1", "2", "0", "-"]
WITHDRAWN = "withdrawn"
COLUMNS = ("voter", "pair", "prompt", "base", "tuned", "base_was", "choice")
CHANCE = 0.05


class Vote(Record):
    """A line of `votes.jsonl`: a voter's choice for a pair, and the side the base's answer was on."""

    pair: str
    voter: str
    choice: Choice | Literal["withdrawn"]
    base_was: str = ""
    prompt: str = ""


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
    `p_value` is that of a two-sided sign test: how often fair coins would be at least as uneven.
    """

    tuned: int
    base: int
    tie: int
    both_bad: int
    win_rate: float | None
    low: float | None
    high: float | None
    p_value: float | None


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
    unique = {id: pair for id, pair in _differing(pairs).items() if id not in done}
    order = sorted(unique, key=lambda id: _draw(voter, "order", id))
    return [Ballot(unique[id], base_is_left=_draw(voter, "side", id) % 2 == 0) for id in order]


def voting_progress(pairs: Sequence[AnswerPair], voter: str, votes: Sequence[Vote]) -> VotingProgress:
    differing = _differing(pairs)
    voted = {vote.pair for vote in votes if vote.voter == voter} & set(differing)
    return VotingProgress(len(voted), len(differing), len({pair.id for pair in pairs}) - len(differing))


def cast_vote(run: Run, ballot: Ballot, key: Key, voter: str) -> None:
    """Record a vote. Raises: RunError if the key is not one of the four, or the voter has no name."""
    if key not in get_args(Key):
        raise RunError(f"Vote with 1 (first), 2 (second), 0 (tie) or - (both bad), not {key!r}.")
    side = "left" if ballot.base_is_left else "right"
    vote = Vote(
        pair=ballot.pair.id,
        voter=voter_name(voter),
        choice=ballot.choice(key),
        base_was=side,
        prompt=ballot.pair.prompt,
    )
    append_jsonl(run.votes_file, vote.as_record())


def withdraw_last(run: Run, voter: str) -> str:
    """Withdraw the voter's last vote, and return the id of its pair. Raises: RunError if there is none."""
    last = next((vote for vote in reversed(read_votes(run)) if vote.voter == voter), None)
    if last is None:
        raise RunError("You have no vote to undo.")
    append_jsonl(run.votes_file, last.model_copy(update={"choice": WITHDRAWN}).as_record())
    return last.pair


def read_votes(run: Run) -> list[Vote]:
    """Read the valid votes, each voter's last one on a pair, in the order in which they were cast."""
    latest: dict[tuple[str, str], Vote] = {}
    for vote in read_records(run.votes_file, Vote):
        latest.pop((vote.voter, vote.pair), None)
        latest[vote.voter, vote.pair] = vote
    return [vote for vote in latest.values() if vote.choice != WITHDRAWN]


def by_voter(votes: Iterable[Vote]) -> dict[str, list[Vote]]:
    """Group the votes by voter."""
    grouped: dict[str, list[Vote]] = defaultdict(list)
    for vote in votes:
        grouped[vote.voter].append(vote)
    return dict(sorted(grouped.items()))


def majority_choices(votes: Iterable[Vote]) -> dict[str, Choice]:
    """Return the majority choice for each pair, by its id.

    Several people's votes on one pair are not independent, and a sign test may only count independent trials.
    """
    choices_by_pair: dict[str, list[str]] = defaultdict(list)
    for vote in votes:
        choices_by_pair[vote.pair].append(vote.choice)
    return {pair: _majority(choices) for pair, choices in choices_by_pair.items()}


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


def tally(votes: Iterable[Vote]) -> Tally:
    """Tally votes; ties and pairs where both are bad are counted but favour neither side."""
    return tally_choices([vote.choice for vote in votes])


def tally_choices(choices: Sequence[str]) -> Tally:
    """Tally choices as `tally` does."""
    tuned, base = choices.count("tuned"), choices.count("base")
    total = tuned + base
    low, high = wilson_interval(tuned, total) if total else (None, None)
    return Tally(
        tuned=tuned,
        base=base,
        tie=choices.count("tie"),
        both_bad=choices.count("both bad"),
        win_rate=tuned / total if total else None,
        low=low,
        high=high,
        p_value=sign_test(tuned, base) if total else None,
    )


def tally_sentence(result: Tally) -> str:
    """Say what the votes show, and whether there are enough of them."""
    total = result.tuned + result.base
    if result.win_rate is None or result.low is None or result.high is None or result.p_value is None:
        return "No one has voted for either side yet, so there is nothing to conclude."
    if result.p_value < CHANCE:
        doubt = "That is unlikely to be chance"
    else:
        doubt = "That could well be chance; more votes would settle it"
    p_value = "p < 0.001" if result.p_value < 0.001 else f"p = {result.p_value:.3f}"
    return (
        f"The fine-tuned answer won {result.tuned} of the {total} decisive {'vote' if total == 1 else 'votes'}: "
        f"{result.win_rate:.0%} (95% interval {result.low:.0%} to {result.high:.0%}). "
        f"{doubt} (sign test, {p_value})."
    )


def votes_sentence(votes: Sequence[Vote]) -> str:
    """Say what all votes show together; with several voters, each pair counts once."""
    voters = len(by_voter(votes))
    if voters == 1:
        return tally_sentence(tally(votes))
    sentence = f"{voters} people voted without seeing which answer was which; each pair counts once, by majority vote."
    return f"{sentence} {tally_sentence(tally_choices(list(majority_choices(votes).values())))}"


def wilson_interval(wins: int, total: int, z: float = 1.959964) -> tuple[float, float]:
    """Return the 95 % score interval of a share. Source: Wilson 1927, "Probable inference"."""
    share, spread = wins / total, z * z / total
    middle = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / total + spread / (4 * total)) / (1 + spread)
    return max(0.0, middle - half), min(1.0, middle + half)


def sign_test(wins: int, losses: int) -> float:
    """Return the probability that fair coins are at least as uneven, in either direction."""
    total, most = wins + losses, max(wins, losses)
    tail: float = sum(math.comb(total, count) for count in range(most, total + 1)) / 2**total
    return min(1.0, 2 * tail)


def _differing(pairs: Iterable[AnswerPair]) -> dict[str, AnswerPair]:
    """Return the pairs with two different answers, by id."""
    return {pair.id: pair for pair in pairs if pair.base != pair.tuned}


def _majority(choices: Sequence[str]) -> Choice:
    tuned, base = choices.count("tuned"), choices.count("base")
    if tuned != base:
        return "tuned" if tuned > base else "base"
    return "both bad" if choices.count("both bad") > len(choices) / 2 else "tie"


def _draw(*names: str) -> int:
    """Return a pseudo-random number that is the same for the same names on every machine."""
    return int.from_bytes(hashlib.sha256("\0".join(names).encode()).digest()[:8], "big")
