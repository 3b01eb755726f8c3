"""Let a cache of keys and values grow without copying all of it for each token."""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import DynamicLayer

SPARE = 64
"""Positions to reserve at a time, so that the cache is copied once per this many tokens."""


class GrowingLayer(DynamicLayer):  # type: ignore[misc]
    """A layer's keys and values, `(batch, heads, length, width)`, as the used part of larger tensors.

    transformers' own layer concatenates both with every new token, a sixth of a step of 16 rows on a CPU.
    """

    def __init__(self, layer: DynamicLayer) -> None:
        super().__init__()
        self.dtype, self.device, self.is_initialized = layer.dtype, layer.device, True
        self.keys, self.values = layer.keys, layer.values
        self._buffers: tuple[torch.Tensor, torch.Tensor] | None = None

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Add keys and values, and return all of them."""
        length, added = self.keys.shape[-2], key_states.shape[-2]
        if self._buffers is None or length + added > self._buffers[0].shape[-2] or not self._is_in_buffers():
            self._buffers = _with_room(self.keys, added + SPARE), _with_room(self.values, added + SPARE)
        for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[..., length : length + added, :] = states
        self.keys, self.values = (buffer[..., : length + added, :] for buffer in self._buffers)
        return self.keys, self.values

    def _is_in_buffers(self) -> bool:
        """Return whether nobody has put other tensors in the place of keys and values, as reordering does."""
        shown = zip((self.keys, self.values), self._buffers or (), strict=True)
        return all(part.data_ptr() == buffer.data_ptr() and part.shape[0] == buffer.shape[0] for part, buffer in shown)


def let_grow(cache: Any) -> None:
    """Let the layers of a filled cache on a CPU grow in place; layers of other kinds stay as they are."""
    layers = getattr(cache, "layers", None) or []
    for index, layer in enumerate(layers):
        if type(layer) is DynamicLayer and layer.is_initialized and layer.device.type == "cpu" and layer.keys.numel():
            layers[index] = GrowingLayer(layer)


def _with_room(states: torch.Tensor, room: int) -> torch.Tensor:
    """Return a copy with room for more positions."""
    batch, heads, length, width = states.shape
    buffer = states.new_empty(batch, heads, length + room, width)
    buffer[..., :length, :] = states
    return buffer
