"""Compute the scorecard of a run: predicted answers, generated answers, and what it may have forgotten."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sft_app.data.conversation import Conversation
from sft_app.data.tokens import RenderedConversation, render_last_prompt
from sft_app.errors import AppError, ModelError
from sft_app.evaluation.answer_metrics import score_answer, summarise_answers
from sft_app.evaluation.answer_pairs import AnswerPair, add_pairs, join_as_prompt
from sft_app.evaluation.beside.memorised import AnsweredQuestion, find_memorised
from sft_app.evaluation.beside.prompted import AnsweredRow, score_prompted
from sft_app.evaluation.beside.side_scores import score_sides, with_dropped_sides
from sft_app.evaluation.forgetting.general_questions import (
    GeneralQuestion,
    asking_instead,
    general_questions_file,
    questions_by_number,
    rehearsed_note,
)
from sft_app.evaluation.forgetting.known import ANSWER_TOKENS, MeasuredQuestion, find_known, questions_to_answer
from sft_app.evaluation.forgetting.strength import strength_note
from sft_app.evaluation.prompt_sets import PROMPTS_AT_ONCE
from sft_app.evaluation.scorable_rows import ScorableRow, number_equal, read_scorable_rows
from sft_app.evaluation.scorecard import (
    RowScore,
    correct_for_several,
    make_scorecard,
    score_conversations,
    score_copies,
)
from sft_app.evaluation.selection import with_flattering_tests, without_selection
from sft_app.evaluation.sides.more_sides import MoreSide, open_sides
from sft_app.evaluation.suites.running import run_kept_tests
from sft_app.inference.batch_generation import answer_each
from sft_app.inference.generation import Answer, Sampling
from sft_app.inference.loaded_models import LoadedSide
from sft_app.inference.pair import LoadedPair, activate_both_sides, activate_side
from sft_app.runs.folder import Run
from sft_app.runs.known import Known
from sft_app.runs.scorecard import AnswerScores, ChangedRow, MostChanged, PromptedScores, RowMessage, Scorecard
from sft_app.runtime.progress import ProgressCallback, part_of
from sft_app.runtime.resources import is_out_of_memory

MOST_CHANGED = 10
BothScores = tuple[Sequence[RowScore], Sequence[RowScore]]
BothAnswers = tuple[Answer, Answer]


def keep_score(
    run: Run,
    pair: LoadedPair,
    prompts: int,
    on_progress: ProgressCallback = lambda share: None,
    known: BothScores | None = None,
    runs_tests: bool = True,
    more: Sequence[MoreSide] = (),
    general: Sequence[GeneralQuestion] = (),
) -> Scorecard:
    """Score a run as `score_run` does, and write its `scorecard.json` and the answers to vote on.

    The `general` questions, if any, take the place of the run's own once everything is measured.
    """
    with asking_instead(run, general) as file:
        card, pairs = score_run(run, pair, prompts, on_progress, known, runs_tests, more, file)
        add_pairs(run, pairs)
        card = with_dropped_sides(card, run.scorecard())
        run.keep_scorecard(card)
    return card


def score_run(
    run: Run,
    pair: LoadedPair,
    prompts: int,
    on_progress: ProgressCallback = lambda share: None,
    known: BothScores | None = None,
    runs_tests: bool = True,
    more: Sequence[MoreSide] = (),
    general_file: Path | None = None,
) -> tuple[Scorecard, list[AnswerPair]]:
    """Compute the complete scorecard and the answers; `pair` is the base on the left and the run on the right.

    `dtype` is the precision of both sides, `note` what is unusual about it. `general` has the same numbers for the
    first `general_prompts` general questions (the run's, or those of `general_file`), which are unrelated to the
    training data, and `known` what of them was lost. `answers` compares both sides' answers to the first `prompts`
    held-out questions with the reference answers; without prompts, no general question is answered either. `known` are
    both sides' scores of the held-out conversations, if training already computed them in the same precision. With
    `runs_tests`, the run's own tests are part of it. The sides `more` answer the same questions.

    Raises:
        DataError: no held-out conversation can be read with this model.
        AppError: one of `more` cannot be loaded.
    """
    settings = run.record().settings
    pair, opened = open_sides(pair, more)
    heldout = read_scorable_rows(run.heldout_file, pair.tokenizer, settings.max_length)
    general_file = general_file or general_questions_file(run)
    general = read_scorable_rows(general_file, pair.tokenizer, None)[: settings.general_prompts]
    if known is None or len(known[0]) != len(heldout) or len(known[1]) != len(heldout):
        known = score_both(pair, [row.rendered for row in heldout], part_of(on_progress, 0.0, 0.3))
    copies = number_equal(render_last_prompt(pair.tokenizer, row.conversation) for row in general)
    of_general = score_both(pair, [row.rendered for row in general], part_of(on_progress, 0.3, 0.5))
    questions = [row for row in heldout if not row.conversation.is_text()][:prompts]
    sampling = Sampling(0.0, settings.seed, settings.max_new_tokens)
    answered = _answer_rows(pair, questions, sampling, part_of(on_progress, 0.5, 0.7))
    to_answer = settings.general_answers if prompts and not settings.enable_thinking else 0
    notes = [pair.models.note, strength_note(run.strength()), rehearsed_note(run, general_file)]
    measured: dict[str, Any] = {
        "dtype": pair.models.hardware.dtype,
        "note": ". ".join(filter(None, notes)),
        "primary": settings.primary_measure,
        "general": make_scorecard(*of_general, groups=np.array(copies)) if general else None,
        "known": _known(pair, general_file, (general, copies), of_general, to_answer, part_of(on_progress, 0.7, 0.85)),
        "most_changed": most_changed(heldout, *known, {row.number: both for row, both in answered}),
    }
    groups = np.array([row.group for row in heldout])
    judged, measured["selection"] = without_selection(run, known[1], groups)
    is_flattered = measured["selection"] is not None and measured["selection"].rows == "same"
    rows, sides = _answered_rows(heldout, known, answered), list(zip(more, opened, strict=True))
    if answered:
        measured["answers"] = _compared(answered)
        measured |= _beside_training(run, pair, rows, sampling, is_flattered, part_of(on_progress, 0.85, 0.9))
    measured["sides"] = score_sides(pair, sides, rows, sampling, is_flattered, part_of(on_progress, 0.9, 0.95))
    if runs_tests and (tested := run_kept_tests(run, pair, part_of(on_progress, 0.95, 1.0))):
        tests, suite = tested
        measured["tests"] = with_flattering_tests(run, tests, suite) if suite else tests
    card = correct_for_several(make_scorecard(*known, groups=groups, judged=judged).model_copy(update=measured))
    complete = [(row, both) for row, both in answered if not any(answer.broken for answer in both)]
    return card, [_as_pair(row.conversation, *both) for row, both in complete]


def _known(
    pair: LoadedPair,
    file: Path,
    asking: tuple[Sequence[ScorableRow], Sequence[int]],
    scores: BothScores,
    to_answer: int,
    on_progress: ProgressCallback,
) -> Known | None:
    """Answer the first `to_answer` of the general questions that have checks, and find what was lost.

    `asking` are the questions, and a number for each, which is the same for copies.
    """
    rows, copies = asking
    if not rows:
        return None
    asked = set(questions_to_answer(file, [row.number for row in rows], to_answer))
    answered = _answer_rows(
        pair, [row for row in rows if row.number in asked], Sampling(max_new_tokens=ANSWER_TOKENS), on_progress
    )
    on_progress(1.0)
    questions, answers = questions_by_number(file), {row.number: both for row, both in answered}
    return find_known(
        file,
        [
            MeasuredQuestion(questions[row.number], both, answers.get(row.number), group)
            for row, both, group in zip(rows, zip(*scores, strict=True), copies, strict=True)
        ],
    )


def score_both(
    pair: LoadedPair,
    conversations: Iterable[RenderedConversation],
    on_progress: ProgressCallback = lambda share: None,
) -> tuple[list[RowScore], list[RowScore]]:
    """Score the same conversations with both sides, in one pass if they can be rows of one batch."""
    kept = [conversation for conversation in conversations if conversation.trained > 0]
    with pair.models.lock:
        if not pair.can_share_batch():
            one = _score_alone(pair.loaded_sides[0], kept, lambda share: on_progress(share / 2))
            return one, _score_alone(pair.loaded_sides[1], kept, lambda share: on_progress(0.5 + share / 2))
        with activate_both_sides(pair, 1.0) as model:
            scores = [score_copies(model, conversation, 2) for conversation in _counted(kept, on_progress)]
    return [both[0] for both in scores], [both[1] for both in scores]


def most_changed(
    rows: Sequence[ScorableRow], base: Sequence[RowScore], tuned: Sequence[RowScore], answers: dict[int, BothAnswers]
) -> MostChanged:
    """Find the rows whose answer became easiest and hardest to predict, with both sides' own answers (None if
    broken)."""
    differences = (
        (after.loss - before.loss, index) for index, (before, after) in enumerate(zip(base, tuned, strict=True))
    )
    changes = sorted((change, index) for change, index in differences if math.isfinite(change))

    def changed_row(index: int) -> ChangedRow:
        row = rows[index]
        return ChangedRow(
            row=row.number,
            messages=[RowMessage(**message) for message in row.conversation.as_dicts()],
            base_loss=base[index].loss,
            tuned_loss=tuned[index].loss,
            answers=[None if answer.broken else answer.text for answer in answers.get(row.number, ())],
        )

    better = [index for change, index in changes if change < 0][:MOST_CHANGED]
    worse = [index for change, index in reversed(changes) if change > 0][:MOST_CHANGED]
    return MostChanged(
        improved=[changed_row(index) for index in better], damaged=[changed_row(index) for index in worse]
    )


def _compared(answered: Sequence[tuple[ScorableRow, BothAnswers]]) -> AnswerScores:
    """Compare both sides' answers with the reference answers."""
    references = [(row.conversation.messages[-1].content, both) for row, both in answered]
    base, tuned = ([score_answer(both[side], reference) for reference, both in references] for side in (0, 1))
    return summarise_answers(base, tuned, np.array([row.group for row, _ in answered]))


