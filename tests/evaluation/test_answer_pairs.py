"""The pairs of answers that a run keeps."""

from __future__ import annotations

from pathlib import Path

from sft_app.evaluation.answer_pairs import AnswerPair, add_pairs, join_as_prompt, read_pairs
from sft_app.runs.folder import Run


def test_a_pair_is_kept_once(tmp_path: Path) -> None:
    one, other = (
        AnswerPair(prompt="Hi?", base="a", tuned="b", reference="c"),
        AnswerPair(prompt="Hi?", base="a", tuned="d"),
    )
    add_pairs(Run(tmp_path), [one, one])
    add_pairs(Run(tmp_path), [other, one])
    assert read_pairs(Run(tmp_path)) == [one, other]


def test_a_run_without_answers_keeps_none(tmp_path: Path) -> None:
    assert read_pairs(Run(tmp_path)) == []


def test_a_pair_is_known_by_prompt_and_answers() -> None:
    assert (
        AnswerPair(prompt="q", base="a", tuned="b").id
        == AnswerPair(prompt="q", base="a", tuned="b", reference="reference").id
    )
    assert AnswerPair(prompt="q", base="a", tuned="b").id != AnswerPair(prompt="q", base="b", tuned="a").id


def test_a_single_question_is_told_as_it_is_and_turns_with_who_spoke() -> None:
    system, question = {"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi?"}
    assert join_as_prompt([system, question]) == "Hi?"
    answer = {"role": "assistant", "content": "Hello."}
    assert join_as_prompt([question, answer, question]) == "user: Hi?\n\nassistant: Hello.\n\nuser: Hi?"
