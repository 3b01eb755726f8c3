"""The blind test: two answers without names, a vote, and what all votes together say. Imports no torch."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from sft_app.compare.answer_pairs import AnswerPair
from sft_app.errors import RunError
from sft_app.files import append_jsonl, read_jsonl
from sft_app.runs import Run

Choice = Literal["base", "tuned", "tie", "both bad"]
Key = Literal["1", "2", "0", "-"]


@dataclass(frozen=True)
class Ballot:
    """A pair as one voter sees it."""

    pair: AnswerPair
    base_is_left: bool

    @property
    def left(self) -> str:
        return self.pair.base if self.base_is_left else self.pair.tuned

    @property
    def right(self) -> str:
        return self.pair.tuned if self.base_is_left else self.pair.base

    def choice(self, key: Key) -> Choice:
        """What a voter's key means on this ballot: 1 left, 2 right, 0 a tie, − both bad."""
        if key == "0":
            return "tie"
        if key == "-":
            return "both bad"
        return "base" if (key == "1") == self.base_is_left else "tuned"


@dataclass(frozen=True)
class Tally:
    """`win_rate` is the tuned side's share of the votes for a side, with its 95 % interval; None without such votes.

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


def open_ballots(pairs: Iterable[AnswerPair], voter: str, votes: Sequence[dict[str, Any]]) -> list[Ballot]:
    """What this voter has not voted on yet, in an order and on sides that are this voter's own, the same at each look.

    Pairs whose answers are the same are left out: there is nothing to prefer.
    """
    done = {vote["pair"] for vote in votes if vote["voter"] == voter}
    unique = {pair.id: pair for pair in pairs if pair.base != pair.tuned and pair.id not in done}
    order = sorted(unique, key=lambda id: _draw(voter, "order", id))
    return [Ballot(unique[id], base_is_left=_draw(voter, "side", id) % 2 == 0) for id in order]


def cast(run: Run, ballot: Ballot, key: Key, voter: str) -> None:
    """Raises: RunError when the key is none of the four, or the voter has no name."""
    if key not in get_args(Key):
        raise RunError(f"Vote with 1 (left), 2 (right), 0 (tie) or - (both bad), not {key!r}.")
    if not voter.strip():
        raise RunError("Tell who votes first, so that several people can vote and each can go on later.")
    side = "left" if ballot.base_is_left else "right"
    vote = {"pair": ballot.pair.id, "voter": voter, "choice": ballot.choice(key), "base_was": side}
    append_jsonl(run.votes_file, vote | {"prompt": ballot.pair.prompt})


def read_votes(run: Run) -> list[dict[str, Any]]:
    """All votes, each voter's last one on a pair."""
    return list({(vote["voter"], vote["pair"]): vote for vote in read_jsonl(run.votes_file)}.values())


def tally(votes: Iterable[dict[str, Any]]) -> Tally:
    """Of the votes for a side; ties and pairs that are both bad are counted, and say nothing for either."""
    choices = [vote["choice"] for vote in votes]
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


def wilson_interval(wins: int, total: int, z: float = 1.959964) -> tuple[float, float]:
    """Of a share, at 95 %. Source: Wilson 1927, "Probable inference", the score interval."""
    share, spread = wins / total, z * z / total
    middle = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / total + spread / (4 * total)) / (1 + spread)
    return max(0.0, middle - half), min(1.0, middle + half)


def sign_test(wins: int, losses: int) -> float:
    """The chance that fair coins fall at least as unevenly, to either side."""
    total, most = wins + losses, max(wins, losses)
    tail = sum(math.comb(total, count) for count in range(most, total + 1)) / 2**total
    return min(1.0, 2 * tail)


def _draw(*names: str) -> int:
    """A number that is random, and the same for the same names on every machine."""
    return int.from_bytes(hashlib.sha256("\0".join(names).encode()).digest()[:8], "big")
