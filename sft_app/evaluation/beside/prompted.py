"""Measure whether a prompt does as well as training: the base model with training examples before each question."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sft_app.data.conversation import Conversation
from sft_app.data.tokens import IGNORED, RenderedConversation, render_conversation, render_last_prompt, stop_ids
from sft_app.errors import DataError
from sft_app.evaluation.answer_metrics import score_answer, summarise_answers
from sft_app.evaluation.prompt_sets import PROMPTS_AT_ONCE
from sft_app.evaluation.scorecard import RowScore, make_scorecard, score_conversations
from sft_app.evaluation.sides.examples import NearestExamples, Prompted, last_turn_only, prompt_room, with_examples
from sft_app.inference.generation import Answer, Sampling, answer_prompts, context_length
from sft_app.inference.loaded_models import LoadedSide
from sft_app.inference.pair import LoadedPair, activate_side
from sft_app.runs.scorecard import AnswerScores, PredictedScores, PromptedScores, SideScores
from sft_app.runtime.progress import ProgressCallback

MOST_ROWS = PROMPTS_AT_ONCE
"""On a CPU, each batch of long prompts takes as long as the answers of both sides to twice as many questions."""
NOT_TAKEN = "The chat template does not accept examples as earlier turns: {reason}"
NO_EXAMPLES = "The training data has no questions and answers to use as examples."


@dataclass(frozen=True)
class AnsweredRow:
    """A held-out conversation with both sides' answers to its last question and scores of all its answers.

    `number` is its row in the data file. Rows with the same `group` are related, and count as one.
    """

    number: int
    conversation: Conversation
    rendered: RenderedConversation
    answers: tuple[Answer, Answer]
    scores: tuple[RowScore, RowScore]
    group: int = 0


@dataclass(frozen=True)
class _Asked:
    """A row with its prompt: the conversation with examples, its tokens, and the answer."""

    row: AnsweredRow
    prompted: Prompted
    prompt: list[int]


@dataclass(frozen=True)
class _LastTurns:
    """The last answer of a row, with and without the prompt; the trained tokens of both are the same."""

    row: AnsweredRow
    plain: RenderedConversation
    prompted: RenderedConversation

    def is_whole_row(self) -> bool:
        """Return whether the row's own scores are those of its last answer."""
        return self.plain.labels == self.row.rendered.labels


def score_prompted(
    pair: LoadedPair,
    train_file: Path,
    rows: Sequence[AnsweredRow],
    count: int,
    system: str,
    sampling: Sampling,
    on_progress: ProgressCallback = lambda share: None,
) -> PromptedScores | None:
    """Ask the base model the first `MOST_ROWS` questions with the `count` nearest training examples in front of each.

    Everything else is equal: the chat template, the sampling and the reference answers. The fine-tuned model is asked
    without examples, as it was trained. None if there is nothing to ask or `count` is 0.
    """
    if not rows or not count:
        return None
    rows = rows[:MOST_ROWS]
    began, index = time.perf_counter(), NearestExamples(train_file)
    if not len(index):
        return PromptedScores(examples=count, note=NO_EXAMPLES)
    found = index.find([row.conversation for row in rows], count)
    try:
        asked = [_ask(pair, row, examples, system, sampling) for row, examples in zip(rows, found, strict=True)]
    except DataError as error:
        return PromptedScores(examples=count, note=NOT_TAKEN.format(reason=error))
    with pair.models.lock:
        answered = _answer(pair, asked, sampling, lambda share: on_progress(0.7 * share))
        turns = [turn for one in asked if (turn := _last_turns(pair, one))]
        losses = _losses(pair, turns, lambda share: on_progress(0.7 + 0.3 * share))
    answers, base_answers = _compare_answers(answered)
    predicted, base_losses = _compare_losses(losses, [turn.row.group for turn in turns])
    return PromptedScores(
        examples=count,
        used=float(np.mean([one.prompted.examples for one in asked])),
        has_system=bool(system),
        left_out=len(asked) - len(answered),
        predicted=predicted,
        answers=answers,
        base={**base_losses, **base_answers},
        seconds=time.perf_counter() - began,
    )


def _ask(
    pair: LoadedPair, row: AnsweredRow, examples: Sequence[Conversation], system: str, sampling: Sampling
) -> _Asked:
    room = prompt_room(_context(pair), max(sampling.max_new_tokens, row.rendered.trained))
    made = with_examples(pair.tokenizer, row.conversation, examples, system, room)
    return _Asked(row, made, render_last_prompt(pair.tokenizer, made.conversation))


