"""What an adapter is trained on by default, in each kind of model, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from peft.tuners.lora import LoraLayer

from sft_app.errors import ModelError
from sft_app.models.layers import expert_tensors
from sft_app.models.lora_targets import attach_lora
from sft_app.settings import parse_settings
from tests.families.table import FAMILIES, tiny_model

MIXTURES = [name for name in FAMILIES if "num_experts" in FAMILIES[name]]


def adapted(name: str, **settings: Any) -> list[str]:
    """The full names of the layers that have got an adapter."""
    model = attach_lora(tiny_model(name), parse_settings({"method": "lora", "lora_r": 4, **settings}))
    names = [path for path, module in model.named_modules() if isinstance(module, LoraLayer)]
    return [path.removeprefix("base_model.model.").replace(".base_layer", "") for path in names]


@pytest.mark.parametrize("name", MIXTURES)
def test_experts_of_every_layer_are_trained_and_no_router_is(name: str) -> None:
    tensors, names = expert_tensors(tiny_model(name)), adapted(name)
    holders = {tensor.rpartition(".")[0] for tensor in tensors}
    assert tensors and holders <= set(names)
    for path in names:
        assert not {"router", "gate", "shared_expert_gate"} & set(path.split(".")), path


@pytest.mark.parametrize("changes", [{"use_dora": True}, {"lora_dropout": 0.1}])
def test_experts_stay_as_they_are_where_peft_cannot_adapt_them(changes: dict[str, Any]) -> None:
    names = adapted("qwen3_moe", **changes)
    assert names and not any("experts" in path for path in names)


def test_only_the_text_of_a_model_that_reads_pictures_is_trained() -> None:
    for name in ("gemma3", "mistral3", "qwen2_5_vl"):
        names = adapted(name)
        assert names and all("language_model" in path for path in names)
        assert {path.split(".")[-1] for path in names} >= {"q_proj", "v_proj", "down_proj"}


def test_the_layer_that_a_states_kernels_read_directly_is_left_out() -> None:
    for name in ("mamba2", "bamba", "nemotron_h", "falcon_h1", "granitemoehybrid"):
        assert not any(path.endswith(("out_proj", "x_proj", "dt_proj")) for path in adapted(name))


def test_layers_in_a_numbered_list_are_not_taken_for_the_blocks() -> None:
    assert any("altup_projections" in path for path in adapted("gemma3n_text"))


@pytest.mark.parametrize("chosen", ["lm_head", "q_proj, embed_tokens"])
def test_a_layer_that_shares_its_weights_is_refused(chosen: str) -> None:
    with pytest.raises(ModelError, match="shares its weights with another layer"):
        adapted("llama_tied", lora_target_modules=chosen)
    assert adapted("llama", lora_target_modules=chosen)


def test_names_that_no_layer_has_are_told() -> None:
    with pytest.raises(ModelError, match="^lora_target_modules 'nothing': "):
        adapted("llama", lora_target_modules="nothing")
