"""Checks suggested from answers: each with the share that passes, and none that most answers fail."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sft_app.errors import DataError
from sft_app.evaluation.suites.suggestions import suggest_checks, suggest_tests, suggestions_yaml
from sft_app.evaluation.suites.tests_file import read_tests_text
from sft_app.runs.folder import Run
from sft_app.runtime.environment import BUNDLED_DIR

ANSWER = "Thank you for writing to us about order AB-{0:04}, we will look at it today. Is number {0} right?"


def suggested(answers: list[str]) -> dict[str, str]:
    return {str(one.check): str(one) for one in suggest_checks(answers)}


def test_what_nearly_all_answers_share_is_suggested() -> None:
    answers = [f"{ANSWER.format(number)}\nKind regards, Anna" for number in range(38)] + ["Sorry, no idea.\nBob"] * 2
    found = suggested(answers)
    assert found['signs_as: "Kind regards, Anna"'] == "38 of 40 answers end with “Kind regards, Anna”"
    assert found["asks_question: true"] == "38 of 40 answers ask a question"
    assert found['language: "en"'] == "38 of 40 answers are clearly in English"
    assert found[r'regex: "\\bAB\\-\\d{4}\\b"'].startswith("38 of 40 answers contain a code such as an order number")
    assert "words: [4, 23]" in found or "words: [4, 22]" in found
    assert "json: true" not in found and "asks_question: false" not in found


def test_labels_become_one_check() -> None:
    found = suggested(["spam", "ham"] * 10)
    assert list(found.values()) == ["20 of 20 answers are one of the labels ham, spam"]


def test_sentences_without_spaces_are_no_labels() -> None:
    found = suggested(["您的订单已经发货，预计三天后到达。", "请您提供订单号，我们马上为您查询。"] * 10)
    assert found["words: [15, 15]"].endswith(
        "have 15 to 15 words (each character of a script without spaces counts as one)"
    )
    assert list(suggested(["账单问题", "技术支持"] * 10).values()) == [
        "20 of 20 answers are one of the labels 技术支持, 账单问题"
    ]


def test_json_is_recognised() -> None:
    assert "json: true" in suggested([json.dumps({"name": f"n{number}"}) for number in range(20)])


@pytest.fixture
def bundled(tmp_path: Path) -> Run:
    run = Run(tmp_path / "r1")
    run.train_file.parent.mkdir(parents=True)
    rows = (BUNDLED_DIR / "examples" / "customer_service.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    run.heldout_file.write_text("".join(rows[:25]), encoding="utf-8")
    run.train_file.write_text("".join(rows[25:]), encoding="utf-8")
    return run


def test_the_bundled_example_gets_tests_that_can_be_run_as_they_are(bundled: Run) -> None:
    found = suggest_tests(bundled)
    text = suggestions_yaml(found)
    suite = read_tests_text(text, "suggested.yaml")
    assert suite.tests == found.suite().tests and suite.for_all == found.suite().for_all
    assert {check.name for check in suite.for_all} == {"words", "signs_as", "language", "no_repetition"}
    assert "# 252 of 252 answers end with “Nell at Fernhill”" in text and len(suite.tests) == 20


def test_too_few_answers_suggest_nothing(bundled: Run) -> None:
    bundled.train_file.write_text("")
    bundled.heldout_file.write_text(bundled.heldout_file.read_text().splitlines(keepends=True)[0])
    with pytest.raises(DataError, match="at least 8 answers, but this run has 1"):
        suggest_tests(bundled)
