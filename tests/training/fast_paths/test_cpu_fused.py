"""The functions that take fewer passes: the libraries' numbers and gradients, while training, where they fit."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from sft_app.models.lora_targets import attach_lora
from sft_app.settings import parse_settings
from sft_app.training.fast_paths.cpu_fused import ORIGINAL_FORWARD, LoraLinearFunction, fuse_modules, unfuse_modules
from tests.families.table import tiny_model

LAYERS = 2
MODULES = 7 * LAYERS  # linear layers with an adapter
NORMS = 2 * LAYERS + 1


def adapted(**settings: Any) -> Any:
    """A tiny model with an adapter that has an effect."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    model = LlamaForCausalLM(config)
    if settings.get("method") == "full":
        return model
    model = attach_lora(model, parse_settings({"lora_r": 4, **settings}))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return model


def gradients(model: Any) -> dict[str, torch.Tensor]:
    model.train()
    model.zero_grad()
    ids = torch.arange(24).reshape(2, 12) % 50
    model(input_ids=ids, labels=ids).loss.backward()
    return {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, MODULES + NORMS + LAYERS),
        ({"lora_target_modules": "q_proj"}, LAYERS + NORMS + LAYERS),
        ({"use_rslora": True}, MODULES + NORMS + LAYERS),
        ({"use_dora": True}, NORMS + LAYERS),
        ({"lora_dropout": 0.1}, NORMS + LAYERS),
        ({"method": "full"}, LAYERS),
    ],
)
def test_gradients_stay_the_same_whatever_is_trained(settings: dict[str, Any], expected: int) -> None:
    own, fused = adapted(**settings), adapted(**settings)
    if "lora_dropout" in settings:
        for model in (own, fused):
            for module in model.modules():
                if isinstance(module, torch.nn.Dropout):
                    module.p = 0.0
    assert fuse_modules(fused) == expected
    before, after = gradients(own), gradients(fused)
    assert before.keys() == after.keys()
    for name, gradient in before.items():
        torch.testing.assert_close(after[name], gradient, rtol=1e-4, atol=1e-6, msg=lambda m, n=name: n + m)


def test_a_strength_of_the_adapter_that_is_set_later_counts() -> None:
    own, fused = adapted(), adapted()
    fuse_modules(fused)
    for model in (own, fused):
        for module in model.modules():
            if hasattr(module, "lora_A"):
                module.scaling["default"] *= 3
    before, after = gradients(own), gradients(fused)
    for name, gradient in before.items():
        torch.testing.assert_close(after[name], gradient, rtol=1e-4, atol=1e-6)


def test_evaluation_runs_the_libraries_own_code() -> None:
    own, fused = adapted().eval(), adapted()
    fuse_modules(fused)
    fused.eval()
    ids = torch.arange(12)[None]
    assert torch.equal(own(input_ids=ids).logits, fused(input_ids=ids).logits)
    with fused.disable_adapter(), own.disable_adapter():
        assert torch.equal(own(input_ids=ids).logits, fused(input_ids=ids).logits)


def test_a_norm_of_another_kind_keeps_its_own() -> None:
    model = adapted()
    for module in model.modules():
        if type(module).__name__ == "LlamaRMSNorm":
            module.forward = lambda x: x * 2.0
    assert fuse_modules(model) == MODULES + LAYERS


def test_weights_of_less_precision_keep_the_libraries_code() -> None:
    assert fuse_modules(copy.deepcopy(adapted()).bfloat16()) == 0


def test_the_product_of_a_half_precision_base_is_right_too() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 5, 16, requires_grad=True)
    weight, bias = torch.randn(24, 16).bfloat16(), torch.randn(24).bfloat16()
    a, b = torch.randn(4, 16, requires_grad=True), torch.randn(24, 4, requires_grad=True)
    quick = LoraLinearFunction.apply(x, weight, bias, a, b, 0.5)
    wanted = x @ weight.float().t() + bias.float() + 0.5 * (x @ a.t()) @ b.t()
    for one, other in zip(
        torch.autograd.grad(quick.float().square().sum(), (x, a, b)),
        torch.autograd.grad(wanted.square().sum(), (x, a, b)),
        strict=True,
    ):
        assert torch.cosine_similarity(one.flatten(), other.flatten(), dim=0) > 0.999


@pytest.mark.parametrize("name", ["gemma3n_text", "nanochat"])
def test_norms_without_a_weight_keep_their_own(name: str) -> None:
    model = attach_lora(tiny_model(name), parse_settings({"lora_r": 4}))
    assert fuse_modules(model) > 0
    norms = [module for module in model.modules() if "RMSNorm" in type(module).__name__]
    bare = [norm for norm in norms if not list(norm.parameters())]
    assert bare and not any(ORIGINAL_FORWARD in vars(norm) for norm in bare)


def test_a_module_without_parameters_is_left_alone() -> None:
    model = adapted()
    model.add_module("bare", type("RMSNorm", (torch.nn.Module,), {"forward": lambda self, x: x})())
    assert fuse_modules(model) == MODULES + NORMS + LAYERS


def test_a_norm_with_another_epsilon_than_it_tells_keeps_its_own() -> None:
    model = adapted()
    for module in model.modules():
        if type(module).__name__ == "LlamaRMSNorm":
            module.epsilon, module.variance_epsilon = module.variance_epsilon, 1e-12
            module.forward = partial(norm_of, module)
    assert fuse_modules(model) == MODULES + LAYERS


def norm_of(module: Any, x: torch.Tensor) -> torch.Tensor:
    return module.weight * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + module.epsilon)


def test_what_was_fused_can_be_put_back() -> None:
    own, fused = adapted(), adapted()
    fuse_modules(fused)
    unfuse_modules(fused)
    assert not any("forward" in vars(module) for module in fused.modules())
    assert gradients(own).keys() == gradients(fused).keys()
    assert fuse_modules(fused) == MODULES + NORMS + LAYERS
