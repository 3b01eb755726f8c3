"""Compare the fine-tuned model's answers with those of further sides: other models, a prompt, recorded answers."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from sft_app.data.conversation import Conversation, make_conversation
from sft_app.data.split import RelatedRows
from sft_app.data.tokens import render_last_prompt
from sft_app.errors import AppError, DataError
from sft_app.evaluation.answer_metrics import score_answer, summarise_answers
from sft_app.evaluation.beside.prompted import AnsweredRow
from sft_app.evaluation.prompt_sets import PROMPTS_AT_ONCE
from sft_app.evaluation.selection import choosing_file
from sft_app.evaluation.sides.more_sides import (
    NO_RECORDED_ANSWER,
    AnswerQuestions,
    ModelSide,
    MoreSide,
    Question,
    SideText,
    side_notes,
)
from sft_app.inference.generation import Answer, Sampling
from sft_app.inference.pair import LoadedPair
from sft_app.runs.directory import list_runs
from sft_app.runs.scorecard import Scorecard, SideAnswers, SideScores
from sft_app.runtime.environment import BUNDLED_DIR
from sft_app.runtime.files import iterate_jsonl
from sft_app.runtime.progress import ProgressCallback, part_of
from sft_app.runtime.resources import is_out_of_memory
from sft_app.settings import EXAMPLE_ADAPTER, EXAMPLE_DATA

NO_MEMORY = "There was not enough memory for its answers."
NO_ANSWERS = "It has no answer to any of the questions."
NO_QUESTIONS = "No held-out question could be asked."
UNKNOWN_DATA = "It is not known whether it was trained on these questions."
PROMPT_FORM = (
    "A recorded answer is found by its question, word for word; in a conversation of several turns, by all of them, "
    "written as `user: …` and `assistant: …` with an empty line in between."
)


def with_dropped_sides(card: Scorecard, before: Scorecard | None) -> Scorecard:
    """Note in a new scorecard which further sides of the one before were not asked again."""
    asked = {side.name for side in card.sides}
    dropped = [side.label for side in before.sides if side.name not in asked] if before else []
    if not dropped:
        return card
    told = f"sides of the previous scorecard that were not asked this time: {', '.join(dropped)}"
    return card.model_copy(update={"note": ". ".join(filter(None, [card.note, told]))})


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
    labels = _different_labels(pair.sides[1].label, [side for side, _ in sides])
    for (side, answer), part, label in zip(sides, parts, labels, strict=True):
        named = SideAnswers(name=_public_name(side), label=label, is_flattered=is_flattered)
        try:
            described = _described(named, side, pair, rows)
            found.append(_compared(described, rows, _ask(answer, questions, sampling, part)))
        except Exception as error:  # whatever one side runs into must not cost the other parts
            if not (isinstance(error, AppError) or is_out_of_memory(error)):
                raise
            found.append(named.model_copy(update={"note": str(error) if isinstance(error, AppError) else NO_MEMORY}))
    return found


def _different_labels(right: str, sides: Sequence[MoreSide]) -> list[str]:
    """Return a label for each side that neither another one nor the right side has."""
    labels = [right, *(side.label for side in sides)]
    named = [side.label if labels.count(side.label) == 1 else f"{side.label} · {_public_name(side)}" for side in sides]
    return [label if named.count(label) == 1 else f"{label} ({number})" for number, label in enumerate(named, start=1)]


def _public_name(side: MoreSide) -> str:
    """Return a side's name without the path of a folder."""
    return Path(side.name).name if Path(side.name).expanduser().exists() else side.name


def _described(named: SideAnswers, side: MoreSide, pair: LoadedPair, rows: Sequence[AnsweredRow]) -> SideAnswers:
    """Add what is to know about a side before it answers: a run may have been trained on these very questions."""
    notes, seen = side_notes(pair.sides, [side]), None
    if isinstance(side, ModelSide) and side.side.folder is not None:
        seen = _count_seen(side.side.folder, [row.conversation for row in rows], pair.models.home)
    return named.model_copy(
        update={"trained_on": seen or 0, "note": " ".join([*notes, *([UNKNOWN_DATA] if seen is None else [])])}
    )


def _count_seen(folder: Path, questions: Sequence[Conversation], home: Path) -> int | None:
    """Return how many questions are related to what the run of a folder was trained on or chosen by; None if unknown.

    Related as the split sees it: near duplicates count.
    """
    run = next((run for run in list_runs(home) if folder.is_relative_to(run.path.resolve())), None)
    if folder == BUNDLED_DIR / EXAMPLE_ADAPTER:
        files = [BUNDLED_DIR / EXAMPLE_DATA]
    elif run is None or not run.train_file.is_file():
        return None
    else:
        files = [file for file in (run.train_file, choosing_file(run)) if file]
    rows, count = RelatedRows(), 0
    for file in files:
        for row in iterate_jsonl(file) if file.is_file() else ():
            with suppress(DataError):  # an edited file; training skipped the row too
                rows.add(count, make_conversation(row["messages"]))
                count += 1
    for number, question in enumerate(questions, start=count):
        rows.add(number, question)
    groups = rows.groups()
    return int(np.isin(groups[count:], groups[:count]).sum())


def _compared(named: SideAnswers, rows: Sequence[AnsweredRow], texts: Sequence[SideText]) -> SideAnswers:
    """Return the side with the comparison of its answers and those of the fine-tuned model."""
    answered = [(row, text) for row, text in zip(rows, texts, strict=True) if text.broken or not text.problem]
    missing = [text.problem for text in texts if text.problem and not text.broken]
    if NO_RECORDED_ANSWER in missing:
        named = named.model_copy(update={"note": f"{named.note} {PROMPT_FORM}".strip()})
    if not answered:
        why = f"{NO_ANSWERS} {missing[0]} {named.note}" if missing else NO_QUESTIONS
        return named.model_copy(update={"unanswered": len(missing), "note": why.strip()})
    named = named.model_copy(update={"unanswered": len(missing)})
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
    scores = score_answer(Answer(text.text, finished=bool(text.finished), broken=text.broken), reference)
    is_known = text.broken or text.finished is not None
    return {name: value for name, value in scores.items() if name != "stopped" or is_known}
