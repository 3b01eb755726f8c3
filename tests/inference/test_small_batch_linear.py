"""Steps of a few rows are the same arithmetic, written otherwise."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from sft_app.inference import decoding
from sft_app.inference.generation import Sampling, generate_tokens
from sft_app.inference.small_batch_linear import patched_forward, small_batch_products


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("rows", [1, 2, 16, 64, 65])
@torch.no_grad()
def test_product_of_a_few_rows_is_the_layers_own(rows: int, bias: bool) -> None:
    torch.manual_seed(0)
    layer, x = nn.Linear(96, 80, bias=bias), torch.randn(rows, 1, 96)
    usual = layer(x)
    with patched_forward(small_batch_products(layer, rows=2)):
        found = layer(x)
    assert found.shape == (rows, 1, 80) and found.is_contiguous()
    torch.testing.assert_close(found, usual)


@torch.no_grad()
def test_row_has_the_same_product_whatever_stands_in_the_other() -> None:
    layer, x = nn.Linear(96, 80), torch.randn(3, 1, 96)
    with patched_forward(small_batch_products(layer, rows=2)):
        assert torch.equal(layer(x[[0, 1]])[0], layer(x[[0, 2]])[0])


def test_narrow_layers_and_other_precisions_stay_as_they_are() -> None:
    wide, narrow, bfloat16 = nn.Linear(64, 64), nn.Linear(64, 16), nn.Linear(64, 64, dtype=torch.bfloat16)
    layers = nn.ModuleList([wide, narrow, bfloat16])
    assert list(small_batch_products(layers, rows=2)) == [wide]
    assert small_batch_products(layers, rows=1) == {} == small_batch_products(layers, rows=65)


def test_layers_are_themselves_again_after_an_error() -> None:
    layer = nn.Linear(64, 64)
    with pytest.raises(RuntimeError, match="in the middle"), patched_forward({layer: lambda x: x}):
        assert layer(3) == 3
        raise RuntimeError("in the middle")
    assert "forward" not in vars(layer)


def test_answers_are_the_same_without_it(base_model: Any, prompt_ids: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts, sampling = [prompt_ids("Where is my order?"), prompt_ids("Hi")], Sampling(1.0, max_new_tokens=16)
    assert len(small_batch_products(base_model, rows=2)) > 6
    with_it = list(generate_tokens(base_model, prompts, sampling, (), 0))
    assert not any("forward" in vars(module) for module in base_model.modules())
    monkeypatch.setattr(decoding, "small_batch_products", lambda *_: {})
    assert list(generate_tokens(base_model, prompts, sampling, (), 0)) == with_it
