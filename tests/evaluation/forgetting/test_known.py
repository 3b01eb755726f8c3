"""What was known before and is lost now: counted, tested, and put into the right sentence."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sft_app.data.conversation import make_conversation
from sft_app.evaluation.checks import parse_checks
from sft_app.evaluation.forgetting.general_questions import GENERAL_QUESTIONS_FILE, GeneralQuestion
from sft_app.evaluation.forgetting.known import KNOWN_LOSS, LEAST_RISE, MeasuredQuestion, find_known
from sft_app.evaluation.forgetting.sentences import WHAT_TO_DO, describe_known, known_sentence
from sft_app.evaluation.results.findings import lost_more_than_gained, situation
from sft_app.evaluation.scorecard import RowScore
from sft_app.evaluation.statistics.exact import clopper_pearson, mcnemar
from sft_app.inference.generation import Answer
from sft_app.runs.known import Known
from sft_app.runs.scorecard import Scorecard

RIGHT, WRONG = Answer("It is Rome.", finished=True), Answer("Where is your order?", finished=True)


def measured(
    before: float = 0.5, after: float = 0.5, answers: tuple[Answer, Answer] | None = None, kind: str = "facts"
) -> MeasuredQuestion:
    messages = [{"role": "user", "content": "The capital of Italy?"}, {"role": "assistant", "content": "Rome."}]
    question = GeneralQuestion(kind, make_conversation(messages), parse_checks([{"contains": "Rome"}]))
    return MeasuredQuestion(question, (RowScore(before * 4, 4, 1), RowScore(after * 4, 4, 1)), answers)


def found(*questions: MeasuredQuestion) -> Known:
    return find_known(GENERAL_QUESTIONS_FILE, questions)


def card(known: Known) -> Scorecard:
    return Scorecard(base={"loss": 1.0}, tuned={"loss": 1.0}, known=known)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (0.2, 0.2, (1, 0, 0)),
        (0.2, KNOWN_LOSS + 0.1, (1, 1, 0)),
        (0.2, KNOWN_LOSS - 0.1, (1, 0, 0)),  # worse, but still predicted well
        (KNOWN_LOSS - 0.1, KNOWN_LOSS + 0.1, (1, 0, 0)),  # a trifle
        (KNOWN_LOSS - 0.1, KNOWN_LOSS - 0.09 + LEAST_RISE, (1, 1, 0)),
        (KNOWN_LOSS + 1, KNOWN_LOSS + 3, (0, 0, 0)),  # never known
        (KNOWN_LOSS + 1, 0.1, (0, 0, 1)),
        (KNOWN_LOSS + 0.1, KNOWN_LOSS - 0.1, (0, 0, 0)),
    ],
)
def test_a_question_is_lost_by_loss_if_it_crosses_the_limit_by_more_than_a_trifle(
    before: float, after: float, expected: tuple[int, int, int]
):
    counts = found(measured(before, after)).by_loss
    assert counts is not None and (counts.known, counts.lost, counts.gained) == expected


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ((RIGHT, RIGHT), (1, 0, 0)),
        ((RIGHT, WRONG), (1, 1, 0)),
        ((WRONG, RIGHT), (0, 0, 1)),
        ((WRONG, WRONG), (0, 0, 0)),
    ],
)
def test_a_question_is_lost_by_answer_if_only_the_base_passes_its_checks(
    answers: tuple[Answer, Answer], expected: tuple[int, int, int]
):
    counts = found(measured(answers=answers)).by_answer
    assert counts is not None and (counts.known, counts.lost, counts.gained) == expected


def test_counts_have_kinds_the_exact_interval_and_the_paired_test():
    known = found(
        *[measured(answers=(RIGHT, WRONG), kind="facts")] * 6,
        *[measured(answers=(RIGHT, RIGHT), kind="refusing")] * 13,
        measured(answers=(WRONG, RIGHT), kind="refusing"),
        measured(kind="languages"),
    )
    counts = known.by_answer
    assert counts is not None and (counts.asked, counts.known, counts.lost, counts.gained) == (20, 19, 6, 1)
    assert {kind: (one.known, one.lost) for kind, one in counts.kinds.items()} == {"facts": (6, 6), "refusing": (13, 0)}
    assert (counts.low, counts.high) == clopper_pearson(6, 19)
    assert counts.p_value == mcnemar(6, 1)
    assert counts.p_holm == pytest.approx(2 * mcnemar(6, 1)), "two ways of measuring"
    assert known.by_loss is not None and known.by_loss.asked == 21


def test_a_lost_question_can_be_read_with_both_answers_and_what_is_wrong():
    (lost,) = found(measured(0.2, 3.0, (RIGHT, WRONG)), measured()).lost
    assert (lost.question, lost.reference, lost.base, lost.tuned) == (
        "The capital of Italy?",
        "Rome.",
        RIGHT.text,
        WRONG.text,
    )
    assert lost.lost_by_loss and lost.lost_by_answer and lost.failed == ["The answer does not contain “Rome”."]


def test_the_file_of_the_questions_is_recorded(tmp_path: Path):
    own = tmp_path / "own.jsonl"
    own.write_text("{}\n")
    assert find_known(own, [measured()]).file == "own.jsonl"
    assert find_known(own, [measured()]).sha256 != found(measured()).sha256
    assert found(measured()).file == ""


def test_a_record_survives_its_file():
    written = json.loads(json.dumps(card(found(measured(0.2, math.nan, (RIGHT, WRONG)))).as_record()))
    assert Scorecard.model_validate(written).as_record() == written
    assert Scorecard.model_validate({"base": {"loss": 1.0}, "tuned": {"loss": 1.0}}).known is None


SITUATIONS: list[tuple[str, list[MeasuredQuestion], str]] = [
    ("nothing lost", [measured(answers=(RIGHT, RIGHT))] * 20, "the fine-tuned model still knows all 20 that"),
    (
        "some lost",
        [measured(answers=(RIGHT, WRONG))] * 9 + [measured()] * 9,
        "The fine-tuned model forgot something: of 9 general questions",
    ),
    ("some lost", [measured(0.1, 4.0)] * 9 + [measured()] * 9, "it predicts 9 worse (50%, 95%"),
    ("some lost", [measured(0.1, 4.0)] + [measured()] * 30, "So few could be chance: read the lost questions"),
    (
        "some lost",
        [measured(0.1, 4.0), measured(4.0, 0.1), *[measured()] * 30],
        "It also gained some, so this could be",
    ),
    (
        "too few known",
        [measured()] * 4 + [measured(4.0, 4.0)] * 9,
        "of 13 general questions, the base model knew 4, and at least 10 are needed",
    ),
    ("none known", [measured(4.0, 9.0, (WRONG, WRONG))] * 13, "the base model knows none of the 13 general questions"),
    ("not a number", [measured(0.1, math.nan)] * 13, "a model produced values that are not numbers"),
    (
        "not a number",
        [measured(answers=(RIGHT, Answer("Ro", broken=True)))] * 13,
        "Train again with a lower learning rate".lower(),
    ),
]


@pytest.mark.parametrize(("expected", "questions", "words"), SITUATIONS)
def test_every_situation_gets_its_sentence(expected: str, questions: list[MeasuredQuestion], words: str):
    known = found(*questions)
    assert situation(known) == expected
    assert words in known_sentence(card(known))
    assert (WHAT_TO_DO in known_sentence(card(known))) == (expected == "some lost")
    text = describe_known(card(known))
    assert text is not None and text.is_worse == known_sentence(card(known)).startswith(
        "The fine-tuned model forgot something"
    )


def test_kinds_of_lost_questions_are_named():
    lost: Any = [measured(answers=(RIGHT, WRONG), kind=kind) for kind in ("facts", "refusing", "facts")]
    assert "; facts 2, refusing 1)" in known_sentence(card(found(*lost)))


def copies(question: MeasuredQuestion, times: int, group: int = 1) -> list[MeasuredQuestion]:
    return [replace(question, group=group)] * times


def test_copies_of_a_question_are_one_observation():
    """Eight copies that are lost are one lost question, which can be chance; eight different ones cannot."""
    once, apart = measured(0.1, 4.0, (RIGHT, WRONG)), [measured(0.1, 4.0, (RIGHT, WRONG))] * 8
    known = found(*copies(once, 8))
    for counts in (known.by_loss, known.by_answer):
        assert counts is not None and (counts.asked, counts.known, counts.lost, counts.p_value) == (1, 1, 1, 1.0)
        assert (counts.low, counts.high) == clopper_pearson(1, 1)
    assert len(known.lost) == 1 and not lost_more_than_gained(known)
    assert len(found(*apart).lost) == 8 and lost_more_than_gained(found(*apart))


def test_a_question_with_several_reference_answers_is_known_only_with_all_of_them():
    one, other = copies(measured(0.1, 0.1), 1)[0], copies(measured(0.1, 4.0), 1)[0]
    known = found(one, other, replace(measured(4.0, 4.0), group=2), replace(measured(0.1, 4.0), group=2))
    assert known.by_loss is not None and (known.by_loss.asked, known.by_loss.known, known.by_loss.lost) == (2, 1, 1)
    (lost,) = known.lost
    assert lost.tuned_loss == 4.0
