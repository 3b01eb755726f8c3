"""Load two sides and activate them in their model, as rows of one batch or one at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from sft_app.data.chat_templates import can_think
from sft_app.data.tokens import NO_THINKING, check_chat_template, render_prompt
from sft_app.errors import DataError
from sft_app.inference.batched_adapters import RowAdapter, apply_row_adapters, can_apply_row_adapters, only_active
from sft_app.inference.decoding import logits_agree
from sft_app.inference.loaded_models import LoadedModels, LoadedSide
from sft_app.inference.sides import Side
from sft_app.runtime.resources import is_out_of_memory

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

TRIAL_PROMPT = "Where is my order?"
IN_TURN_NOTE = "The two sides answer one after the other, because this model's answers change when they share a batch."


@dataclass(frozen=True)
class LoadedPair:
    """Holds two sides in memory."""

    sides: tuple[Side, Side]
    loaded_sides: tuple[LoadedSide, LoadedSide]
    models: LoadedModels
    tokenizer: PreTrainedTokenizerBase
    """The base's tokenizer, with the chat template that both sides are asked with."""
    shares_batch: bool = True
    """Whether both sides may be rows of one batch, as a trial on this model has shown."""
    template_note: str = ""
    """How the chat template differs from what a side was made for; empty if it does not."""

    def can_share_batch(self) -> bool:
        """Return whether both sides are rows of one batch."""
        return self.shares_batch and _are_rows(self.loaded_sides)

    def batch_note(self) -> str:
        """Return why sides that could be rows of one batch are not; empty otherwise."""
        return IN_TURN_NOTE if not self.shares_batch and _are_rows(self.loaded_sides) else ""


def load_pair(sides: tuple[Side, Side], home: Path, models: LoadedModels | None = None) -> LoadedPair:
    """Load two sides from `find_sides`, reusing `models` if they match.

    Raises: ModelError if the base cannot be loaded, or an adapter does not fit it.
    """
    if models is None or not models.matches(sides[0]):
        models = LoadedModels.load(sides, home)
    tokenizer, note = shared_tokenizer(models, sides)
    pair = LoadedPair(sides, models.loaded_sides(*sides), models, tokenizer, template_note=note)
    if not _are_rows(pair.loaded_sides):
        return pair
    tried, key = pair.models.exact_rows, (pair.loaded_sides[0].adapter, pair.loaded_sides[1].adapter)
    with pair.models.lock:
        if key not in tried:
            tried[key] = _rows_are_exact(pair)
    return replace(pair, shares_batch=tried[key])


def shared_tokenizer(models: LoadedModels, sides: tuple[Side, Side]) -> tuple[PreTrainedTokenizerBase, str]:
    """Return the tokenizer with the right side's chat template, which both sides are asked with, and a note on it.

    The note says if the template differs from the base model's or from the left side's, or cannot make a model think.
    One that was stored with an adapter from elsewhere and cannot be rendered is not used.
    """
    left, right = sides
    thinking, own = right.enable_thinking, models.tokenizer.chat_template
    tokenizer, note = models.tokenizer_with(right.chat_template, thinking, right.eos_token), ""
    whose = (right if right.folder is not None else left).label
    if tokenizer.chat_template != own and (problem := _template_problem(tokenizer)):
        tokenizer = models.tokenizer_with("", thinking)
        note = f"The chat template of {whose} cannot be used: {problem}. Both sides use the base model's."
    elif models.tokenizer_with(left.chat_template).chat_template != tokenizer.chat_template:
        note = f"{left.label} has another chat template; both sides use that of {right.label}."
    elif own and tokenizer.chat_template != own:
        note = f"Both sides use the chat template of {whose}, which differs from the base model's."
    if thinking and not can_think(tokenizer):
        note = f"{note} {NO_THINKING}".strip()
    return tokenizer, note


