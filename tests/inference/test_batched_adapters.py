"""The product that an adapter adds to its rows, on plain and on 4-bit layers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn.functional import linear

from sft_app.inference import batched_adapters
from sft_app.inference.batched_adapters import RowAdapter, apply_row_adapters
from sft_app.inference.decoding import logits_agree
from sft_app.models.catalog import ModelRef
from sft_app.models.hardware import Hardware
from sft_app.models.loading import load_base
from sft_app.models.lora_targets import attach_lora
from sft_app.settings import parse_settings

CPU = Hardware("cpu", "test", "bfloat16", "", 1.0, 1.0, 1)


def factors(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(4, 8).to(dtype), torch.randn(6, 4).to(dtype)


@pytest.mark.parametrize("add", [batched_adapters._add_product, batched_adapters._add_rounded_product])
@pytest.mark.parametrize(("seq", "is_fused"), [(1, True), (3, False)])
def test_step_of_one_token_is_one_call_on_every_kind_of_layer(add: object, seq: int, is_fused: bool) -> None:
    a, b = factors(torch.float32)
    x, base = torch.randn(2, seq, 8), torch.randn(2, seq, 6)
    result = base.clone()
    assert batched_adapters._add_fused(result.clone(), x, a, b, 0.5) == is_fused
    add(result, x, a, b, 0.5)  # type: ignore[operator]
    assert torch.allclose(result, base + 0.5 * linear(linear(x, a), b), atol=1e-5)


def test_adapter_of_another_dtype_is_rounded_as_peft_does() -> None:
    a, b = factors(torch.float32)
    x, base = torch.randn(2, 1, 8).bfloat16(), torch.randn(2, 1, 6).bfloat16()
    result = base.clone()
    batched_adapters._add_rounded_product(result, x, a, b, 0.5)
    assert torch.equal(result, base + (linear(linear(x.float(), a), b) * 0.5).bfloat16())


def test_4bit_step_with_adapters_of_its_dtype_is_fused_and_agrees_with_peft(
    tiny_model_dir: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = load_base(ModelRef("tiny", str(tiny_model_dir), None, "local folder"), home, CPU, in_4bit=True)
    model = attach_lora(base, parse_settings({"lora_r": 4, "method": "qlora"})).eval()
    torch.manual_seed(7)
    for name, weight in model.named_parameters():
        if "lora_" in name:
            weight.data = (torch.randn_like(weight) * 0.1).bfloat16()
    fused: list[bool] = []
    real = batched_adapters._add_fused
    monkeypatch.setattr(batched_adapters, "_add_fused", lambda *parts: fused.append(real(*parts)) or fused[-1])
    ids = torch.tensor([[5], [5]])
    with torch.no_grad():
        expected = model(input_ids=ids).logits[:, -1]
        with model.disable_adapter():
            untouched = model(input_ids=ids).logits[:, -1]
        with apply_row_adapters(model, [RowAdapter(None), RowAdapter("default")]):
            found = model(input_ids=ids).logits[:, -1]
    assert fused and all(fused)
    assert torch.equal(found[0], untouched[0])
    assert logits_agree(found[1], expected[1]) and not torch.equal(found[0], found[1])
