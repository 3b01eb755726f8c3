"""Answers to a batch of prompts, a token for every row at each step.

A loop of our own instead of `model.generate`: it is a plain generator (no thread to stream from, closing it stops
it), it draws the same random noise for every row, and it leaves out whatever a model's `generation_config` would mix
in, so that two models are compared under equal conditions.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from sft_app.errors import ModelError
from sft_app.inference.small_batch_linear import few_row_products, replaced_forward

# In place of a token's id.
BROKEN = -1
# What rounding makes of logits in float32 and in half precision, in their standard deviations.
EXACT, ROUNDED = 1e-3, 0.05


@dataclass(frozen=True)
class Sampling:
    """`temperature` 0 takes the likeliest token; `max_new_tokens` counts the end-of-turn token too."""

    temperature: float = 0.0
    seed: int = 42
    max_new_tokens: int = 160


@dataclass(frozen=True)
class Answer:
    """`tokens` counts what was generated, the end-of-turn token included; `finished`: it ended by itself.

    `ids` are those tokens. `broken`: at the next one the model's numbers were not finite. The seconds, to the first one
    and to the last, are a measurement and no part of what an answer is.
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
        """After the first token, which waits for the prompt."""
        spent = self.seconds - self.first_token_seconds
        return (self.tokens - 1) / spent if spent > 0 else 0.0

    def as_record(self) -> dict[str, Any]:
        """What is the same each time."""
        record: dict[str, Any] = {"text": self.text, "tokens": self.tokens, "finished": self.finished}
        return {**record, "broken": True} if self.broken else record


def generate_tokens(
    model: Any, prompts: Sequence[Sequence[int]], sampling: Sampling, stops: Iterable[int], pad_id: int
) -> Iterator[tuple[int | None, ...]]:
    """Yields, step by step, the next id of each row, None for a row that has ended, or `BROKEN` for one that ends
    because its numbers are not finite.

    Prompts of different lengths are padded on the left. Above temperature 0 all rows get the same Gumbel noise at
    each step, so that equal models give equal texts and differences come from the models.
    Source: Gumbel-max trick, Maddison et al. 2014, arXiv 1411.0030.

    Raises:
        ModelError: a prompt is empty or fills the model's context.
    """
    room = _room_for_answer(model, prompts)
    steps = _decode(model, prompts, sampling, min(sampling.max_new_tokens, room), pad_id)
    endings, ended = frozenset(stops), [False] * len(prompts)
    for ids in steps:
        yield tuple(None if done else id for id, done in zip(ids, ended, strict=True))
        ended = [done or id in endings or id == BROKEN for id, done in zip(ids, ended, strict=True)]
        if all(ended):
            return


def collect_answers(
    tokenizer: Any, steps: Iterable[tuple[int | None, ...]], stops: Iterable[int]
) -> Iterator[list[Answer]]:
    """The rows' answers so far, after each step."""
    endings = frozenset(stops)
    for rows in _grow(steps):
        yield [row.answer(tokenizer, endings) for row in rows]


def answer_prompts(
    model: Any, tokenizer: Any, prompts: Sequence[Sequence[int]], sampling: Sampling, stops: frozenset[int]
) -> list[Answer]:
    """The finished answers to all prompts, each as it would be by itself. Raises: ModelError as `generate_tokens`."""
    answers: dict[int, Answer] = {}
    for group in batches(model, prompts, tokenizer.pad_token_id):
        found = answer_batch(model, tokenizer, [prompts[number] for number in group], sampling, stops)
        answers.update(zip(group, found, strict=True))
    return [answers[number] for number in range(len(prompts))]


def batches(model: Any, prompts: Sequence[Sequence[int]], pad_id: int) -> list[list[int]]:
    """The numbers of the prompts that may be answered together: all where padding proves to change nothing, or else
    those of one length.

    Padding changes an answer where a model has a state that reads it too, or looks at the length of the whole batch
    (rotary embeddings scaled by length). Tried with the shortest prompt, which gets the most of it.

    Raises: ModelError as `generate_tokens`.
    """
    _room_for_answer(model, prompts)
    lengths = [len(prompt) for prompt in prompts]
    if len(set(lengths)) == 1 or _pads_exactly(model, min(prompts, key=len), max(prompts, key=len), pad_id):
        return [list(range(len(prompts)))]
    return [[number for number, own in enumerate(lengths) if own == length] for length in sorted(set(lengths))]


@torch.no_grad()
def _pads_exactly(model: Any, shortest: Sequence[int], longest: Sequence[int], pad_id: int) -> bool:
    """Whether the first two tokens' numbers are the same but for rounding: as the prompt is read, and after it."""
    alone, padded = _logits(model, [shortest], pad_id), _logits(model, [shortest, longest], pad_id)
    try:
        one, two = next(alone), next(padded)
        if not _are_close(one[0], two[0]):
            return False
        chosen = one.argmax(dim=-1)
        return _are_close(alone.send(chosen)[0], padded.send(chosen.repeat(2))[0])
    except torch.OutOfMemoryError:
        raise
    except Exception:  # whatever a model does that was not made for padding
        return False


def _are_close(logits: torch.Tensor, expected: torch.Tensor) -> bool:
    apart = (logits.float() - expected.float()).abs().max() / expected.float().std()
    return bool(apart <= (EXACT if logits.dtype == torch.float32 else ROUNDED))


