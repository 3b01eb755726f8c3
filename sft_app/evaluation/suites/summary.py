"""Say what the results of tests mean: how many each side passes, and whether the difference could be chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sft_app.data.checkup.finding import count_of
from sft_app.evaluation.statistics.exact import clopper_pearson, holm, mcnemar
from sft_app.evaluation.verdicts import CHANCE, FEWEST_TO_JUDGE
from sft_app.runs.suite_scores import JudgedTest, SuiteScores

SuiteVerdict = Literal["better", "worse", "unchanged", "too few", "not run", "no tests", "all pass", "all fail"]
"""Besides the obvious: the tests could not be run, there are none, or both sides pass or fail every one of them."""


@dataclass(frozen=True)
class PassRate:
    """How many tests a side passes.

    `low` and `high` are the exact 95 % interval of the share of `conversations` in which it passes every test.
    """

    side: str
    passed: int
    total: int
    low: float
    high: float
    passed_conversations: int
    conversations: int

    @property
    def interval(self) -> str:
        """Return the interval, and what it is about if several tests ask the same conversation."""
        share = f"{self.low:.0%} to {self.high:.0%}"
        if self.conversations == self.total:
            return share
        asked = "1 conversation" if self.conversations == 1 else f"{self.conversations:,} different conversations"
        return f"{share} for {self.passed_conversations} of {asked}"

    def __str__(self) -> str:
        return f"{self.passed} of {self.total} ({self.interval})"


@dataclass(frozen=True)
class PairedCounts:
    """How many tests both sides pass, only one, or neither, and the p-value of the exact paired test.

    The p-value takes each of the `conversations` once, as won by the side that passes more of its tests.
    """

    both: int
    only_first: int
    only_second: int
    neither: int
    conversations: int
    first_ahead: int
    second_ahead: int
    p_value: float

    @property
    def is_ahead_in_tests(self) -> bool:
        """Whether one side passes more tests than the other."""
        return self.only_first != self.only_second

    @property
    def leader(self) -> int | None:
        """Return the side that is ahead, 0 or 1, both in tests and in conversations; None if neither is."""
        if self.first_ahead > self.second_ahead and self.only_first > self.only_second:
            return 0
        return 1 if self.second_ahead > self.first_ahead and self.only_second > self.only_first else None


def pass_rates(scores: SuiteScores) -> list[PassRate]:
    conversations = _by_conversation(scores.tests)
    rates = []
    for side, label in enumerate(scores.sides):
        whole = sum(all(_passes(test, side) for test in tests) for tests in conversations)
        if scores.tests:
            interval = clopper_pearson(whole, len(conversations))
            counts = scores.passed(side), len(scores.tests)
            rates.append(PassRate(label, *counts, *interval, whole, len(conversations)))
    return rates


def paired_counts(scores: SuiteScores, first: int = 0, second: int = 1) -> PairedCounts:
    """Compare two sides test by test, and for the p-value conversation by conversation."""
    tests = [test for test in scores.tests if len(test.answers) > max(first, second)]
    pairs = [(_passes(test, first), _passes(test, second)) for test in tests]
    leads = [
        sum(_passes(test, first) - _passes(test, second) for test in together) for together in _by_conversation(tests)
    ]
    ahead = sum(lead > 0 for lead in leads), sum(lead < 0 for lead in leads)
    only = pairs.count((True, False)), pairs.count((False, True))
    return PairedCounts(
        pairs.count((True, True)), *only, pairs.count((False, False)), len(leads), *ahead, mcnemar(*ahead)
    )


def failing_tests(scores: SuiteScores, side: int) -> list[JudgedTest]:
    """Return the tests that a side fails."""
    return [test for test in scores.tests if not test.answers[side].passed]


def suite_verdict(scores: SuiteScores | None) -> SuiteVerdict:
    """Return whether the second side passes more tests than the first, beyond chance, or why they cannot show it."""
    if scores is not None and scores.problem:
        return "not run"
    if scores is None or len(scores.sides) != 2 or not scores.tests:
        return "no tests"
    found = paired_counts(scores)
    if len(scores.tests) == found.both:
        return "all pass"
    if len(scores.tests) == found.neither:
        return "all fail"
    if not (found.only_first or found.only_second):
        return "too few" if found.conversations < FEWEST_TO_JUDGE else "unchanged"
    if found.leader is None or _p_value(scores) >= CHANCE or (found.leader and scores.is_flattered):
        return "too few"
    return "better" if found.leader else "worse"


def listed(items: Sequence[str]) -> str:
    """Join items as a sentence does: “a, b and c”."""
    return " and ".join(filter(None, [", ".join(items[:-1]), *items[-1:]]))


def suite_sentence(scores: SuiteScores) -> str:
    """Say how all sides do, and whether the second one differs from each other one by more than chance."""
    if scores.problem:
        return f"The tests could not be run: {scores.problem}"
    rates = pass_rates(scores)
    if not rates:
        return "There are no tests."
    passes = [f"{rate.side} passes {rate.passed}" for rate in rates]
    sentence = f"Of {count_of(len(scores.tests), 'test')}, {listed(passes)}."
    return " ".join(filter(None, [sentence, *(_comparisons(scores) if len(rates) >= 2 else []), _incomplete(scores)]))


def kept_tests_sentence(scores: SuiteScores | None) -> str:
    """Say how both sides do at the tests kept with a run, and where those come from; "" if it has none."""
    if scores is None:
        return ""
    rates = ", ".join(f"{rate.side} {rate}" for rate in pass_rates(scores))
    return f"{suite_sentence(scores)}{f' With 95% intervals: {rates}.' if rates else ''} Tests from {scores.origin}."


def _p_value(scores: SuiteScores) -> float:
    """Return the p-value of the paired test, corrected for the number of measures if another one decides.

    Scorecards of earlier versions have a corrected one that counts copies.
    """
    return max(paired_counts(scores).p_value, scores.p_holm or 0.0)


def _comparisons(scores: SuiteScores) -> list[str]:
    """Compare the second side with each other side. Several comparisons are corrected for their number."""
    others = [side for side in range(len(scores.sides)) if side != 1]
    found = {str(side): paired_counts(scores, side, 1) for side in others}
    p_values = holm({side: counts.p_value for side, counts in found.items()})
    p_values["0"] = max(p_values["0"], scores.p_holm or 0.0)
    is_corrected = len(others) > 1 or scores.p_holm is not None
    sentences = [_compared(scores, side, found[str(side)], p_values[str(side)], is_corrected) for side in others]
    copies = _copies_note(found["0"], len(scores.tests))
    is_unclear = any(
        counts.is_ahead_in_tests and p_values[side] >= CHANCE and not (counts.leader and scores.is_flattered)
        for side, counts in found.items()
    )
    more = "Write tests with other prompts" if copies else "Write more tests"
    return [*sentences, copies, f"{more} for a clearer result." if is_unclear else ""]


def _compared(scores: SuiteScores, other: int, found: PairedCounts, p_value: float, is_corrected: bool) -> str:
    """Say whether one of two sides passes more tests, and whether that could be chance."""
    labels, are_two = (scores.sides[other], scores.sides[1]), len(scores.sides) == 2
    differing = found.only_first + found.only_second
    both = "Both" if are_two else " and ".join(labels)
    if not differing:
        return f"{both} pass and fail the same tests."
    chance = f"exact paired test: p {'= ' + format(p_value, '.2g') if p_value >= 0.001 else '< 0.001'}"
    if is_corrected:
        chance += f", corrected for the number of {'measures' if are_two else 'comparisons'}"
    if not found.is_ahead_in_tests:
        each = "Each" if are_two else f"Of {both}, each"
        return f"{each} passes {found.only_first} that the other fails, so neither is ahead."
    if found.leader and scores.is_flattered:
        return f"{labels[1]} is ahead.{_flattered_note(scores)}"
    if p_value < CHANCE and found.leader is None:
        more = labels[found.only_second > found.only_first]
        return f"{more} passes more tests, but the other side is ahead in more conversations, so neither is ahead."
    if p_value < CHANCE:
        than = "" if are_two else f" than {labels[1 - (found.leader or 0)]}"
        return f"{labels[found.leader or 0]} is better{than} ({chance})."
    return f"{'They' if are_two else both} differ in {count_of(differing, 'test')}, which could be chance ({chance})."


def _flattered_note(scores: SuiteScores) -> str:
    counts = {"what it was trained on": scores.trained_on, "what chose its weights": scores.chose_weights}
    asks = [
        f"{count_of(count, 'test')} ask{'s' if count == 1 else ''} {what}" for what, count in counts.items() if count
    ]
    return (
        f" But {' and '.join(asks)}, which makes it look better than it is, so its lead is not judged. "
        "Replace these with tests that have other prompts."
    )


def _copies_note(found: PairedCounts, tests: int) -> str:
    """Say that tests of the same conversation count once; "" if there are none."""
    if found.conversations == tests:
        return ""
    if found.conversations == 1:
        return "All tests ask the same conversation, which counts once."
    return f"The tests ask {count_of(found.conversations, 'different conversation')}, and each of these counts once."


def _incomplete(scores: SuiteScores) -> str:
    counts = [
        (label, sum(test.answers[side].answer is None for test in scores.tests))
        for side, label in enumerate(scores.sides)
    ]
    return " ".join(
        f"{label} gave no complete answer to {count_of(count, 'test')}; these count as failed."
        for label, count in counts
        if count
    )


def suite_facts(scores: SuiteScores) -> dict[str, Any]:
    """Return everything as plain values, for JSON."""
    found = paired_counts(scores) if len(scores.sides) == 2 else None
    return {
        "origin": scores.origin,
        "sentence": suite_sentence(scores),
        "sides": [vars(rate) for rate in pass_rates(scores)],
        "paired": vars(found) if found else None,
        "comparisons": [
            {"side": label, **vars(paired_counts(scores, side, 1))}
            for side, label in enumerate(scores.sides)
            if side != 1
        ],
        "tests": [
            {
                "name": test.name,
                "prompt": test.prompt,
                "answers": [{"passed": one.passed, "answer": one.answer, "failed": one.failed} for one in test.answers],
            }
            for test in scores.tests
        ],
    }


def _passes(test: JudgedTest, side: int) -> bool:
    return side < len(test.answers) and test.answers[side].passed


def _by_conversation(tests: Sequence[JudgedTest]) -> list[list[JudgedTest]]:
    """Group the tests that ask the same conversation: a model gives these the same answer."""
    together: dict[int | str, list[JudgedTest]] = {}
    for test in tests:
        together.setdefault(test.asked, []).append(test)
    return list(together.values())
