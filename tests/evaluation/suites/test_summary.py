"""What results of tests mean in words: counts by hand, chance, and answers that are missing."""

from __future__ import annotations

import pytest

from sft_app.evaluation.suites.summary import paired_counts, pass_rates, suite_facts, suite_sentence
from sft_app.runs.suite_scores import JudgedAnswer, JudgedTest, SuiteScores

PASS, FAIL = JudgedAnswer(answer="a"), JudgedAnswer(answer="a", failed=["It fails."])
BROKEN = JudgedAnswer(answer=None, failed=["NaN"])


def scores(*pairs: tuple[JudgedAnswer, JudgedAnswer]) -> SuiteScores:
    tests = [JudgedTest(name=f"test {number}", answers=list(pair)) for number, pair in enumerate(pairs)]
    return SuiteScores(origin="t.yaml", sides=["Base model", "Run"], tests=tests)


def test_both_one_and_neither_are_counted() -> None:
    found = paired_counts(scores((PASS, PASS), (PASS, FAIL), (FAIL, PASS), (FAIL, PASS), (FAIL, BROKEN)))
    assert (found.both, found.only_first, found.only_second, found.neither) == (1, 1, 2, 1)
    assert found.p_value == 1.0


def test_a_rate_has_its_exact_interval() -> None:
    base, tuned = pass_rates(scores(*[(FAIL, PASS)] * 8))
    assert str(base) == "0 of 8 (0% to 37%)" and str(tuned) == "8 of 8 (63% to 100%)"


@pytest.mark.parametrize(
    ("pairs", "sentence"),
    [
        (
            [(FAIL, PASS)] * 8,
            "Of 8 tests, Base model passes 0 and Run passes 8. Run is better (exact paired test: p = ",
        ),
        ([(PASS, FAIL)] * 8, "Base model is better"),
        ([(FAIL, PASS)] * 3, "They differ in 3 tests, which could be chance (exact paired test: p = 0.25). Write more"),
        ([(PASS, PASS)], "Of 1 test, Base model passes 1 and Run passes 1. Both pass and fail the same tests."),
        ([(FAIL, PASS), (PASS, FAIL)], "Each passes 1 that the other fails, so neither is ahead."),
        ([(PASS, BROKEN)], "Run gave no complete answer to 1 test; these count as failed."),
    ],
)
def test_the_sentence_says_whether_it_could_be_chance(pairs: list, sentence: str) -> None:
    assert sentence in suite_sentence(scores(*pairs))


def test_tests_that_could_not_be_run_are_no_result() -> None:
    problem = SuiteScores(problem="no chat template.")
    assert suite_sentence(problem) == "The tests could not be run: no chat template."
    assert suite_sentence(SuiteScores()) == "There are no tests."


def test_a_result_that_is_read_again_is_the_same() -> None:
    made = scores((PASS, BROKEN))
    assert SuiteScores.model_validate(made.as_record()) == made
    assert suite_facts(made)["tests"][0]["answers"][1] == {"passed": False, "answer": None, "failed": ["NaN"]}