def _answered_rows(
    heldout: Sequence[ScorableRow], known: BothScores, answered: Sequence[tuple[ScorableRow, BothAnswers]]
) -> list[AnsweredRow]:
    scores = {id(row): (base, tuned) for row, base, tuned in zip(heldout, *known, strict=True)}
    return [
        AnsweredRow(row.number, row.conversation, row.rendered, answers, scores[id(row)], row.group)
        for row, answers in answered
    ]


def _beside_training(
    run: Run,
    pair: LoadedPair,
    rows: Sequence[AnsweredRow],
    sampling: Sampling,
    is_flattered: bool,
    on_progress: ProgressCallback,
) -> dict[str, Any]:
    """Measure what a prompt does instead of training, and how much the answers repeat the training answers.

    Long prompts take more memory than anything before them; a lack of it costs only this part.
    """
    settings = run.record().settings
    count, system = settings.scorecard_prompted, settings.system_prompt
    try:
        prompted = score_prompted(pair, run.train_file, rows, count, system, sampling, on_progress)
    except Exception as error:  # whatever a longer prompt runs into must not cost the other parts
        if not (isinstance(error, AppError) or is_out_of_memory(error)):
            raise
        note = str(error) if isinstance(error, AppError) else "There was not enough memory for the longer prompts."
        prompted = PromptedScores(examples=count, note=note)
    if prompted and is_flattered:
        prompted = prompted.model_copy(update={"is_flattered": True})
    on_progress(1.0)
    whole = [row for row in rows if not any(answer.broken for answer in row.answers)]
    texts = [(row.number, _as_pair(row.conversation, *row.answers)) for row in whole]
    questions = [AnsweredQuestion(number, one.prompt, one.reference, one.base, one.tuned) for number, one in texts]
    found = {"prompted": prompted, "memorised": find_memorised(run.train_file, questions)}
    return {name: value for name, value in found.items() if value is not None}


