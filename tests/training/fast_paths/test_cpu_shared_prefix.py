"""A beginning that is computed once: the same loss and gradients as when each conversation has its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig

from sft_app.data.tokens import IGNORED
from sft_app.training.fast_paths.attention import QUERY_BLOCK_SIZE, separate_attention
from sft_app.training.fast_paths.cpu_shared_prefix import can_share_prefix, share_prefix
from sft_app.training.fast_paths.step_plan import MIN_SHARED_TOKENS

BEGINNING = list(range(10, 10 + MIN_SHARED_TOKENS))
SIZES = {
    "vocab_size": 60,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def flattened(rows: Sequence[tuple[list[int], int]]) -> tuple[dict[str, Any], torch.Tensor]:
    """Rows of (ids, place of the first trained token) as TRL's collator lays them out."""
    ids = [id for row, _ in rows for id in row]
    labels = [id if place >= first else IGNORED for row, first in rows for place, id in enumerate(row)]
    borders = torch.tensor([0, *torch.tensor([len(row) for row, _ in rows]).cumsum(0)], dtype=torch.int32)
    positions = [place for row, _ in rows for place in range(len(row))]
    inputs = {"input_ids": torch.tensor([ids]), "position_ids": torch.tensor([positions]), "cu_seq_lens_q": borders}
    return inputs, torch.tensor(labels)


def loss_of(model: Any, inputs: dict[str, Any], labels: torch.Tensor) -> torch.Tensor:
    with separate_attention(model):
        logits = model(**inputs, use_cache=False).logits[0, :-1]
        loss = torch.nn.functional.cross_entropy(logits, labels[1:], reduction="sum")
        loss.backward()
    return loss


def test_loss_and_gradients_are_those_of_whole_conversations() -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(LlamaConfig(**SIZES))
    rows = [
        ([*BEGINNING, 30, 31, 32, 33], 10),
        ([*BEGINNING, 40, 41], MIN_SHARED_TOKENS + 1),
        ([*BEGINNING, 50, 51, 52, 53, 54, 55], 12),
        ([*BEGINNING, *torch.randint(60, (2 * QUERY_BLOCK_SIZE + 5,)).tolist()], 20),
    ]
    inputs, labels = flattened(rows)
    shorter, fewer = share_prefix(inputs, labels)
    assert shorter["prefix_length"] == MIN_SHARED_TOKENS
    assert shorter["input_ids"].shape[1] == len(fewer) == inputs["input_ids"].shape[1] - 3 * MIN_SHARED_TOKENS
    gradients = []
    for batch, wanted in ((inputs, labels), (shorter, fewer)):
        model.zero_grad()
        loss = loss_of(model, batch, wanted)
        gradients.append((loss.item(), [weight.grad.clone() for weight in model.parameters()]))
    (whole, of_whole), (shared, of_shared) = gradients
    assert shared == pytest.approx(whole, rel=1e-6)
    for one, other in zip(of_whole, of_shared, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "rows",
    [
        [([*BEGINNING, 30, 31], 9)],  # nobody to share with
        [([*BEGINNING, 30, 31], 9), ([1, *BEGINNING, 31], 9)],  # different from the first token on
        [([*BEGINNING, 30, 31], 9), ([*BEGINNING, 30, 32], 4)],  # trained within the beginning
        [([*BEGINNING, 30, 31], 9), (BEGINNING[:4], 3)],  # too short to be worth it
        [([*BEGINNING, 30, 31], 1), ([*BEGINNING, 30, 31], 1)],  # text: trained from the start
    ],
)
def test_what_cannot_be_shared_stays_as_it_is(rows: list[tuple[list[int], int]]) -> None:
    inputs, labels = flattened(rows)
    assert share_prefix(inputs, labels) == (inputs, labels)


def test_equal_conversations_keep_a_token_of_their_own() -> None:
    inputs, labels = flattened([([*BEGINNING, 30, 31], 9), ([*BEGINNING, 30, 31], 9)])
    shorter, fewer = share_prefix(inputs, labels)
    assert shorter["prefix_length"] == MIN_SHARED_TOKENS and (fewer != IGNORED).sum() == 2
    assert shorter["position_ids"][0].tolist() == [*range(MIN_SHARED_TOKENS), 8, 9, 8, 9]


def model(config: Any) -> Any:
    return AutoModelForCausalLM.from_config(config)


def test_where_it_is_done() -> None:
    assert can_share_prefix(model(LlamaConfig(**SIZES)))
    assert not can_share_prefix(model(MistralConfig(**SIZES, sliding_window=8)))
    with_dropout = model(LlamaConfig(**SIZES))
    with_dropout.add_module("dropout", torch.nn.Dropout(0.1))
    assert not can_share_prefix(with_dropout)
