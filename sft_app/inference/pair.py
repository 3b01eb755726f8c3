"""Two sides in memory, and the model as each of them has it: together as rows of a batch, or one at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sft_app.inference.batched_adapters import RowAdapter, can_scale_rows, only_active, scale_rows
from sft_app.inference.loaded_models import LoadedModels, Voice
from sft_app.inference.sides import Side


@dataclass(frozen=True)
class LoadedPair:
    """Two sides in memory."""

    sides: tuple[Side, Side]
    voices: tuple[Voice, Voice]
    models: LoadedModels

    @property
    def tokenizer(self) -> Any:
        return self.models.tokenizer

    def can_work_together(self) -> bool:
        """Whether both sides are rows of one batch."""
        left, right = self.voices
        return left.model is right.model and all(has_strength(voice) for voice in self.voices)


def load_pair(sides: tuple[Side, Side], home: Path, models: LoadedModels | None = None) -> LoadedPair:
    """Sides from `find_sides`, with the `models` that are loaded already where they serve them.

    Raises: ModelError when the base cannot be loaded, or an adapter does not fit it.
    """
    if models is None or not models.serves(sides[0]):
        models = LoadedModels.of(sides, home)
    return LoadedPair(sides, models.voices(*sides), models)


def next_logits(
    pair: LoadedPair, prompts: Sequence[Sequence[int]], strength: float, positions: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Both sides' logits after each of the last `positions` tokens of their prompts, `(positions, vocabulary)`."""
    if pair.can_work_together() and len(prompts[0]) == len(prompts[1]):
        with both_sides(pair, strength) as model:
            left, right = _logits(model, prompts, positions)
        return left, right
    found = []
    for voice, prompt in zip(pair.voices, prompts, strict=True):
        with side_alone(voice, strength) as model:
            found += list(_logits(model, [prompt], positions))
    return found[0], found[1]


def logits_alone(pair: LoadedPair, place: int, ids: Sequence[int], strength: float, positions: int) -> torch.Tensor:
    """One side's logits after each of the last `positions` tokens, with no other row, `(positions, vocabulary)`."""
    with side_alone(pair.voices[place], strength) as model:
        (logits,) = _logits(model, [ids], positions)
    return logits


@torch.no_grad()
def _logits(model: Any, prompts: Sequence[Sequence[int]], positions: int) -> torch.Tensor:
    """`(batch, positions, vocabulary)` of prompts of one length."""
    ids = torch.tensor([list(prompt) for prompt in prompts], device=model.device)
    return model(input_ids=ids, use_cache=False, logits_to_keep=min(positions, ids.shape[1])).logits


def has_strength(voice: Voice) -> bool:
    """Whether the side is a share of an adapter's effect on the base; the base has none of it."""
    if voice.adapter is None:
        return voice.is_base
    return can_scale_rows(voice.model, [voice.adapter])


@contextmanager
def both_sides(pair: LoadedPair, strength: float) -> Iterator[Any]:
    """The model whose two rows are the two sides."""
    rows = [RowAdapter(voice.adapter, strength) for voice in pair.voices]
    with scale_rows(pair.voices[0].model, rows):
        yield pair.voices[0].model


@contextmanager
def side_alone(voice: Voice, strength: float) -> Iterator[Any]:
    """The model as one side has it."""
    if voice.adapter is not None and has_strength(voice):
        with scale_rows(voice.model, [RowAdapter(voice.adapter, strength)]):
            yield voice.model
    else:
        with only_active(voice.model, voice.adapter):
            yield voice.model