def _as_pair(conversation: Conversation, base: Answer, tuned: Answer) -> AnswerPair:
    *turns, reference = conversation.as_dicts()
    return AnswerPair(prompt=join_as_prompt(turns), base=base.text, tuned=tuned.text, reference=reference["content"])


def _answer_rows(
    pair: LoadedPair, rows: Sequence[ScorableRow], sampling: Sampling, on_progress: ProgressCallback
) -> list[tuple[ScorableRow, BothAnswers]]:
    """Return each row with both answers to its last question, without rows whose prompt fills the context. Prompts of
    similar length share a batch, because batches are padded."""
    prompts = [render_last_prompt(pair.tokenizer, row.conversation) for row in rows]
    order = sorted(range(len(rows)), key=lambda index: len(prompts[index]))
    answers: dict[int, BothAnswers] = {}
    for start in range(0, len(order), PROMPTS_AT_ONCE):
        batch = order[start : start + PROMPTS_AT_ONCE]
        for index, both in zip(batch, answer_each(pair, [prompts[index] for index in batch], sampling), strict=True):
            if not isinstance(both, ModelError):
                answers[index] = both
        on_progress((start + len(batch)) / len(order))
    return [(rows[index], answers[index]) for index in sorted(answers)]


def _score_alone(
    loaded: LoadedSide, conversations: Sequence[RenderedConversation], on_progress: ProgressCallback
) -> list[RowScore]:
    with activate_side(loaded, 1.0) as model:
        return score_conversations(model, _counted(conversations, on_progress))


def _counted(
    conversations: Sequence[RenderedConversation], on_progress: ProgressCallback
) -> Iterator[RenderedConversation]:
    """Yield the conversations, and report the share done before each one and at the end."""
    for number, conversation in enumerate(conversations):
        on_progress(number / len(conversations))
        yield conversation
    on_progress(1.0)
