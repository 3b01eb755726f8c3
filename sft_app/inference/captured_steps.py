"""Decode one token per row with a captured step: a fixed cache, and kernels recorded once and repeated.

On a GPU, a step of one token spends most of its time starting kernels; a CUDA graph starts all of them at once. The
captured step follows the ordinary one for the first tokens of every answer, on the very model, adapters and prompt, and
takes over only if it gives the same.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import torch

from sft_app.inference.decoding import left_padded, logits_agree, longrope_length, step_logits

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CHECKED_TOKENS = 8
# CUDA libraries choose kernels and take memory in their first calls, which cannot be captured.
WARM_UP = 3
logger = logging.getLogger(__name__)


class CapturedStep(Protocol):
    """Repeats a function that reads and writes tensors that stay where they are, such as a model's step."""

    def capture(self, function: Callable[[], torch.Tensor]) -> None:
        """Record the function; it may be called several times, and its effects are undone afterwards."""

    def replay(self) -> torch.Tensor:
        """Do what the function did and return its result."""


class CudaGraphStep:
    """Records the kernels of a function as a CUDA graph."""

    _graph: Any
    _result: torch.Tensor

    def capture(self, function: Callable[[], torch.Tensor]) -> None:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                function()
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._result = function()

    def replay(self) -> torch.Tensor:
        self._graph.replay()
        return self._result


def captured_step(device: torch.device) -> CapturedStep | None:
    """Return what captures a step on this device, or None."""
    return CudaGraphStep() if device.type == "cuda" else None


@torch.no_grad()
def fastest_step_logits(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], pad_id: int, max_new_tokens: int
) -> Generator[torch.Tensor, torch.Tensor, None]:
    """Yield the logits of each row's next token and receive the chosen ids, as `step_logits` does.

    The captured step takes over after `CHECKED_TOKENS` tokens on which it agrees with the ordinary one.
    """
    steps = step_logits(model, prompts, pad_id)
    logits, fixed = next(steps), None
    for number in range(CHECKED_TOKENS):
        chosen = yield logits
        if number == 0:  # after the first token, which should not wait for it
            fixed = _start_fixed(model, prompts, pad_id, max_new_tokens)
        logits = steps.send(chosen)
        if fixed is not None and not _agrees(fixed, chosen, logits):
            fixed = None
    if fixed is not None:
        steps.close()  # frees its cache
        while True:
            logits = fixed.step((yield logits))
    while True:
        logits = steps.send((yield logits))


class FixedCacheSteps:
    """Decodes with a cache of a fixed size, whose tensors and inputs stay where they are."""

    def __init__(
        self, model: PreTrainedModel, prompts: Sequence[Sequence[int]], pad_id: int, length: int, step: CapturedStep
    ) -> None:
        from transformers import StaticCache

        self._model, self._captured = model, step
        self._cache = StaticCache(config=model.config, max_cache_len=length)
        if not all(_is_fixed(layer, length) for layer in self._cache.layers):
            raise ValueError("a layer's cache is not of a fixed size")
        ids, mask = left_padded(prompts, pad_id, model.device)
        positions = mask.cumsum(-1).sub(1).clamp(min=0)
        model(input_ids=ids, attention_mask=mask, position_ids=positions, **self._options())
        self._filled = ids.shape[1]
        self._mask = torch.nn.functional.pad(mask, (0, length - self._filled))
        self._ids, self._positions = ids[:, -1:].clone(), positions[:, -1:].clone()
        self._is_captured = False

    def step(self, chosen: torch.Tensor) -> torch.Tensor:
        """Return the logits after these ids, `(batch,)`, in a tensor that the next step overwrites."""
        self._ids.copy_(chosen[:, None])
        self._positions.add_(1)
        self._mask[:, self._filled] = 1
        self._filled += 1
        if not self._is_captured:
            self._capture()
        return self._captured.replay()

    def _capture(self) -> None:
        """Capture the step and undo how often that has run: what it wrote beyond the text is written over."""
        layers: list[Any] = self._cache.layers
        before = [(layer, layer.cumulative_length.clone()) for layer in layers]
        self._captured.capture(self._forward)
        for layer, length in before:
            layer.cumulative_length.copy_(length)
            if layer.is_sliding:
                layer.cumulative_length_int = int(length)
        self._is_captured = True

    def _forward(self) -> torch.Tensor:
        output = self._model(
            input_ids=self._ids, attention_mask=self._mask, position_ids=self._positions, **self._options()
        )
        logits: torch.Tensor = output.logits[:, -1]
        return logits

    def _options(self) -> dict[str, Any]:
        return {"past_key_values": self._cache, "use_cache": True, "logits_to_keep": 1}


def _is_fixed(layer: Any, length: int) -> bool:
    """Return whether a layer's cache only fills up. A sliding window that fills decides in Python, once captured."""
    from transformers.cache_utils import StaticLayer

    return isinstance(layer, StaticLayer) and (not layer.is_sliding or layer.max_cache_len >= length)


def _start_fixed(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], pad_id: int, max_new_tokens: int
) -> FixedCacheSteps | None:
    step = captured_step(torch.device(model.device))
    if step is None or max_new_tokens <= 2 * CHECKED_TOKENS or longrope_length(model) is not None:
        return None
    length = max(len(prompt) for prompt in prompts) + max_new_tokens
    try:
        return FixedCacheSteps(model, prompts, pad_id, length, step)
    except Exception as error:  # a model not made for such a cache may fail in any way
        logger.debug("no cache of a fixed size: %s: %s", type(error).__name__, error)
        return None


def _agrees(fixed: FixedCacheSteps, chosen: torch.Tensor, expected: torch.Tensor) -> bool:
    """Return whether the captured step gives the same logits up to rounding, and the same most likely tokens."""
    try:
        logits = fixed.step(chosen)
        agrees = logits_agree(logits, expected) and bool((logits.argmax(-1) == expected.argmax(-1)).all())
    except Exception as error:  # what a capture does not allow
        logger.debug("the step cannot be captured: %s: %s", type(error).__name__, error)
        return False
    if not agrees:
        logger.debug("the captured step differs from the ordinary one")
    return agrees
