"""Compare the fine-tuned model's answers with those of further sides: other models, a prompt, recorded answers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sft_app.data.split import opening_question
from sft_app.data.tokens import render_last_prompt
from sft_app.errors import AppError
from sft_app.evaluation.answer_metrics import score_answer, summarise_answers
from sft_app.evaluation.beside.prompted import AnsweredRow
from sft_app.evaluation.prompt_sets import PROMPTS_AT_ONCE
from sft_app.evaluation.selection import count_seen
from sft_app.evaluation.sides.more_sides import AnswerQuestions, ModelSide, MoreSide, Question, SideText, side_notes
from sft_app.inference.generation import Answer, Sampling
from sft_app.inference.pair import LoadedPair
from sft_app.inference.sides import run_of_side
from sft_app.runs.directory import list_runs
from sft_app.runs.scorecard import SideAnswers, SideScores
from sft_app.runtime.progress import ProgressCallback, part_of
from sft_app.runtime.resources import is_out_of_memory

NO_MEMORY = "There was not enough memory for its answers."
NO_ANSWERS = "It has no answer to any of the questions."
UNKNOWN_DATA = "What this adapter was trained on is not known; it may have learned answers to these questions."


def score_sides(
    pair: LoadedPair,
    sides: Sequence[tuple[MoreSide, AnswerQuestions]],
    rows: Sequence[AnsweredRow],
    sampling: Sampling,
    is_flattered: bool = False,
    on_progress: ProgressCallback = lambda share: None,
) -> list[SideAnswers]:
    """Ask opened sides the questions that the pair has answered, and compare the answers with the references.

    A side that cannot answer costs only its own part. Prompts of similar length share a batch. If the weights of the
    fine-tuned model were chosen on these rows, it `is_flattered`.
    """
    questions = [
        Question(row.conversation.as_copied()[:-1], render_last_prompt(pair.tokenizer, row.conversation))
        for row in rows
    ]
    parts = [part_of(on_progress, number / len(sides), (number + 1) / len(sides)) for number in range(len(sides))]
    found = []
    for (side, answer), part in zip(sides, parts, strict=True):
        described = _described(side, pair, rows).model_copy(update={"is_flattered": is_flattered})
        try:
            texts = _ask(answer, questions, sampling, part)
        except Exception as error:  # whatever one side runs into must not cost the other parts
            if not (isinstance(error, AppError) or is_out_of_memory(error)):
                raise
            note = str(error) if isinstance(error, AppError) else NO_MEMORY
            found.append(described.model_copy(update={"note": note}))
        else:
            found.append(_compared(described, rows, texts))
    return found


def _described(side: MoreSide, pair: LoadedPair, rows: Sequence[AnsweredRow]) -> SideAnswers:
    """Return what is to know about a side before it answers: a run may have been trained on these very questions."""
    notes, seen = side_notes(pair.sides, [side]), 0
    if isinstance(side, ModelSide) and side.side.folder is not None:
        if run := run_of_side(side.name, list_runs(pair.models.home)):
            turns = [row.conversation.messages[:-1] for row in rows]
            seen = count_seen(run, [opening_question((turn.role, turn.content) for turn in one) for one in turns])
        else:
            notes.append(UNKNOWN_DATA)
    return SideAnswers(name=side.name, label=side.label, trained_on=seen, note=" ".join(notes))


def _compared(named: SideAnswers, rows: Sequence[AnsweredRow], texts: Sequence[SideText]) -> SideAnswers:
    """Return the side with the comparison of its answers and those of the fine-tuned model."""
    answered = [(row, text) for row, text in zip(rows, texts, strict=True) if not text.problem]
    named = named.model_copy(update={"unanswered": len(rows) - len(answered)})
    if not answered:
        return named.model_copy(update={"note": NO_ANSWERS})
    references = [row.conversation.messages[-1].content for row, _ in answered]
    theirs = [_scores(text, reference) for (_, text), reference in zip(answered, references, strict=True)]
    tuned = [score_answer(row.answers[1], reference) for (row, _), reference in zip(answered, references, strict=True)]
    groups = np.array([row.group for row, _ in answered])
    return named.model_copy(update={"answers": summarise_answers(theirs, tuned, groups)})


def _ask(
    answer: AnswerQuestions, questions: Sequence[Question], sampling: Sampling, on_progress: ProgressCallback
) -> list[SideText]:
    order = sorted(range(len(questions)), key=lambda index: len(questions[index].prompt))
    texts: dict[int, SideText] = {}
    for start in range(0, len(order), PROMPTS_AT_ONCE):
        batch = order[start : start + PROMPTS_AT_ONCE]
        texts |= zip(batch, answer([questions[index] for index in batch], sampling), strict=True)
        on_progress(len(texts) / len(order))
    return [texts[index] for index in range(len(questions))]


def _scores(text: SideText, reference: str) -> SideScores:
    """Return every metric that is known: nobody knows whether recorded answers were ended by their model."""
    scores = score_answer(Answer(text.text, finished=bool(text.finished)), reference)
    return {name: value for name, value in scores.items() if name != "stopped" or text.finished is not None}
