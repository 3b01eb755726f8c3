"""Two sides in memory, and the model as each of them has it: together as rows of a batch, or one at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sft_app.inference.batched_adapters import RowAdapter, can_scale_rows, only_active, scale_rows
from sft_app.inference.loaded_models import LoadedModels, LoadedSide
from sft_app.inference.sides import Side


@dataclass(frozen=True)
class LoadedPair:
    """Two sides in memory."""

    sides: tuple[Side, Side]
    loaded_sides: tuple[LoadedSide, LoadedSide]
    models: LoadedModels

    @property
    def tokenizer(self) -> Any:
        return self.models.tokenizer

    def can_work_together(self) -> bool:
        """Whether both sides are rows of one batch."""
        left, right = self.loaded_sides
        return left.model is right.model and all(has_strength(loaded) for loaded in self.loaded_sides)


def load_pair(sides: tuple[Side, Side], home: Path, models: LoadedModels | None = None) -> LoadedPair:
    """Sides from `find_sides`, with the `models` that are loaded already where they serve them.

    Raises: ModelError when the base cannot be loaded, or an adapter does not fit it.
    """
    if models is None or not models.serves(sides[0]):
        models = LoadedModels.of(sides, home)
    return LoadedPair(sides, models.loaded_sides(*sides), models)


def next_logits(
    pair: LoadedPair, prompts: Sequence[Sequence[int]], strength: float, positions: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Both sides' logits after each of the last `positions` tokens of their prompts, `(positions, vocabulary)`."""
    if pair.can_work_together() and len(prompts[0]) == len(prompts[1]):
        with both_sides(pair, strength) as model:
            left, right = _logits(model, prompts, positions)
        return left, right
    found = []
    for loaded, prompt in zip(pair.loaded_sides, prompts, strict=True):
        with side_alone(loaded, strength) as model:
            found += list(_logits(model, [prompt], positions))
    return found[0], found[1]


def logits_alone(pair: LoadedPair, place: int, ids: Sequence[int], strength: float, positions: int) -> torch.Tensor:
    """One side's logits after each of the last `positions` tokens, with no other row, `(positions, vocabulary)`."""
    with side_alone(pair.loaded_sides[place], strength) as model:
        (logits,) = _logits(model, [ids], positions)
    return logits


@torch.no_grad()
def _logits(model: Any, prompts: Sequence[Sequence[int]], positions: int) -> torch.Tensor:
    """`(batch, positions, vocabulary)` of prompts of one length."""
    ids = torch.tensor([list(prompt) for prompt in prompts], device=model.device)
    return model(input_ids=ids, use_cache=False, logits_to_keep=min(positions, ids.shape[1])).logits


def has_strength(loaded: LoadedSide) -> bool:
    """Whether the side is a share of an adapter's effect on the base; the base has none of it."""
    if loaded.adapter is None:
        return loaded.is_base
    return can_scale_rows(loaded.model, [loaded.adapter])


@contextmanager
def both_sides(pair: LoadedPair, strength: float) -> Iterator[Any]:
    """The model whose two rows are the two sides."""
    rows = [RowAdapter(loaded.adapter, strength) for loaded in pair.loaded_sides]
    with scale_rows(pair.loaded_sides[0].model, rows):
        yield pair.loaded_sides[0].model


@contextmanager
def side_alone(loaded: LoadedSide, strength: float) -> Iterator[Any]:
    """The model as one side has it."""
    if loaded.adapter is not None and has_strength(loaded):
        with scale_rows(loaded.model, [RowAdapter(loaded.adapter, strength)]):
            yield loaded.model
    else:
        with only_active(loaded.model, loaded.adapter):
            yield loaded.model
