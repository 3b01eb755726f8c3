"""Judge a share from yes-or-no outcomes while they still arrive: valid however often someone looks.

An ordinary interval or p-value is only valid for a number of outcomes fixed beforehand. A person who looks after every
outcome and stops when the result suits them is wrong more often than it says.

The share p that is being estimated is tested by its *e-value*, the likelihood of the outcomes if every share were
equally likely, divided by their likelihood for p. If p is the true share, this is a martingale with mean 1, so it ever
reaches 20 with a probability of at most 1 in 20. The shares with an e-value below 20 form a 95 % *confidence
sequence*: with a probability of 95 %, it contains the true share at all times.

Sources: Ville 1939; Robbins 1970, "Statistical Methods Related to the Law of the Iterated Logarithm" (mixtures);
Howard, Ramdas, McAuliffe & Sekhon 2021, "Time-uniform, nonparametric, nonasymptotic confidence sequences";
Waudby-Smith & Ramdas 2024, "Estimating means of bounded random variables by betting".
"""

from __future__ import annotations

import math

ENOUGH = 20.0
"""The e-value at which a share is rejected; its inverse bounds the probability of a false alarm at any time."""
EVEN = 0.5
HALVINGS = 60
# The largest exponent of e that a float can represent.
LARGEST_EXPONENT = 709.0


def e_value(wins: int, losses: int, share: float = EVEN) -> float:
    """Return the evidence against `share` in this many wins and losses: 1 is none, `ENOUGH` rejects it."""
    exponent = _log_e_value(wins, losses, share)
    return math.exp(exponent) if exponent < LARGEST_EXPONENT else math.inf


def confidence_sequence(wins: int, losses: int, enough: float = ENOUGH) -> tuple[float, float]:
    """Return the lowest and highest share that has not been rejected, (0, 1) without an outcome.

    The e-value that rejects a share is `enough`; k times `ENOUGH` corrects for k questions.
    """
    observed = wins / (wins + losses) if wins + losses else EVEN
    return _edge(wins, losses, 0.0, observed, enough), _edge(wins, losses, 1.0, observed, enough)


def percent(share: float) -> str:
    """Round to a whole percent, but a share that is not one half never to 50 %, which decides."""
    return f"{share:.1%}" if f"{share:.0%}" == "50%" and share != EVEN else f"{share:.0%}"


def _log_e_value(wins: int, losses: int, share: float) -> float:
    """Return the log of B(1 + wins, 1 + losses) / (share^wins · (1 - share)^losses), with B the beta function."""
    mixed = math.lgamma(1 + wins) + math.lgamma(1 + losses) - math.lgamma(2 + wins + losses)
    return mixed - _times_log(wins, share) - _times_log(losses, 1 - share)


def _times_log(count: int, share: float) -> float:
    if not count:
        return 0.0
    return count * math.log(share) if share > 0 else -math.inf


def _edge(wins: int, losses: int, rejected: float, kept: float, enough: float) -> float:
    """Find the edge of the confidence sequence between 0 or 1 and the observed share, which is never rejected."""
    if _log_e_value(wins, losses, rejected) < math.log(enough):
        return rejected
    for _ in range(HALVINGS):
        middle = (rejected + kept) / 2
        if _log_e_value(wins, losses, middle) < math.log(enough):
            kept = middle
        else:
            rejected = middle
    return kept
