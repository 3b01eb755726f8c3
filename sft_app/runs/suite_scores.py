"""Define the results of tests that people wrote, as they are stored in `scorecard.json`."""

from __future__ import annotations

from sft_app.runs.records import Number, Record


class JudgedAnswer(Record):
    """An answer and a sentence for each check it fails; None if there is no complete answer, and then why."""

    answer: str | None = None
    failed: list[str] = []

    @property
    def passed(self) -> bool:
        return self.answer is not None and not self.failed


class JudgedTest(Record):
    """A test and the answer of each side, in the order of the sides.

    `conversation` is the same number for tests that ask the same conversation; None in files of older versions, where
    tests with the same last prompt are taken for copies.
    """

    name: str = ""
    prompt: str = ""
    answers: list[JudgedAnswer] = []
    conversation: int | None = None

    @property
    def asked(self) -> int | str:
        """Identify the conversation that the test asks."""
        return (self.prompt or self.name) if self.conversation is None else self.conversation


class SuiteScores(Record):
    """The results of all tests. `origin` says where the tests come from, `sides` are the labels of the sides.

    `p_holm` is the p-value of the paired test of two sides, corrected for the number of measures; None if the tests are
    the measure that decides, or were run alone. `chose_weights` counts the tests whose questions chose the weights of
    the second side, `trained_on` those whose questions it was trained on; either flatters it. `problem` says why the
    tests could not be run; there are no results then.
    """

    origin: str = ""
    sides: list[str] = []
    tests: list[JudgedTest] = []
    p_holm: Number | None = None
    chose_weights: int = 0
    trained_on: int = 0
    problem: str = ""

    @property
    def is_flattered(self) -> bool:
        """Return whether tests make the second side look better than it is, so that its lead means nothing."""
        return bool(self.chose_weights or self.trained_on)

    def passed(self, side: int) -> int:
        """Count the tests that a side passes."""
        return sum(side < len(test.answers) and test.answers[side].passed for test in self.tests)
