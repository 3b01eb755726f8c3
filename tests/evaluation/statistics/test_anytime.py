"""A share judged after every outcome: no more than 1 false alarm in 20 however often someone looks."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sft_app.evaluation.statistics.anytime import ENOUGH, confidence_sequence, e_value
from sft_app.evaluation.votes import Vote, first_choices

LOOKS, TRIALS = 200, 10_000


def wins_of_people(share: float, trials: int = TRIALS) -> np.ndarray:
    """The wins after each vote, (trials, LOOKS)."""
    return np.cumsum(np.random.default_rng(0).random((trials, LOOKS)) < share, axis=1)


def ever_rejected(wins: np.ndarray, share: float) -> np.ndarray:
    """In which trials the share was rejected after each vote or an earlier one, bool (trials, LOOKS)."""
    table = np.array(
        [[e_value(won, max(0, looks - won), share) for won in range(LOOKS + 1)] for looks in range(1, LOOKS + 1)]
    )
    return np.logical_or.accumulate(table[np.arange(LOOKS), wins] >= ENOUGH, axis=1)


@pytest.mark.parametrize(
    ("wins", "losses", "evidence"), [(0, 0, 1.0), (1, 0, 1.0), (0, 8, 256 / 9), (2, 2, 16 / 30), (1, 2, 8 / 12)]
)
def test_e_value_by_hand(wins: int, losses: int, evidence: float) -> None:
    assert e_value(wins, losses) == pytest.approx(evidence) == pytest.approx(e_value(losses, wins))


def test_many_votes_stay_finite_until_they_cannot() -> None:
    assert e_value(500_000, 500_000) == pytest.approx(math.sqrt(math.pi / (2 * 10**6)), rel=1e-3)
    assert e_value(10_000, 0) == e_value(1, 0, 0.0) == math.inf and e_value(3, 0, 0.0) == math.inf
    low, high = confidence_sequence(510_000, 490_000)
    assert 0.507 < low < 0.51 < high < 0.513


def test_an_interval_holds_the_shares_that_are_not_rejected() -> None:
    for wins, losses in ((0, 0), (0, 9), (9, 0), (15, 5), (120, 80)):
        low, high = confidence_sequence(wins, losses)
        assert 0 <= low < high <= 1
        assert all(e_value(wins, losses, edge) <= ENOUGH for edge in (low, high))
        assert all(e_value(wins, losses, edge) > ENOUGH for edge in (low - 1e-9, high + 1e-9) if 0 < edge < 1)
    assert confidence_sequence(0, 0) == (0, 1) and confidence_sequence(9, 0)[1] == 1


def test_looking_after_every_vote_gives_few_false_alarms() -> None:
    alarms = ever_rejected(wins_of_people(0.5, 20_000), 0.5)[:, -1].mean()
    assert 0.01 < alarms <= 0.05


@pytest.mark.parametrize("share", [0.5, 0.6, 0.8, 0.95])
def test_the_interval_covers_the_true_share_at_all_times(share: float) -> None:
    assert 1 - ever_rejected(wins_of_people(share), share)[:, -1].mean() >= 0.95


@pytest.mark.parametrize(
    ("share", "votes", "found"), [(0.6, 200, 0.45), (0.7, 50, 0.52), (0.8, 20, 0.47), (0.8, 50, 0.94), (0.95, 20, 0.97)]
)
def test_a_preference_is_found(share: float, votes: int, found: float) -> None:
    assert ever_rejected(wins_of_people(share), 0.5)[:, votes - 1].mean() >= found


def test_several_voters_who_look_after_every_vote_get_few_false_alarms() -> None:
    random, trials, alarms = np.random.default_rng(1), 500, 0
    for _ in range(trials):
        is_win = [choice == "tuned" for choice in first_choices(votes_of_people(random)).values()]
        alarms += any(e_value(sum(is_win[:pairs]), pairs - sum(is_win[:pairs])) >= ENOUGH for pairs in range(1, 31))
    assert alarms / trials <= 0.05


def test_a_later_vote_changes_no_pair_that_counts() -> None:
    votes = votes_of_people(np.random.default_rng(1))
    counted = list(first_choices(votes).items())
    for looked in range(len(votes)):
        so_far = list(first_choices(votes[:looked]).items())
        assert so_far == counted[: len(so_far)]


def votes_of_people(random: np.random.Generator) -> list[Vote]:
    """Eight votes on each of 30 pairs: people agree about most pairs, and neither side is better."""
    preferred = random.choice([0.1, 0.9], size=30)
    order = random.permutation(np.repeat(np.arange(30), 8)).tolist()
    drawn = random.random(len(order)).tolist()
    kinds = ["tuned" if draw < preferred[pair] else "base" for pair, draw in zip(order, drawn, strict=True)]
    return [Vote(pair=str(pair), voter="x", choice=kind) for pair, kind in zip(order, kinds, strict=True)]
