"""Attention of conversations that lie end to end: each one's own, equal to attention of each alone."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from sft_app.training.fast.attention import SEPARATE, attend_separately, separate_attention

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


def test_a_row_without_borders_is_one_conversation() -> None:
    row = torch.randn(1, 2, 6, 4)
    borders = torch.tensor([0, 6], dtype=torch.int32)
    alone, _ = attend_separately(None, row, row, row, None)
    torch.testing.assert_close(alone, attend_separately(None, row, row, row, None, cu_seq_lens_q=borders)[0])


class Config(SimpleNamespace):
    def get_text_config(self) -> Config:
        return self


@pytest.mark.parametrize(
    ("config", "during"),
    [
        (Config(_attn_implementation="sdpa"), SEPARATE),
        (Config(_attn_implementation="sdpa", attn_logit_softcapping=50.0), "sdpa"),
        (Config(_attn_implementation="eager"), "eager"),
    ],
)
def test_a_model_with_special_attention_keeps_its_own(config: Config, during: str) -> None:
    before = config._attn_implementation
    with pytest.raises(ZeroDivisionError), separate_attention(SimpleNamespace(config=config)):
        assert config._attn_implementation == during
        raise ZeroDivisionError
    assert config._attn_implementation == before
