"""The general questions: ours are sound, and a file of your own is read or refused with the reason."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from sft_app.errors import DataError
from sft_app.evaluation.checks import failures
from sft_app.evaluation.forgetting.general_questions import (
    GENERAL_QUESTIONS_FILE,
    keep_general_questions,
    questions_by_number,
    read_general_questions,
)
from sft_app.settings import RunSettings
from sft_app.training.estimates.speed import GENERAL_QUESTIONS

ROW = {
    "kind": "facts",
    "messages": [
        {"role": "user", "content": "What is the capital of Italy?"},
        {"role": "assistant", "content": "Rome"},
    ],
    "checks": [{"contains": "Rome"}],
}


def test_ours_have_enough_questions_of_every_kind():
    questions = read_general_questions(GENERAL_QUESTIONS_FILE)
    kinds = Counter(question.kind for question in questions)
    assert len(questions) == GENERAL_QUESTIONS >= 120
    assert len(kinds) >= 6 and min(kinds.values()) >= 14
    texts = [question.conversation.first_user_text() for question in questions]
    assert len(set(texts)) == len(texts)


def test_the_first_of_ours_hold_every_kind_equally():
    kinds = [question.kind for question in read_general_questions(GENERAL_QUESTIONS_FILE)]
    assert set(kinds[:8]) == set(kinds)
    counted = Counter(kinds[: RunSettings().general_answers])
    assert set(counted) == set(kinds) and max(counted.values()) <= 2 * min(counted.values())


def test_our_reference_answers_pass_their_own_checks_and_an_empty_answer_fails():
    for question in read_general_questions(GENERAL_QUESTIONS_FILE):
        text = question.conversation.first_user_text()
        assert question.checks, text
        assert failures(question.checks, question.conversation.messages[-1].content, True) == [], text
        assert failures(question.checks, "", True), text


def test_babble_passes_no_check_of_ours():
    for babble in ("the the the the the the the the", "Order order #### order", "}{ 0x 0x 0x"):
        for question in read_general_questions(GENERAL_QUESTIONS_FILE):
            assert failures(question.checks, babble, False), (babble, question.conversation.first_user_text())


YAML = """
questions:
  - kind: facts
    messages:
      - {role: user, content: 'What is the capital of Italy?'}
      - {role: assistant, content: Rome}
    checks:
      - contains: Rome
"""


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("own.jsonl", f"{json.dumps(ROW)}\n\n"),
        ("own.json", json.dumps([ROW])),
        ("own.json", json.dumps({"questions": [ROW]})),
        ("own.yaml", YAML),
    ],
)
def test_every_form_of_a_file_gives_the_same_questions(name: str, text: str, tmp_path: Path):
    (tmp_path / name).write_text(text)
    (question,) = read_general_questions(tmp_path / name)
    assert question.as_row() == ROW
    keep_general_questions(tmp_path / "kept.jsonl", [question])
    assert questions_by_number(tmp_path / "kept.jsonl") == {1: question}


def test_kind_and_checks_are_optional(tmp_path: Path):
    (tmp_path / "own.jsonl").write_text(json.dumps({"messages": ROW["messages"]}))
    (question,) = read_general_questions(tmp_path / "own.jsonl")
    assert (question.kind, question.checks) == ("other", ())


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("own.jsonl", "", "own.jsonl contains no general questions"),
        ("own.jsonl", "{", "own.jsonl, line 1: this is not JSON"),
        ("own.jsonl", f"{json.dumps(ROW)}\n[1]", "own.jsonl, line 2: there are no messages"),
        ("own.jsonl", json.dumps({**ROW, "kind": 7}), "line 1: the kind must be a text, such as facts, got 7"),
        ("own.jsonl", json.dumps({**ROW, "checks": [{"contain": "x"}]}), "line 1: .*Did you mean 'contains'"),
        ("own.jsonl", json.dumps({**ROW, "messages": ROW["messages"][:1]}), "line 1: there is no assistant message"),
        ("own.jsonl", "[" * 100_000, "own.jsonl, line 1: this is not JSON"),
        (
            "own.jsonl",
            json.dumps({"messages": ROW["messages"], "check": []}),
            "'check'. Did you mean 'checks'",
        ),
        ("own.json", json.dumps({"questions": [ROW], "kind": "a"}), "own.json has the unknown key 'kind'"),
        ("own.yaml", "- {messages: !!int x}", "types such as !!int are not supported"),
        ("own.json", "{}", "own.json must contain a list of general questions"),
        ("own.yaml", "- [", "own.yaml cannot be read as YAML"),
        ("own.yaml", "- 1", "own.yaml, question 1: there are no messages"),
        ("own.csv", "a,b", "own.csv must be a .jsonl, .json, .yaml or .yml file"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_the_reason(name: str, text: str, reason: str, tmp_path: Path):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=reason):
        read_general_questions(tmp_path / name)


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(DataError, match=r"none\.jsonl cannot be read: No such file"):
        read_general_questions(tmp_path / "none.jsonl")


def test_a_text_with_commas_that_an_earlier_version_kept_is_one_text(tmp_path: Path) -> None:
    row = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello, you."}]}
    (tmp_path / "kept.jsonl").write_text(json.dumps({**row, "checks": [{"contains_any": "Hello, you"}]}) + "\n")
    (check,) = questions_by_number(tmp_path / "kept.jsonl")[1].checks
    assert check.as_dict() == {"contains_any": ["Hello, you"]}
