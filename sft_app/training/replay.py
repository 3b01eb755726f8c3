"""Replay: general conversations among the examples, so that the model keeps what it could do before.

The answers are the base model's own, with the most likely tokens, written before the first step. They teach nothing
new; they hold the model where it was. Only answers that ended and do not repeat themselves are used.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets import Dataset, concatenate_datasets

from sft_app.data.split import opening_question
from sft_app.data.tokens import encode_question, stop_ids
from sft_app.data.words import words_of
from sft_app.evaluation.answer_metrics import repetition
from sft_app.evaluation.forgetting.general_questions import general_questions_file
from sft_app.inference.generation import Answer, Sampling, answer_prompts
from sft_app.runs.folder import Run
from sft_app.runtime.files import iterate_jsonl, write_jsonl_atomically
from sft_app.settings import RunSettings, replay_obstacle, replayed_conversations
from sft_app.training.estimates.speed import REPLAY_TOKENS
from sft_app.training.tokenized_dataset import tokenize_file

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PROMPTS_FILE = Path(__file__).with_name("replay_prompts.jsonl")
LEAST_PROMPTS = 16
LEAST_USABLE = 0.5
"""The least share of usable answers: below it, there is little in the base model's answers to hold on to."""
MOST_REPETITION = 0.2
NOT_REPLAYED = "No general conversations are among the examples"


def add_replay(
    run: Run, settings: RunSettings, model: Any, tokenizer: PreTrainedTokenizerBase, train: Dataset, max_length: int
) -> tuple[Dataset, str]:
    """Return the training rows with the replayed ones after them, and a sentence for the person.

    The base model answers once; a resumed run reads its answers from the run folder. `model` is the one to be trained,
    before its first step.
    """
    if settings.replay and (why_not := replay_obstacle(settings)):
        return train, f"{NOT_REPLAYED}, because {why_not}."
    if not (wanted := replayed_conversations(settings, len(train))):
        return train, ""
    if not run.replay_file.exists():
        run.update_status(message="The base model answers general questions, which are then among the examples.")
        write_jsonl_atomically(run.replay_file, _answered(run, model, tokenizer, max(wanted, LEAST_PROMPTS)))
    if not run.replay_file.stat().st_size:
        return train, f"{NOT_REPLAYED}, because most answers of the base model did not end or repeated themselves."
    kept = (row for row in tokenize_file(run.replay_file, tokenizer, max_length) if row.trained > 0)
    rows = [row.as_training_row() for row in kept]
    replayed = Dataset.from_list(list(islice(cycle(rows), wanted)), features=train.features)
    return concatenate_datasets([train, replayed]), _sentence(wanted, len(train), len(rows))


def _answered(run: Run, model: Any, tokenizer: PreTrainedTokenizerBase, count: int) -> list[dict[str, Any]]:
    """Ask the first `count` prompts and return the conversations with usable answers; [] if too few are."""
    prompts = _prompts(run)[:count]
    encoded = [encode_question(tokenizer, prompt) for prompt in prompts]
    was_training = model.training
    model.eval()
    try:
        with _base_of(model):
            answers = answer_prompts(
                model, tokenizer, encoded, Sampling(max_new_tokens=REPLAY_TOKENS), stop_ids(tokenizer)
            )
    finally:
        model.train(was_training)
    both = zip(prompts, answers, strict=True)
    usable = [{"messages": _turns(prompt, answer.text)} for prompt, answer in both if _is_usable(answer)]
    return usable if len(usable) >= LEAST_USABLE * len(prompts) else []


def _prompts(run: Run) -> Sequence[str]:
    """Return the prompts that the run's general questions do not ask, so that these judge fairly."""
    asked = {_opening(row["messages"]) for row in iterate_jsonl(general_questions_file(run))}
    return [prompt for prompt in replay_prompts() if _opening(_turns(prompt)) not in asked]


@cache
def replay_prompts() -> tuple[str, ...]:
    """Return the general prompts, kinds in turn, so that the first ones are of all kinds."""
    return tuple(json.loads(line)["prompt"] for line in PROMPTS_FILE.read_text(encoding="utf-8").splitlines())


def _opening(messages: Sequence[dict[str, str]]) -> str:
    return opening_question((message["role"], message["content"]) for message in messages)


def _turns(question: str, answer: str = "") -> list[dict[str, str]]:
    turns = [{"role": "user", "content": question}]
    return [*turns, {"role": "assistant", "content": answer}] if answer else turns


def _base_of(model: Any) -> AbstractContextManager[Any]:
    """Return a block in which the model's adapter, fresh as it is, has no part."""
    return model.disable_adapter() if hasattr(model, "peft_config") else nullcontext()


def _is_usable(answer: Answer) -> bool:
    is_complete = answer.finished and not answer.broken and bool(answer.text.strip())
    return is_complete and repetition(words_of(answer.text)) <= MOST_REPETITION


def _sentence(rows: int, own: int, distinct: int) -> str:
    again = f", {distinct} of them different" if distinct < rows else ""
    return (
        f"Of {own + rows} conversations per pass, {rows} were general ones with the base model's own answers{again}, "
        "so that it forgets less."
    )
