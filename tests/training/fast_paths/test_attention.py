"""Attention of conversations that lie end to end: each one's own, equal to attention of each alone."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sft_app.errors import ModelError
from sft_app.training.fast_paths.attention import SEPARATE_ATTENTION, attend_separately, separate_attention

LENGTHS = (5, 1, 9, 3)


def exact(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, window: int | None) -> torch.Tensor:
    """Softmax over what each token may see, written out; `(1, tokens, heads, dim)`."""
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    owner = torch.repeat_interleave(torch.arange(len(LENGTHS)), torch.tensor(LENGTHS))
    places = torch.arange(sum(LENGTHS))
    distance = places[:, None] - places
    seen = (owner[:, None] == owner) & (distance >= 0) & (distance < (window or sum(LENGTHS)))
    scores = (query @ key.transpose(2, 3) * 0.3).masked_fill(~seen, -torch.inf)
    return (scores.softmax(-1) @ value).transpose(1, 2)


@pytest.mark.parametrize("window", [None, 4])
@pytest.mark.parametrize("key_heads", [1, 2, 4])
def test_each_conversation_attends_to_itself(key_heads: int, window: int | None) -> None:
    torch.manual_seed(0)
    total = sum(LENGTHS)
    query = torch.randn(1, 4, total, 8, requires_grad=True)
    key, value = (torch.randn(1, key_heads, total, 8, requires_grad=True) for _ in range(2))
    borders = torch.tensor([0, *torch.tensor(LENGTHS).cumsum(0)], dtype=torch.int32)
    quick, weights = attend_separately(
        None, query, key, value, None, scaling=0.3, sliding_window=window, cu_seq_lens_q=borders
    )
    wanted = exact(query, key, value, window)
    assert weights is None
    torch.testing.assert_close(quick, wanted)
    direction = torch.randn_like(wanted)
    for one, other in zip(
        torch.autograd.grad((quick * direction).sum(), (query, key, value)),
        torch.autograd.grad((wanted * direction).sum(), (query, key, value)),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_a_row_without_borders_is_an_error() -> None:
    row = torch.randn(1, 2, 6, 4)
    with pytest.raises(ModelError, match="does not pass on where conversations begin"):
        attend_separately(None, row, row, row, None)


@pytest.mark.parametrize(
    "wanted", [{"attention_mask": torch.zeros(1, 1, 6, 6)}, {"s_aux": torch.zeros(2)}, {"is_causal": False}]
)
def test_what_is_more_than_causal_attention_is_an_error(wanted: dict[str, Any]) -> None:
    row, borders = torch.randn(1, 2, 6, 4), torch.tensor([0, 6], dtype=torch.int32)
    with pytest.raises(ModelError, match="more than causal attention"):
        attend_separately(None, row, row, row, **{"attention_mask": None, "cu_seq_lens_q": borders, **wanted})


class Config(SimpleNamespace):
    def get_text_config(self) -> Config:
        return self


@pytest.mark.parametrize(
    ("config", "during"),
    [
        (Config(_attn_implementation="sdpa"), SEPARATE_ATTENTION),
        (Config(_attn_implementation="sdpa", attn_logit_softcapping=50.0), "sdpa"),
        (Config(_attn_implementation="sdpa", attention_chunk_size=8192), "sdpa"),
        (Config(_attn_implementation="eager"), "eager"),
    ],
)
def test_a_model_with_special_attention_keeps_its_own(config: Config, during: str) -> None:
    before = config._attn_implementation
    with pytest.raises(ZeroDivisionError), separate_attention(SimpleNamespace(config=config)):
        assert config._attn_implementation == during
        raise ZeroDivisionError
    assert config._attn_implementation == before