def _template_problem(tokenizer: PreTrainedTokenizerBase) -> str:
    try:
        check_chat_template(tokenizer)
    except DataError as error:
        return str(error).rstrip(".")
    return ""


def _are_rows(sides: tuple[LoadedSide, LoadedSide]) -> bool:
    return sides[0].model is sides[1].model and all(map(has_adjustable_strength, sides))


def _rows_are_exact(pair: LoadedPair) -> bool:
    """Try a prompt on this model: return whether each side's row of the batch has the logits it has alone.

    Layers may see the tokens of all rows as one list, or a model may mix its rows.
    """
    prompt = _trial_prompt(pair.tokenizer)
    alone = [side_logits(pair, index, prompt, 1.0, len(prompt)) for index in (0, 1)]
    try:
        with activate_both_sides(pair, 1.0) as model:
            together = _logits(model, [prompt, prompt], len(prompt))
    except Exception as error:  # a layer not made for this may fail in any way; the sides then answer in turn
        if is_out_of_memory(error):
            raise
        return False
    return all(logits_agree(one, other) for one, other in zip(together, alone, strict=True))


def _trial_prompt(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    try:
        return render_prompt(tokenizer, [{"role": "user", "content": TRIAL_PROMPT}])
    except DataError:  # a model without a chat template, trained on plain text
        ids: list[int] = tokenizer(TRIAL_PROMPT)["input_ids"]
        return ids


def next_logits(
    pair: LoadedPair, prompts: Sequence[Sequence[int]], strength: float, positions: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return both sides' logits after the last `positions` tokens of their prompts, `(positions, vocabulary)`."""
    if pair.can_share_batch() and len(prompts[0]) == len(prompts[1]):
        with activate_both_sides(pair, strength) as model:
            logits = _logits(model, prompts, positions)
        return logits[0], logits[1]
    found = []
    for loaded, prompt in zip(pair.loaded_sides, prompts, strict=True):
        with activate_side(loaded, strength) as model:
            found += list(_logits(model, [prompt], positions))
    return found[0], found[1]


def side_logits(pair: LoadedPair, index: int, ids: Sequence[int], strength: float, positions: int) -> torch.Tensor:
    """Return one side's logits after the last `positions` tokens, without other rows, `(positions, vocabulary)`."""
    with activate_side(pair.loaded_sides[index], strength) as model:
        logits = _logits(model, [ids], positions)
    return logits[0]


@torch.no_grad()
def _logits(model: PreTrainedModel, prompts: Sequence[Sequence[int]], positions: int) -> torch.Tensor:
    """Return the logits of prompts of equal length, `(batch, positions, vocabulary)`."""
    ids = torch.tensor([list(prompt) for prompt in prompts], device=model.device)
    output = model(input_ids=ids, use_cache=False, logits_to_keep=min(positions, ids.shape[1]))
    logits: torch.Tensor = output.logits
    return logits


def has_adjustable_strength(loaded: LoadedSide) -> bool:
    """Return whether the side is the base or an adapter whose effect can be scaled."""
    if loaded.adapter is None:
        return loaded.is_base
    return can_apply_row_adapters(loaded.model, [loaded.adapter])


@contextmanager
def activate_both_sides(pair: LoadedPair, strength: float) -> Iterator[PreTrainedModel]:
    """Yield the model with the two sides as the two rows of a batch."""
    rows = [RowAdapter(loaded.adapter, strength) for loaded in pair.loaded_sides]
    with apply_row_adapters(pair.loaded_sides[0].model, rows):
        yield pair.loaded_sides[0].model


@contextmanager
def activate_side(loaded: LoadedSide, strength: float) -> Iterator[PreTrainedModel]:
    """Yield the model with one side active."""
    if loaded.adapter is not None and has_adjustable_strength(loaded):
        with apply_row_adapters(loaded.model, [RowAdapter(loaded.adapter, strength)]):
            yield loaded.model
    else:
        with only_active(loaded.model, loaded.adapter):
            yield loaded.model