def answer_batch(
    model: Any, tokenizer: Any, prompts: Sequence[Sequence[int]], sampling: Sampling, stops: frozenset[int]
) -> list[Answer]:
    """The finished answers to all prompts, generated as one batch."""
    rows = [_Row() for _ in prompts]
    for rows in _grow(generate_tokens(model, prompts, sampling, stops, tokenizer.pad_token_id)):  # noqa: B007
        pass
    return [row.answer(tokenizer, stops) for row in rows]


@dataclass
class _Row:
    """An answer while it grows."""

    ids: list[int] = field(default_factory=list)
    first_token_seconds: float = 0.0
    seconds: float = 0.0
    broken: bool = False

    def add(self, id: int, seconds: float) -> None:
        if id == BROKEN:
            self.broken = True
            return
        self.first_token_seconds, self.seconds = self.first_token_seconds or seconds, seconds
        self.ids.append(id)

    def answer(self, tokenizer: Any, endings: frozenset[int]) -> Answer:
        """A last character that is not complete yet is held back."""
        text = tokenizer.decode(self.ids, skip_special_tokens=True).rstrip("\ufffd")
        finished = bool(self.ids) and self.ids[-1] in endings
        times = self.first_token_seconds, self.seconds
        return Answer(text, len(self.ids), finished, tuple(self.ids), *times, self.broken)


def _grow(steps: Iterable[tuple[int | None, ...]]) -> Iterator[list[_Row]]:
    """The same rows again and again, a token longer each time until they end."""
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
    model: Any, prompts: Sequence[Sequence[int]], sampling: Sampling, max_new_tokens: int, pad_id: int
) -> Iterator[list[int]]:
    """Yields the next id of every row `max_new_tokens` times, without regard to where an answer ends."""
    random = torch.Generator().manual_seed(sampling.seed)
    steps = _logits(model, prompts, pad_id)
    next_ids = None
    for _ in range(max_new_tokens):
        logits = next(steps) if next_ids is None else steps.send(next_ids.clamp(min=0))
        next_ids = _choose(logits, sampling.temperature, random)
        yield next_ids.tolist()


@torch.no_grad()
def _logits(model: Any, prompts: Sequence[Sequence[int]], pad_id: int) -> Generator[torch.Tensor, torch.Tensor, None]:
    """Yields those of each row's next token, `(batch, vocabulary)`, and is sent the ids that were chosen, `(batch,)`.

    A model that gives no `past_key_values` (one with a state of its own kind) reads everything anew for each token.
    """
    input_ids, attention_mask = _left_padded(prompts, pad_id, model.device)
    read, cache, products = input_ids, None, few_row_products(model, len(prompts))
    caches = True
    while True:
        positions = attention_mask.cumsum(-1).sub(1).clamp(min=0)[:, -input_ids.shape[1] :]
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask, "position_ids": positions}
        with replaced_forward(products if cache is not None else {}):
            output = _read(model, inputs, cache, caches)
        cache = getattr(output, "past_key_values", None)
        caches = cache is not None
        added = (yield output.logits[:, -1])[:, None]
        read = read if caches else torch.cat([read, added], dim=-1)
        input_ids = added if caches else read
        attention_mask = torch.cat([attention_mask, attention_mask.new_ones(len(prompts), 1)], dim=-1)


def _read(model: Any, inputs: dict[str, torch.Tensor], cache: Any, caches: bool) -> Any:
    """The model's output. One that fails to make a cache is asked without."""
    try:
        return model(**inputs, past_key_values=cache, use_cache=caches, logits_to_keep=1)
    except torch.OutOfMemoryError:
        raise
    except Exception:  # whatever a cache of a kind of its own fails with; a fault of the model itself comes again
        if not caches or cache is not None:
            raise
        return model(**inputs, use_cache=False, logits_to_keep=1)


def _left_padded(prompts: Sequence[Sequence[int]], pad_id: int, device: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask, both `(batch, seq)`."""
    width = max(len(prompt) for prompt in prompts)
    ids = [[pad_id] * (width - len(prompt)) + list(prompt) for prompt in prompts]
    mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def _choose(logits: torch.Tensor, temperature: float, random: torch.Generator) -> torch.Tensor:
    """`(batch, vocabulary)` to `(batch,)`; the noise is drawn once and shared by all rows."""
    scores = noisy_scores(logits, temperature, random)
    best, ids = scores.max(dim=-1)  # NaN and infinity are the largest of all
    return torch.where(torch.isfinite(best), ids, BROKEN)


def noisy_scores(logits: torch.Tensor, temperature: float, random: torch.Generator) -> torch.Tensor:
    """Of which the largest is chosen; the same shape as `logits`, `(batch, vocabulary)`."""
    if temperature == 0:
        return logits
    uniform = torch.rand(logits.shape[-1], generator=random).clamp(min=1e-20)
    gumbel = -torch.log(-torch.log(uniform))
    return logits.float() / temperature + gumbel.to(logits.device)


def _room_for_answer(model: Any, prompts: Sequence[Sequence[int]]) -> int:
    context = getattr(model.config, "max_position_embeddings", None) or 2**31
    longest = max(len(prompt) for prompt in prompts)
    if not all(prompts):
        raise ModelError("The prompt is empty.")
    if longest >= context:
        raise ModelError(f"The prompt has {longest} tokens, but the model's context is {context}. Shorten it.")
    return context - longest
