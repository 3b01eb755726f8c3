"""Find what was lost: general questions that the base model knew before training and the fine-tuned one no longer does.

The mean of the general check hides it: a few questions that the base knew well can get much worse while the mean
hardly moves. Imports no torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from sft_app.evaluation.checks import failures
from sft_app.evaluation.forgetting.general_questions import GENERAL_QUESTIONS_FILE, GeneralQuestion, questions_by_number
from sft_app.evaluation.statistics.exact import clopper_pearson, holm, mcnemar
from sft_app.runs.known import KindCounts, Known, KnownCounts, LostQuestion

if TYPE_CHECKING:
    from sft_app.evaluation.scorecard import RowScore
    from sft_app.inference.generation import Answer

KNOWN_LOSS = 1.0
"""The largest loss per token, in nats, of a reference answer that a model predicts well: the geometric mean of its
tokens' probabilities is at least 37 %. A choice: docs/LOG.md has the counts at other limits."""
LEAST_RISE = 0.3
"""The least change of the loss that counts, so that a question just below the limit is not lost by a trifle."""
ANSWER_TOKENS = 48
"""The length limit of the answers that are checked. They are short, or they can be judged from their beginning."""
_BOTH, _ONLY_BASE, _ONLY_TUNED, _NEITHER = (True, True), (True, False), (False, True), (False, False)
Knows = tuple[bool, bool]
"""Whether the base and whether the fine-tuned model know a question."""


@dataclass(frozen=True)
class MeasuredQuestion:
    """A question with both sides' scores of its reference answer, and both generated answers if they were asked.

    Questions with the same number in `group` are copies, which count once; None if it has none.
    """

    question: GeneralQuestion
    scores: tuple[RowScore, RowScore]
    answers: tuple[Answer, Answer] | None = None
    group: int | None = None


def find_known(file: Path, measured: Sequence[MeasuredQuestion]) -> Known:
    """Count what the base knew and the fine-tuned model no longer does, and list it with both answers."""
    scored, answered = by_loss(measured), by_answer(measured)
    losses = [score.loss for one in measured for score in one.scores]
    broken_loss = not all(map(math.isfinite, losses))
    broken_answer = any(answer.broken for one in measured for answer in one.answers or ())
    copies = _groups(measured)
    kinds = [measured[same[0]].question.kind for same in copies]
    once = [[_together([known[place] for place in same]) for same in copies] for known in (scored, answered)]
    counts = _corrected(
        None if broken_loss else count_known(kinds, once[0]),
        None if broken_answer or not any(answered) else count_known(kinds, once[1]),
    )
    unknown: list[Knows | None] = [None] * len(measured)
    ways = [unknown if part is None else known for part, known in zip(counts, (scored, answered), strict=True)]
    return Known(
        file="" if file == GENERAL_QUESTIONS_FILE else file.name,
        sha256=sha256(file.read_bytes()).hexdigest(),
        is_broken=broken_loss or broken_answer,
        by_loss=counts[0],
        by_answer=counts[1],
        lost=_lost_questions(measured, copies, ways),
    )


def by_loss(measured: Sequence[MeasuredQuestion]) -> list[Knows | None]:
    """Return who predicts each reference answer well.

    A question changes hands only if the loss crosses `KNOWN_LOSS` and moves by at least `LEAST_RISE`; otherwise both
    sides count as the base does.
    """
    found: list[Knows | None] = []
    for one in measured:
        before, after = (score.loss for score in one.scores)
        base, tuned = before <= KNOWN_LOSS, after <= KNOWN_LOSS
        found.append((base, tuned if abs(after - before) >= LEAST_RISE else base))
    return found


def by_answer(measured: Sequence[MeasuredQuestion]) -> list[Knows | None]:
    """Return whose answer to each question passes its checks; None if it was not asked."""
    return [
        (not failed_checks(one, 0), not failed_checks(one, 1)) if one.answers is not None else None for one in measured
    ]