def _answer(
    pair: LoadedPair, asked: Sequence[_Asked], sampling: Sampling, on_progress: ProgressCallback
) -> list[tuple[AnsweredRow, Answer]]:
    """Return the base's answers to the prompts that fit. Prompts of similar length share a batch."""
    fitting = sorted((one for one in asked if len(one.prompt) < _context(pair)), key=lambda one: len(one.prompt))
    answers: list[tuple[AnsweredRow, Answer]] = []
    with activate_side(pair.loaded_sides[0], 1.0) as model:
        for start in range(0, len(fitting), PROMPTS_AT_ONCE):
            batch = fitting[start : start + PROMPTS_AT_ONCE]
            prompts = [one.prompt for one in batch]
            found = answer_prompts(model, pair.tokenizer, prompts, sampling, stop_ids(pair.tokenizer))
            answers += [(one.row, answer) for one, answer in zip(batch, found, strict=True)]
            on_progress(len(answers) / len(fitting))
    return answers


def _last_turns(pair: LoadedPair, asked: _Asked) -> _LastTurns | None:
    """Return the last answer with and without the prompt; None if it is cut or not trained, or its tokens differ."""
    row = asked.row
    if row.rendered.is_cut or not row.conversation.messages[-1].trained:
        return None
    plain, prompted = (
        render_conversation(pair.tokenizer, last_turn_only(conversation), _context(pair))
        for conversation in (row.conversation, asked.prompted.conversation)
    )
    same = _trained_tokens(plain) == _trained_tokens(prompted)
    return _LastTurns(row, plain, prompted) if same and not prompted.is_cut else None


def _trained_tokens(rendered: RenderedConversation) -> list[int]:
    return [label for label in rendered.labels if label != IGNORED]


def _losses(
    pair: LoadedPair, turns: Sequence[_LastTurns], on_progress: ProgressCallback
) -> tuple[list[RowScore], list[RowScore], list[RowScore]]:
    """Score the last answers: the base with the prompt, the base without it, and the fine-tuned model."""
    other = [turn.plain for turn in turns if not turn.is_whole_row()]
    base, tuned = (_score(loaded, other) for loaded in pair.loaded_sides)
    prompted: list[RowScore] = []
    for turn in turns:
        prompted += _score(pair.loaded_sides[0], [turn.prompted])
        on_progress(len(prompted) / len(turns))
    return prompted, _filled(turns, 0, base), _filled(turns, 1, tuned)


def _score(loaded: LoadedSide, conversations: Sequence[RenderedConversation]) -> list[RowScore]:
    with activate_side(loaded, 1.0) as model:
        return score_conversations(model, conversations)


def _filled(turns: Sequence[_LastTurns], side: int, others: Iterable[RowScore]) -> list[RowScore]:
    """Return a score for each turn: the one already known for the row, or the next of `others`."""
    following = iter(others)
    return [turn.row.scores[side] if turn.is_whole_row() else next(following) for turn in turns]


def _compare_answers(answered: Sequence[tuple[AnsweredRow, Answer]]) -> tuple[AnswerScores | None, SideScores]:
    """Compare the answers with the prompt and those of the fine-tuned model; also return the base's own numbers."""
    if not answered:
        return None, {}
    references = [row.conversation.messages[-1].content for row, _ in answered]
    sides = [[answer for _, answer in answered], *([row.answers[side] for row, _ in answered] for side in (0, 1))]
    prompted, base, tuned = (
        [score_answer(answer, reference) for answer, reference in zip(side, references, strict=True)] for side in sides
    )
    groups = np.array([row.group for row, _ in answered])
    return summarise_answers(prompted, tuned, groups), summarise_answers(base, tuned).base


def _compare_losses(
    losses: tuple[Sequence[RowScore], Sequence[RowScore], Sequence[RowScore]], groups: Sequence[int]
) -> tuple[PredictedScores | None, SideScores]:
    prompted, base, tuned = losses
    if not prompted:
        return None, {}
    return make_scorecard(prompted, tuned, groups=np.array(groups)), make_scorecard(base, tuned).base


def _context(pair: LoadedPair) -> int:
    return context_length(pair.models.model)
