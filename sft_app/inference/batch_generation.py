"""Generate both sides' answers to many prompts, as one batch where padding changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sft_app.data.tokens import stop_ids
from sft_app.errors import ModelError
from sft_app.inference.batched_adapters import RowAdapter, apply_row_adapters
from sft_app.inference.generation import Answer, Sampling, answer_batch, answer_prompts, group_prompts
from sft_app.inference.loaded_models import LoadedSide
from sft_app.inference.pair import LoadedPair, activate_side


def answer_both(
    pair: LoadedPair, prompts: Sequence[list[int]], sampling: Sampling
) -> tuple[list[Answer], list[Answer]]:
    """Generate both sides' answers to many prompts, as one batch or one per side.

    If padding would change an answer, prompts of equal length are batched instead.

    Raises: ModelError if a prompt is empty or fills the model's context.
    """
    with pair.models.lock:
        if not pair.can_share_batch():
            one, other = (_answer_alone(pair, loaded, prompts, sampling) for loaded in pair.loaded_sides)
            return one, other
        with activate_side(pair.loaded_sides[0], 1.0) as model:
            groups = group_prompts(model, prompts, sampling.max_new_tokens, pair.tokenizer.pad_token_id)
        answers = {number: both for group in groups for number, both in _answer_group(pair, prompts, group, sampling)}
    both = [answers[number] for number in range(len(prompts))]
    return [one for one, _ in both], [other for _, other in both]


def _answer_group(
    pair: LoadedPair, prompts: Sequence[list[int]], group: list[int], sampling: Sampling
) -> Iterator[tuple[int, tuple[Answer, Answer]]]:
    """Yield the index and both answers of each prompt in one batch."""
    model, batch = pair.loaded_sides[0].model, [prompts[number] for number in group] * 2
    with apply_row_adapters(model, [RowAdapter(loaded.adapter) for loaded in pair.loaded_sides for _ in group]):
        answers = answer_batch(model, pair.tokenizer, batch, sampling, stop_ids(pair.tokenizer))
    yield from zip(group, zip(answers[: len(group)], answers[len(group) :], strict=True), strict=True)


def answer_each(
    pair: LoadedPair, prompts: Sequence[list[int]], sampling: Sampling
) -> list[tuple[Answer, Answer] | ModelError]:
    """Generate both answers to each prompt, with an error in place of the answers if there is one.

    A prompt that is too long fails its whole batch; each prompt is then tried on its own.
    """
    try:
        return list(zip(*answer_both(pair, prompts, sampling), strict=True))
    except ModelError as error:
        if len(prompts) == 1:
            return [error]
        return [found for prompt in prompts for found in answer_each(pair, [prompt], sampling)]


def _answer_alone(
    pair: LoadedPair, loaded: LoadedSide, prompts: Sequence[list[int]], sampling: Sampling
) -> list[Answer]:
    with activate_side(loaded, 1.0) as model:
        return answer_prompts(model, pair.tokenizer, prompts, sampling, stop_ids(pair.tokenizer))
