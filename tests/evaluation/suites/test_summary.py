"""What results of tests mean in words: counts by hand, chance, and answers that are missing."""

from __future__ import annotations

import pytest

from sft_app.evaluation.suites.summary import (
    paired_counts,
    pass_rates,
    suite_facts,
    suite_sentence,
    suite_verdict,
)
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


def test_the_run_is_compared_with_each_further_side_and_corrected_for_their_number() -> None:
    tests = [
        JudgedTest(name=str(number), answers=[FAIL, PASS, PASS if number < 3 else FAIL, PASS]) for number in range(8)
    ]
    found = SuiteScores(origin="t.yaml", sides=["Base model", "Run", "Old model", "Prompt"], tests=tests)
    sentence = suite_sentence(found)
    assert "Base model passes 0, Run passes 8, Old model passes 3 and Prompt passes 8." in sentence
    assert "Run is better than Base model (exact paired test: p = 0.023, corrected for the number of comp" in sentence
    assert "Old model and Run differ in 5 tests, which could be chance (exact paired test: p = 0.12, corr" in sentence
    assert "Prompt and Run pass and fail the same tests." in sentence


def test_tests_that_could_not_be_run_are_no_result() -> None:
    problem = SuiteScores(problem="no chat template.")
    assert suite_sentence(problem) == "The tests could not be run: no chat template."
    assert suite_sentence(SuiteScores()) == "There are no tests."


def test_a_result_that_is_read_again_is_the_same() -> None:
    made = scores((PASS, BROKEN))
    assert SuiteScores.model_validate(made.as_record()) == made
    assert suite_facts(made)["tests"][0]["answers"][1] == {"passed": False, "answer": None, "failed": ["NaN"]}


def asked(*conversations: int, pairs: list[tuple[JudgedAnswer, JudgedAnswer]]) -> SuiteScores:
    made = scores(*pairs)
    tests = [
        test.model_copy(update={"conversation": number}) for test, number in zip(made.tests, conversations, strict=True)
    ]
    return made.model_copy(update={"tests": tests})


def test_copies_of_a_conversation_count_once() -> None:
    """A model answers each copy in the same way, so eight copies show no more than one."""
    copies, apart = ([(FAIL, PASS)] * 8 for _ in range(2))
    found = asked(*[0] * 8, pairs=copies)
    assert paired_counts(found).p_value == 1.0 and suite_verdict(found) == "too few"
    assert suite_verdict(asked(*range(8), pairs=apart)) == "better"
    assert "All tests ask the same conversation, which counts once." in suite_sentence(found)
    assert "is better" not in suite_sentence(found)
    assert [str(rate) for rate in pass_rates(found)] == [
        "0 of 8 (0% to 98% for 0 of 1 conversation)",
        "8 of 8 (3% to 100% for 1 of 1 conversation)",
    ]


def test_copies_in_files_without_numbers_are_found_by_their_prompt() -> None:
    made = scores(*[(FAIL, PASS)] * 8)
    same = [test.model_copy(update={"prompt": "Hi"}) for test in made.tests]
    assert suite_verdict(made.model_copy(update={"tests": same})) == "too few"


def test_no_side_leads_whose_lead_is_made_of_copies() -> None:
    """Nine conversations for the one, one with 50 copies for the other: neither leads in both counts."""
    found = asked(*[0] * 50, *range(1, 10), pairs=[(PASS, FAIL)] * 50 + [(FAIL, PASS)] * 9)
    assert paired_counts(found).p_value < 0.05
    assert suite_verdict(found) == "too few" and "is better" not in suite_sentence(found)


def test_a_conversation_with_several_checks_is_won_by_the_side_that_passes_more() -> None:
    pairs = [(FAIL, PASS), (PASS, PASS)] * 8
    numbers = [number for number in range(8) for _ in range(2)]
    found = paired_counts(asked(*numbers, pairs=pairs))
    assert (found.conversations, found.second_ahead, found.first_ahead) == (8, 8, 0)
    assert suite_verdict(asked(*numbers, pairs=pairs)) == "better"
    assert "The tests ask 8 different conversations, and each of these counts once." in suite_sentence(
        asked(*numbers, pairs=pairs)
    )


def test_a_lead_in_tests_that_chose_the_weights_is_not_judged() -> None:
    flattered = scores(*[(FAIL, PASS)] * 8).model_copy(update={"chose_weights": 3})
    assert suite_verdict(flattered) == "too few"
    assert "Run is ahead. But 3 tests ask what chose its weights" in suite_sentence(flattered)
    behind = scores(*[(PASS, FAIL)] * 8).model_copy(update={"chose_weights": 3})
    assert suite_verdict(behind) == "worse" and "Base model is better" in suite_sentence(behind)


def test_a_scorecard_whose_correction_counted_copies_is_judged_without_them() -> None:
    old = asked(*[0] * 8, pairs=[(FAIL, PASS)] * 8).model_copy(update={"p_holm": 0.0078})
    assert suite_verdict(old) == "too few" and "could be chance (exact paired test: p = 1" in suite_sentence(old)


def test_sides_that_are_ahead_in_different_ways_are_not_ahead() -> None:
    pairs = [(PASS, FAIL)] * 9 + [(FAIL, PASS)] * 10
    found = asked(*range(9), *[9] * 10, pairs=pairs)
    assert suite_verdict(found) == "too few"
    assert "Run passes more tests, but the other side is ahead in more conversations" in suite_sentence(found)


def test_copies_are_mentioned_once_for_all_sides() -> None:
    tests = [JudgedTest(name=str(number), answers=[FAIL, PASS, FAIL], conversation=0) for number in range(3)]
    found = SuiteScores(origin="t.yaml", sides=["Base model", "Run", "Old model"], tests=tests)
    assert suite_sentence(found).count("counts once") == suite_sentence(found).count("for a clearer result") == 1
    assert [one["side"] for one in suite_facts(found)["comparisons"]] == ["Base model", "Old model"]


def test_a_lead_in_tests_that_were_trained_on_is_not_judged() -> None:
    trained = scores(*[(FAIL, PASS)] * 8).model_copy(update={"trained_on": 1})
    assert suite_verdict(trained) == "too few"
    assert "Run is ahead. But 1 test asks what it was trained on, which makes" in suite_sentence(trained)
    both = suite_sentence(trained.model_copy(update={"trained_on": 2, "chose_weights": 1}))
    assert "But 2 tests ask what it was trained on and 1 test asks what chose its weights, which makes" in both
    assert both.endswith("Replace these with tests that have other prompts.")
