"""Tests on two sides of a tiny model: the answers are those of each model alone, and nothing broken passes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sft_app.data.tokens import render_prompt, stop_ids
from sft_app.evaluation.checking.answer_checks import has_words
from sft_app.evaluation.checks import parse_checks
from sft_app.evaluation.score_run import keep_score
from sft_app.evaluation.sides.side_names import find_pair_and_more
from sft_app.evaluation.suites.kept import keep_tests, kept_tests
from sft_app.evaluation.suites.running import BROKEN, judge_answer, run_suite
from sft_app.evaluation.suites.summary import pass_rates
from sft_app.evaluation.suites.tests_file import Suite, parse_tests
from sft_app.inference.generation import Answer, Sampling, answer_prompts
from sft_app.inference.pair import load_pair
from sft_app.inference.sides import BASE, find_sides
from tests.made_runs import randomise_adapter

PROMPTS = ["Where is it?", "Hi", "Do you ship to Spain? I need it by Friday.", "Thanks!"] * 3
GREEDY = Sampling(0.0, 1, 6)


def suite(*checks: dict[str, Any]) -> Suite:
    tests = [{"prompt": f"{prompt} {number}", "checks": list(checks)} for number, prompt in enumerate(PROMPTS)]
    return parse_tests(tests, "t.yaml")


@pytest.fixture(scope="module")
def made(make_run: Callable[..., Any]) -> Any:
    return make_run(
        change=lambda model: randomise_adapter(model, 3, 0.2), dtype="float32", max_new_tokens=6, max_length=256
    )


@pytest.fixture(scope="module")
def pair(made: Any) -> Any:
    return load_pair(find_sides(BASE, made.run.id, made.home), made.home)


def test_the_answers_are_those_of_the_base_alone(made: Any, pair: Any, load_untouched: Callable[[Any], Any]) -> None:
    """In the order of the file, although batches are of prompts of similar length."""
    tests = suite({"words": [0, 1000]})
    found = run_suite(pair, tests, "Be kind.", GREEDY)
    base, tokenizer = load_untouched(made), pair.tokenizer
    messages = [[{"role": "system", "content": "Be kind."}, *test.messages] for test in tests.tests]
    prompts = [render_prompt(tokenizer, one) for one in messages]
    alone = answer_prompts(base, tokenizer, prompts, GREEDY, stop_ids(tokenizer))
    assert [test.answers[0].answer for test in found.tests] == [answer.text for answer in alone]
    assert any(test.answers[0].answer != test.answers[1].answer for test in found.tests)
    assert found.origin == "t.yaml" and found.sides[0] == "Base model" and found.passed(0) == len(PROMPTS)


def test_failures_are_those_of_the_checks(pair: Any) -> None:
    found = run_suite(pair, suite({"ended": True}, {"contains": "no model says this"}), "", GREEDY)
    assert found.passed(0) == found.passed(1) == 0
    assert all("does not contain" in test.answers[1].failed[-1] for test in found.tests)


def test_a_broken_answer_never_passes() -> None:
    judged = judge_answer(parse_checks([{"contains_none": ["x"]}]), Answer("fine", 1, True, broken=True))
    assert not judged.passed and judged.failed == [BROKEN]


def test_the_thought_before_an_answer_is_not_judged() -> None:
    answer = Answer("<think>Ten words, or maybe more than ten.</think>\nYes", 9, True)
    assert judge_answer(parse_checks([{"equals": "yes"}]), answer).passed
    assert has_words((0, 1), answer.text, True)


def test_a_model_with_nan_fails_its_tests(make_run: Callable[..., Any]) -> None:
    def spoil(model: Any) -> Any:
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    parameter.fill_(1e30)
        return model

    made = make_run(change=spoil, dtype="float32", max_new_tokens=6, max_length=256)
    pair = load_pair(find_sides(BASE, made.run.id, made.home), made.home)
    found = run_suite(pair, suite({"contains_none": ["zzz"]}), "", GREEDY)
    assert found.passed(0) == len(PROMPTS) and found.passed(1) == 0
    assert {test.answers[1].answer for test in found.tests} == {None}


def test_a_prompt_that_fills_the_context_is_a_failure_with_its_reason(pair: Any) -> None:
    tests = parse_tests([{"prompt": "x " * 40_000, "checks": [{"ended": True}]}, *map(_short, range(2))])
    found = run_suite(pair, tests, "", GREEDY)
    assert found.tests[0].answers[0].answer is None and "context" in found.tests[0].answers[0].failed[0]
    assert found.passed(0) == 2


def _short(number: int) -> dict[str, Any]:
    return {"prompt": f"Hi {number}", "checks": [{"words": [0, None]}]}


def test_the_tests_of_a_run_are_part_of_its_scorecard(made: Any, pair: Any) -> None:
    row = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}
    made.run.heldout_file.write_text(json.dumps(row) + "\n")
    assert keep_score(made.run, pair, 0).tests is None
    keep_tests(made.run, suite({"ended": True}))
    card = keep_score(made.run, pair, 0)
    assert card.tests is not None and len(card.tests.tests) == len(PROMPTS) and card.tests.origin == "t.yaml"
    assert made.run.scorecard().tests == card.tests
    kept = kept_tests(made.run)
    assert kept is not None and kept.tests == suite({"ended": True}).tests
    made.run.tests_file.write_text("nonsense: 1")
    broken = keep_score(made.run, pair, 0).tests
    assert broken is not None and "unknown key 'nonsense'" in broken.problem
    made.run.tests_file.unlink()


def test_tests_saved_while_they_run_change_nothing(made: Any, pair: Any) -> None:
    """The tests that were run are those that are compared with the run's data."""
    keep_tests(made.run, suite({"ended": True}))

    def save_others(share: float) -> None:
        if share > 0.95:
            made.run.tests_file.write_text("nonsense: 1")

    found = keep_score(made.run, pair, 0, save_others).tests
    assert made.run.tests_file.read_text() == "nonsense: 1"
    made.run.tests_file.unlink()
    assert found is not None and not found.problem and len(found.tests) == len(PROMPTS)


