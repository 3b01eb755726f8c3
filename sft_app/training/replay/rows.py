"""Add the replayed conversations to the rows that a run trains on."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any

from datasets import Dataset, concatenate_datasets

from sft_app.data.checkup.finding import count_of
from sft_app.data.conversation import make_conversation
from sft_app.data.tokens import render_conversation
from sft_app.errors import AppError
from sft_app.models.loading import free_memory
from sft_app.runs.folder import Run
from sft_app.runtime.files import write_jsonl_atomically
from sft_app.runtime.resources import is_out_of_memory
from sft_app.settings import RunSettings, replay_obstacle, replayed_conversations
from sft_app.settings.recipe import MOST_REPEATS
from sft_app.training.replay.answers import Row, answer_as_base
from sft_app.training.replay.prompts import prompts_for

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)
NOT_REPLAYED = "No general conversations were mixed in"
NO_ANSWERS = "the base model's answers failed; the run's log says why"
NO_MEMORY = "there was not enough memory for the base model's answers"


def add_replay(
    run: Run, settings: RunSettings, model: Any, tokenizer: PreTrainedTokenizerBase, train: Dataset, max_length: int
) -> tuple[Dataset, str]:
    """Return the training rows with the replayed ones after them, and a sentence for the person.

    The base model answers once; a resumed run, and the other processes of a run, read its answers from the run folder.
    `model` is the one to be trained, before its first step. An error costs only the replay.
    """
    if not settings.replay:
        return train, ""
    if why_not := replay_obstacle(settings):
        return train, _not_replayed(why_not)
    if not (wanted := replayed_conversations(settings, len(train))):
        return train, _not_replayed("there are too few examples for a share of them")
    answered = kept_answers(run)
    if answered is None:
        run.update_status(message="The base model is answering general questions to mix into your examples.")
        answered = _ask(run, model, tokenizer, wanted, max_length)
    rows, why_not = answered
    if not rows:
        return train, f"{_not_replayed(why_not)} So a pass is shorter than planned."
    wanted = min(wanted, MOST_REPEATS * len(rows))
    rendered = [render_conversation(tokenizer, make_conversation(row["messages"]), max_length) for row in rows]
    repeated = islice(cycle(row.as_training_row() for row in rendered), wanted)
    mixed = concatenate_datasets([train, Dataset.from_list(list(repeated), features=train.features)])
    if settings.packing_strategy == "bfd":  # packs neighbours
        mixed = mixed.shuffle(seed=settings.seed)
    return mixed, _sentence(wanted, len(train), len(rows))


def _ask(
    run: Run, model: Any, tokenizer: PreTrainedTokenizerBase, wanted: int, max_length: int
) -> tuple[Sequence[Row], str]:
    """Let the base model answer, and keep its answers with the run, or why there are none."""
    rows: Sequence[Row] = []
    try:
        rows, why_not = answer_as_base(model, tokenizer, prompts_for(run), wanted, max_length)
    except AppError as error:
        why_not = str(error).removesuffix(".")
    except Exception as error:  # the run can do without; the traceback goes to its log
        logger.exception("the base model could not answer")
        why_not = NO_MEMORY if is_out_of_memory(error) else NO_ANSWERS
    free_memory()
    write_jsonl_atomically(run.replay_file, rows or [{"messages": [], "why_not": why_not}])
    return rows, why_not


def kept_answers(run: Run) -> tuple[Sequence[Row], str] | None:
    """Read the answers from the run folder, or why there are none; None if they are missing or damaged.

    The model can be asked again then, since its checkpoint is loaded later.
    """
    try:
        rows = [json.loads(line) for line in run.replay_file.read_text(encoding="utf-8").split("\n") if line]
        if rows and not rows[0]["messages"]:
            return [], str(rows[0]["why_not"])
        for row in rows:
            make_conversation(row["messages"])
    except (OSError, ValueError, TypeError, KeyError, AppError):
        return None
    return (rows, "") if rows else None


def _not_replayed(reason: str) -> str:
    return f"{NOT_REPLAYED}, because {reason}."


def _sentence(rows: int, own: int, distinct: int) -> str:
    again = f" ({distinct} different)" if distinct < rows else ""
    verb = "was" if rows == 1 else "were"
    return (
        f"{count_of(rows, 'general conversation')}{again} {verb} mixed into your {own:,} in each pass, answered by the "
        "base model itself, so that the model forgets less."
    )
