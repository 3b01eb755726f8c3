"""The chunked loss: torch's own numbers, and only for models whose logits are a plain product."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, Gemma2Config, GraniteConfig, LlamaConfig

from sft_app.training.fast_paths import loss_head
from sft_app.training.fast_paths.loss_head import SummedCrossEntropy, plain_head_weight, positions_per_chunk

SIZES = {
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}


@pytest.mark.parametrize("tokens", [0, 1, 8, 23])
def test_loss_and_gradients_are_torchs(tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of none, of one, of a whole chunk, and of two and a part."""
    monkeypatch.setattr(loss_head, "MAX_LOGITS_IN_MEMORY", 8 * 40)
    assert positions_per_chunk(40) == 8
    torch.manual_seed(0)
    hidden, weight = torch.randn(tokens, 16, requires_grad=True), torch.randn(40, 16, requires_grad=True)
    targets = torch.randint(40, (tokens,))
    quick = SummedCrossEntropy.apply(hidden, weight, targets)
    wanted = torch.nn.functional.cross_entropy(hidden @ weight.t(), targets, reduction="sum")
    torch.testing.assert_close(quick, wanted, rtol=1e-5, atol=1e-3)
    for one, other in zip(
        torch.autograd.grad(quick * 0.25, (hidden, weight)),
        torch.autograd.grad(wanted * 0.25, (hidden, weight)),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_bfloat16_is_as_near_as_bfloat16_is() -> None:
    torch.manual_seed(0)
    hidden, weight = torch.randn(300, 64).bfloat16().requires_grad_(), torch.randn(500, 64).bfloat16()
    targets = torch.randint(500, (300,))
    quick = SummedCrossEntropy.apply(hidden, weight, targets)
    wanted = torch.nn.functional.cross_entropy(hidden.float() @ weight.float().t(), targets, reduction="sum")
    assert quick.item() == pytest.approx(wanted.item(), rel=1e-2)
    one, other = (torch.autograd.grad(loss, hidden)[0].float().flatten() for loss in (quick, wanted))
    assert torch.cosine_similarity(one, other, dim=0) > 0.999


def test_a_frozen_head_gets_no_gradient() -> None:
    hidden, weight = torch.randn(3, 16, requires_grad=True), torch.randn(40, 16)
    SummedCrossEntropy.apply(hidden, weight, torch.tensor([1, 2, 3])).backward()
    assert hidden.grad is not None and weight.grad is None


def model(config: Any) -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config)


def test_a_plain_head_is_taken() -> None:
    llama = model(LlamaConfig(**SIZES, tie_word_embeddings=True))
    assert plain_head_weight(llama) is llama.lm_head.weight


def test_a_model_that_scales_its_logits_keeps_its_own_head() -> None:
    assert plain_head_weight(model(GraniteConfig(**SIZES, logits_scaling=8.0))) is None


def test_a_cap_that_an_untrained_model_hardly_feels_is_seen() -> None:
    capped = model(Gemma2Config(**SIZES, head_dim=8, final_logit_softcapping=1e4))
    assert plain_head_weight(capped) is None