def test_further_sides_are_judged_by_the_same_checks(made: Any, tmp_path: Path) -> None:
    """Recorded answers and the base with examples, also to a conversation of several turns."""
    turns = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "So?"},
    ]
    written = [
        {"prompt": "Where is it?", "checks": [{"contains": "box"}]},
        {"messages": turns, "checks": [{"words": [0, 99]}]},
    ]
    recorded = tmp_path / "hosted.jsonl"
    recorded.write_text(json.dumps({"prompt": "Where is it?", "answer": "It is in the box."}) + "\n")
    sides, more = find_pair_and_more(BASE, made.run.id, [str(recorded), "prompted"], made.home)
    found = run_suite(load_pair(sides, made.home), parse_tests(written, "t.yaml"), "", GREEDY, more=more)
    assert len(found.sides) == 4 and found.sides[2] == f"Recorded: {more[0].name}"
    first, second = found.tests
    assert [answer.passed for answer in first.answers] == [False, False, True, False]
    assert second.answers[2].failed == ["The file has no answer to this prompt."] and second.answers[3].passed
    assert [rate.passed for rate in pass_rates(found)] == [1, 1, 1, 1]


def test_tests_that_ask_the_same_conversation_have_the_same_number(pair: Any) -> None:
    """The system prompt of the run makes the first and the last of these equal; an earlier turn makes one another."""
    turns = [("user", "Hello"), ("assistant", "Yes?"), ("user", "Hi")]
    messages = [
        [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}],
        [{"role": role, "content": content} for role, content in turns],
        [{"role": "user", "content": "Hi"}],
    ]
    tests = parse_tests([{"messages": one, "checks": [{"words": [0, 99]}]} for one in messages], "t.yaml")
    found = run_suite(pair, tests, "Be kind.", GREEDY)
    assert [test.conversation for test in found.tests] == [0, 1, 0]
    assert {test.prompt for test in found.tests} == {"Hi"}
