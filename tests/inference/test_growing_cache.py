"""A cache that grows in place holds what transformers' own does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from sft_app.inference import decoding
from sft_app.inference.generation import Sampling, generate_tokens
from sft_app.inference.growing_cache import SPARE, GrowingLayer, let_grow


def filled(layer: Any, lengths: list[int]) -> Any:
    torch.manual_seed(0)
    for length in lengths:
        layer.update(*(torch.randn(3, 2, length, 4) for _ in range(2)))
    return layer


def test_it_holds_the_same_after_any_number_of_tokens() -> None:
    torch.manual_seed(0)
    usual = filled(DynamicLayer(), [5])
    growing = GrowingLayer(filled(DynamicLayer(), [5]))
    for number in range(2 * SPARE + 3):
        states = [torch.randn(3, 2, 1 + number % 2, 4) for _ in range(2)]
        for one, other in zip(usual.update(*states), growing.update(*states), strict=True):
            assert torch.equal(one, other)
        assert growing.get_seq_length() == usual.get_seq_length()


@pytest.mark.parametrize("change", ["batch_select_indices", "crop", "batch_repeat_interleave"])
def test_it_goes_on_after_the_cache_was_changed(change: str) -> None:
    arguments = {"batch_select_indices": torch.tensor([2, 0]), "crop": -2, "batch_repeat_interleave": 2}
    usual, growing = filled(DynamicLayer(), [5]), GrowingLayer(filled(DynamicLayer(), [5]))
    rows = {"batch_select_indices": 2, "crop": 3, "batch_repeat_interleave": 6}[change]
    for number in range(3):
        states = [torch.randn(rows if number else 3, 2, 1, 4) for _ in range(2)]
        one, other = usual.update(*states), growing.update(*states)
        assert all(map(torch.equal, one, other))
        if number == 0:
            for layer in (usual, growing):
                getattr(layer, change)(arguments[change])


def test_only_plain_layers_that_hold_something_are_replaced() -> None:
    cache = DynamicCache()
    cache.layers = [
        filled(DynamicLayer(), [3]),
        DynamicLayer(),
        filled(DynamicSlidingWindowLayer(sliding_window=4), [3]),
    ]
    let_grow(cache)
    assert [type(layer) for layer in cache.layers] == [GrowingLayer, DynamicLayer, DynamicSlidingWindowLayer]
    let_grow(None)
    let_grow(object())


def test_answers_are_the_same_without_it(
    base_model: Any, prompt_ids: Callable[[str], list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts, sampling = [prompt_ids("Where is my order?"), prompt_ids("Hi")], Sampling(1.0, max_new_tokens=SPARE + 9)
    grown: list[Any] = []
    monkeypatch.setattr(decoding, "let_grow", lambda cache: [let_grow(cache), grown.append(cache)])
    with_it = list(generate_tokens(base_model, prompts, sampling, (), 0))
    assert len(grown) == 1 and all(type(layer) is GrowingLayer for layer in grown[0].layers)
    monkeypatch.setattr(decoding, "let_grow", lambda cache: None)
    assert list(generate_tokens(base_model, prompts, sampling, (), 0)) == with_it
