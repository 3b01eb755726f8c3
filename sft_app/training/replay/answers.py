"""Ask the base model general prompts and keep those of its answers that can be trained as it wrote them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import cache
from typing import TYPE_CHECKING, Any

from sft_app.data.conversation import make_conversation
from sft_app.data.tokens import encode_question, render_conversation, stop_ids
from sft_app.data.words import words_of
from sft_app.errors import DataError
from sft_app.evaluation.answer_metrics import repetition
from sft_app.evaluation.checks import Check, failures
from sft_app.evaluation.forgetting.general_questions import GENERAL_QUESTIONS_FILE, read_general_questions
from sft_app.inference.generation import Answer, Sampling, answer_prompts
from sft_app.training.estimates.speed import REPLAYED_AT_ONCE
from sft_app.training.estimates.workload import REPLAY_TOKENS
from sft_app.training.replay.prompts import ReplayPrompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LEAST_USABLE = 0.25
"""The least share of answers that end and do not repeat themselves: below it, there is little to hold on to."""
MOST_REPETITION = 0.2
REFUSING = "refusing"
FEW_USABLE = "most answers of the base model did not end, or repeated themselves"
NO_PROMPTS = "your examples, tests and general questions ask all of the app's prompts"
FEW_FIT = "too few answers of the base model can be trained whole and exactly as it wrote them"
LEAST_DIFFERENT = 8
"""The least number of answers, unless fewer are wanted: two or three over and over would be learned by heart."""
Row = dict[str, Any]


def answer_as_base(
    model: Any, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[ReplayPrompt], wanted: int, max_length: int
) -> tuple[list[Row], str]:
    """Return up to `wanted` conversations with the base model's answers, or none and why.

    An answer is kept if it ended, does not repeat itself, refuses what should be refused, and if the conversation as it
    would be trained has exactly the tokens of the prompt and the answer, of which `max_length` cuts nothing.
    """
    stops, rows, ended, asked = stop_ids(tokenizer), [], 0, 0
    for start in range(0, len(prompts), REPLAYED_AT_ONCE):
        some = prompts[start : start + REPLAYED_AT_ONCE]
        encoded = [encode_question(tokenizer, prompt.text) for prompt in some]
        with _as_base(model):
            answers = answer_prompts(model, tokenizer, encoded, Sampling(max_new_tokens=REPLAY_TOKENS), stops)
        asked += len(some)
        for prompt, ids, answer in zip(some, encoded, answers, strict=True):
            if _has_ended(answer):
                ended += 1
                if not _is_unsafe(prompt, answer) and _is_trained_as_written(
                    tokenizer, prompt, ids, answer, max_length
                ):
                    rows.append({"kind": prompt.kind, "messages": _turns(prompt, answer)})
        if len(rows) >= wanted or ended < LEAST_USABLE * asked:
            break
    if not asked:
        return [], NO_PROMPTS
    if ended < LEAST_USABLE * asked:
        return [], FEW_USABLE
    if len(rows) < min(wanted, LEAST_DIFFERENT):
        return [], FEW_FIT
    return rows[:wanted], ""


def _has_ended(answer: Answer) -> bool:
    is_complete = answer.finished and not answer.broken and bool(answer.text.strip())
    return is_complete and repetition(words_of(answer.text)) <= MOST_REPETITION


def _is_unsafe(prompt: ReplayPrompt, answer: Answer) -> bool:
    """Return whether the model does what it should refuse, which must not be rehearsed."""
    return prompt.kind == REFUSING and bool(failures(_refusal(), answer.text, answer.finished))


@cache
def _refusal() -> tuple[Check, ...]:
    """Return what the general questions expect of a refusal."""
    questions = read_general_questions(GENERAL_QUESTIONS_FILE)
    return next(question.checks for question in questions if question.kind == REFUSING)


def _is_trained_as_written(
    tokenizer: PreTrainedTokenizerBase, prompt: ReplayPrompt, ids: Sequence[int], answer: Answer, max_length: int
) -> bool:
    try:
        rendered = render_conversation(tokenizer, make_conversation(_turns(prompt, answer)), max_length)
    except DataError:  # the template refuses it
        return False
    written = [*ids, *answer.ids[:-1]]  # the template closes the turn itself
    return not rendered.is_cut and rendered.trained > 0 and rendered.input_ids[: len(written)] == written


def _turns(prompt: ReplayPrompt, answer: Answer) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt.text}, {"role": "assistant", "content": answer.text}]


@contextmanager
def _as_base(model: Any) -> Iterator[None]:
    """Let the model answer as the base does: without its adapter, and without dropout."""
    was_training = model.training
    model.eval()
    try:
        with model.disable_adapter() if hasattr(model, "peft_config") else nullcontext():
            yield
    finally:
        model.train(was_training)
