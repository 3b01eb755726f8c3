"""Generate answers to a batch of prompts, one token per row at each step.

This replaces `model.generate` for three reasons. It is a plain generator, so streaming needs no thread and closing it
stops the work. It draws the same random noise for every row. It ignores the model's `generation_config`, so two models
are compared under equal conditions.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from sft_app.errors import ModelError
from sft_app.inference.captured_steps import fastest_step_logits
from sft_app.inference.decoding import logits_agree, longrope_length, step_logits
from sft_app.runtime.resources import is_out_of_memory

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# Marks a row whose logits are not finite, in place of a token id.
BROKEN_TOKEN = -1


@dataclass(frozen=True)
class Sampling:
    """Holds the sampling settings.

    `temperature` 0 takes the most likely token; `max_new_tokens` includes the end-of-turn token.
    """

    temperature: float = 0.0
    seed: int = 42
    max_new_tokens: int = 160


@dataclass(frozen=True)
class Answer:
    """Holds an answer, complete or growing.

    `tokens` counts the generated tokens `ids`, the end-of-turn token included. `finished` means the model ended the
    answer. `broken` means the logits of the next token were not finite. The seconds to the first and the last token are
    measurements and not part of the answer.
    """

    text: str = ""
    tokens: int = 0
    finished: bool = False
    ids: tuple[int, ...] = field(default=(), repr=False)
    first_token_seconds: float = field(default=0.0, compare=False)
    seconds: float = field(default=0.0, compare=False)
    broken: bool = False

    @property
    def tokens_per_second(self) -> float:
        """Return the speed after the first token, which includes reading the prompt."""
        spent = self.seconds - self.first_token_seconds
        return (self.tokens - 1) / spent if spent > 0 else 0.0

    def as_record(self) -> dict[str, Any]:
        """Return the reproducible part of the answer as a dict."""
        record: dict[str, Any] = {"text": self.text, "tokens": self.tokens, "finished": self.finished}
        return {**record, "broken": True} if self.broken else record


def generate_tokens(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], sampling: Sampling, stops: Iterable[int], pad_id: int
) -> Iterator[tuple[int | None, ...]]:
    """Yield each row's next id at every step: None once a row has ended, `BROKEN_TOKEN` if its logits are not finite.

    Prompts of different lengths are padded on the left. Above temperature 0, all rows get the same Gumbel noise at
    each step, so equal models give equal answers; on one device, the same seed gives the same noise. Source:
    Gumbel-max trick, Maddison et al. 2014, arXiv 1411.0030.

    Raises:
        ModelError: a prompt is empty or fills the model's context.
    """
    room = _answer_room(model, prompts)
    steps = _decode(model, prompts, sampling, min(sampling.max_new_tokens, room), pad_id)
    endings, ended = frozenset(stops), [False] * len(prompts)
    for ids in steps:
        yield tuple(None if done else id for id, done in zip(ids, ended, strict=True))
        ended = [done or id in endings or id == BROKEN_TOKEN for id, done in zip(ids, ended, strict=True)]
        if all(ended):
            return


def collect_answers(
    tokenizer: PreTrainedTokenizerBase, steps: Iterable[tuple[int | None, ...]], stops: Iterable[int]
) -> Iterator[list[Answer]]:
    """Yield the rows' answers so far after each step."""
    endings = frozenset(stops)
    for rows in _collect_rows(steps):
        yield [row.answer(tokenizer, endings) for row in rows]


def answer_prompts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    stops: frozenset[int],
) -> list[Answer]:
    """Generate the complete answers to all prompts, each as it would be alone.

    Raises: ModelError as `generate_tokens`.
    """
    answers: dict[int, Answer] = {}
    for group in group_prompts(model, prompts, sampling.max_new_tokens, tokenizer.pad_token_id):
        group_answers = answer_batch(model, tokenizer, [prompts[number] for number in group], sampling, stops)
        answers.update(zip(group, group_answers, strict=True))
    return [answers[number] for number in range(len(prompts))]


def group_prompts(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], max_new_tokens: int, pad_id: int
) -> list[list[int]]:
    """Group the indices of prompts that may share a batch: all if padding proves exact, otherwise by length.

    Padding changes an answer if the model has a state that reads it, or depends on the length of the batch (rotary
    embeddings scaled by length). The shortest prompt is tried because it is padded most.

    Raises: ModelError as `generate_tokens`.
    """
    _answer_room(model, prompts)
    lengths = [len(prompt) for prompt in prompts]
    change = longrope_length(model)
    may_change = change is not None and max(lengths) + max_new_tokens > change
    if len(set(lengths)) == 1 or (
        not may_change and _padding_is_exact(model, min(prompts, key=len), max(prompts, key=len), pad_id)
    ):
        return [list(range(len(prompts)))]
    return [[number for number, own in enumerate(lengths) if own == length] for length in sorted(set(lengths))]