def failed_checks(one: MeasuredQuestion, side: int) -> list[str]:
    """Return what is wrong with a side's answer."""
    if one.answers is None:
        return []
    answer = one.answers[side]
    return failures(one.question.checks, answer.text, answer.finished)


def count_known(named: Sequence[str], known: Sequence[Knows | None]) -> KnownCounts:
    """Count the questions in total and by kind, with the exact interval of the share lost and the paired test.

    `named` has the kind of each question, and `known` who knows it; no two of them may be copies.
    """
    pairs = [(kind, who) for kind, who in zip(named, known, strict=True) if who is not None]
    kinds = {name: _count([who for kind, who in pairs if kind == name]) for name in dict.fromkeys(k for k, _ in pairs)}
    total = _count([who for _, who in pairs])
    low, high = clopper_pearson(total.lost, total.known) if total.known else (0.0, 1.0)
    p_value = mcnemar(total.lost, total.gained)
    return KnownCounts(**total.model_dump(), low=low, high=high, p_value=p_value, p_holm=p_value, kinds=kinds)


def questions_to_answer(file: Path, numbers: Sequence[int], most: int) -> list[int]:
    """Return the first `most` of these lines of the file whose questions have checks."""
    questions = questions_by_number(file)
    return [number for number in numbers if questions[number].checks][:most]


def _groups(measured: Sequence[MeasuredQuestion]) -> list[list[int]]:
    """Return the places of the questions, copies together."""
    together: dict[int, list[int]] = {}
    for place, one in enumerate(measured):
        together.setdefault(-1 - place if one.group is None else one.group, []).append(place)
    return list(together.values())


def _together(known: Sequence[Knows | None]) -> Knows | None:
    """Return who knows a question that was asked several times: a side that knows it each time."""
    asked = [who for who in known if who is not None]
    return (all(base for base, _ in asked), all(tuned for _, tuned in asked)) if asked else None


def _count(known: Sequence[Knows]) -> KindCounts:
    return KindCounts(
        asked=len(known),
        known=sum(base for base, _ in known),
        lost=known.count(_ONLY_BASE),
        gained=known.count(_ONLY_TUNED),
    )


def _corrected(loss: KnownCounts | None, answer: KnownCounts | None) -> tuple[KnownCounts | None, KnownCounts | None]:
    """Correct both p-values for each other, because either can say that something was lost."""
    named = {"loss": loss, "answer": answer}
    p_values = holm({name: counts.p_value for name, counts in named.items() if counts is not None})
    one, other = (counts and counts.model_copy(update={"p_holm": p_values[name]}) for name, counts in named.items())
    return one, other


def _lost_questions(
    measured: Sequence[MeasuredQuestion], copies: Sequence[Sequence[int]], ways: Sequence[Sequence[Knows | None]]
) -> list[LostQuestion]:
    """Return each lost question once; `ways` has who knows the questions, for each way of measuring."""
    found = []
    for same in copies:
        lost = [_together([known[place] for place in same]) == _ONLY_BASE for known in ways]
        if any(lost):
            showing = (
                place
                for place in same
                for is_lost, known in zip(lost, ways, strict=True)
                if is_lost and known[place] == _ONLY_BASE
            )
            found.append(_lost_question(measured[next(showing)], *lost))
    return found


def _lost_question(one: MeasuredQuestion, lost_by_loss: bool, lost_by_answer: bool) -> LostQuestion:
    messages = one.question.conversation.messages
    base, tuned = (answer.text for answer in one.answers) if one.answers is not None else (None, None)
    return LostQuestion(
        kind=one.question.kind,
        question=messages[-2].content if len(messages) > 1 else "",
        reference=messages[-1].content,
        base_loss=one.scores[0].loss,
        tuned_loss=one.scores[1].loss,
        lost_by_loss=lost_by_loss,
        lost_by_answer=lost_by_answer,
        base=base,
        tuned=tuned,
        failed=failed_checks(one, 1) if lost_by_answer else [],
    )