@torch.no_grad()
def _padding_is_exact(model: PreTrainedModel, shortest: Sequence[int], longest: Sequence[int], pad_id: int) -> bool:
    """Return whether padding leaves the logits of the prompt and of the next token unchanged up to rounding."""
    alone, padded = step_logits(model, [shortest], pad_id), step_logits(model, [shortest, longest], pad_id)
    try:
        one, two = next(alone), next(padded)
        if not logits_agree(one[0], two[0]):
            return False
        chosen = one.argmax(dim=-1)
        return logits_agree(alone.send(chosen)[0], padded.send(chosen.repeat(2))[0])
    except Exception as error:  # a model not made for padding may fail in any way
        if is_out_of_memory(error):
            raise
        return False


def answer_batch(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    stops: frozenset[int],
) -> list[Answer]:
    """Generate the complete answers to all prompts as one batch."""
    rows = [_Row() for _ in prompts]
    for rows in _collect_rows(generate_tokens(model, prompts, sampling, stops, tokenizer.pad_token_id)):  # noqa: B007
        pass
    return [row.answer(tokenizer, stops) for row in rows]


@dataclass
class _Row:
    """Collects the tokens of an answer."""

    ids: list[int] = field(default_factory=list)
    first_token_seconds: float = 0.0
    seconds: float = 0.0
    broken: bool = False

    def add(self, id: int, seconds: float) -> None:
        if id == BROKEN_TOKEN:
            self.broken = True
            return
        self.first_token_seconds, self.seconds = self.first_token_seconds or seconds, seconds
        self.ids.append(id)

    def answer(self, tokenizer: PreTrainedTokenizerBase, endings: frozenset[int]) -> Answer:
        """Return the answer so far, without an incomplete last character."""
        text = tokenizer.decode(self.ids, skip_special_tokens=True).rstrip("\ufffd")
        finished = bool(self.ids) and self.ids[-1] in endings
        times = self.first_token_seconds, self.seconds
        return Answer(text, len(self.ids), finished, tuple(self.ids), *times, self.broken)


def _collect_rows(steps: Iterable[tuple[int | None, ...]]) -> Iterator[list[_Row]]:
    """Yield the same rows after each step, one token longer until they end."""
    began = time.perf_counter()
    rows: list[_Row] = []
    for step in steps:
        rows = rows or [_Row() for _ in step]
        for row, id in zip(rows, step, strict=True):
            if id is not None:
                row.add(id, time.perf_counter() - began)
        yield rows


@torch.no_grad()
def _decode(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], sampling: Sampling, max_new_tokens: int, pad_id: int
) -> Iterator[list[int]]:
    """Yield the next id of every row `max_new_tokens` times, regardless of where answers end."""
    random = noise_generator(sampling.seed, model.device)
    steps = fastest_step_logits(model, prompts, pad_id, max_new_tokens)
    next_ids = None
    for _ in range(max_new_tokens):
        logits = next(steps) if next_ids is None else steps.send(next_ids.clamp(min=0))
        next_ids = _sample(logits, sampling.temperature, random)
        yield next_ids.tolist()


def _sample(logits: torch.Tensor, temperature: float, random: torch.Generator) -> torch.Tensor:
    """Choose a token per row, `(batch, vocabulary)` to `(batch,)`. All rows share one draw of noise."""
    scores = noisy_scores(logits, temperature, random)
    best, ids = scores.max(dim=-1)  # NaN and infinity are the largest of all
    return torch.where(torch.isfinite(best), ids, BROKEN_TOKEN)


def noisy_scores(logits: torch.Tensor, temperature: float, random: torch.Generator) -> torch.Tensor:
    """Return the scores whose largest is chosen, in the shape of `logits`, `(batch, vocabulary)`."""
    if temperature == 0:
        return logits
    uniform = torch.rand(logits.shape[-1], generator=random, device=random.device).clamp(min=1e-20)
    gumbel = -torch.log(-torch.log(uniform))
    return logits.float() / temperature + gumbel


def noise_generator(seed: int, device: torch.device) -> torch.Generator:
    """Return the source of noise for logits on this device. Each kind of device draws its own numbers for a seed."""
    return torch.Generator(device).manual_seed(seed)


def _answer_room(model: PreTrainedModel, prompts: Sequence[Sequence[int]]) -> int:
    context = context_length(model)
    longest = max(len(prompt) for prompt in prompts)
    if not all(prompts):
        raise ModelError("The prompt is empty.")
    if longest >= context:
        raise ModelError(f"The prompt has {longest} tokens, but the model's context is {context}. Shorten it.")
    return context - longest


def context_length(model: Any) -> int:
    """Return how many tokens the model can read; more than any prompt has if its config names no limit."""
    limit: int | None = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return limit or 2**31
