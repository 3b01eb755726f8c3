"""Tell a model's kinds of layers apart: what an adapter can change, and what must be left as it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ROUTER_NAMES = ("router", "gate", "shared_expert_gate")
READ_BY_MAMBA, READ_BY_ALTUP = ("out_proj", "x_proj", "dt_proj"), ("correction_coefs", "prediction_coefs")
EXPERT_COUNTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")


def linear_modules(model: PreTrainedModel) -> Iterator[str]:
    """Yield the names of the linear layers, without the output layer."""
    import torch
    from transformers.pytorch_utils import Conv1D

    head = model.get_output_embeddings()
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear | Conv1D) and module is not head:
            yield name


def expert_tensors(model: PreTrainedModel) -> list[str]:
    """Return the names of the tensors that hold a layer's experts, `(experts, ...)`."""
    experts = _expert_count(model)
    return [
        name
        for name, weight in model.named_parameters()
        if experts > 1 and weight.ndim == 3 and weight.shape[0] == experts and "expert" in name
    ]


def routers(model: PreTrainedModel, linears: list[str]) -> Iterator[str]:
    """Yield the layers that choose experts. Some families have one more layer inside the module named so."""
    if _expert_count(model):
        yield from (name for name in linears if not set(ROUTER_NAMES).isdisjoint(name.split(".")[-2:]))


def layers_read_directly(model: PreTrainedModel, linears: list[str]) -> Iterator[str]:
    """Yield the layers whose weight is used without calling them.

    The kernels of Mamba mixers, which have a convolution and a direct path `D`, take the weights of up to three layers;
    Gemma 3n clamps the weights of its AltUp layers.
    """
    for name in linears:
        mixer = model.get_submodule(name.rpartition(".")[0])
        is_mamba = hasattr(mixer, "conv1d") and hasattr(mixer, "D")
        if (is_mamba and leaf_name(name) in READ_BY_MAMBA) or leaf_name(name) in READ_BY_ALTUP:
            yield name


def layers_outside_text(model: PreTrainedModel, linears: list[str]) -> Iterator[str]:
    """Yield the layers of a multimodal model that are not in its text model."""
    if model.config.get_text_config() is model.config:
        return
    decoder = model.get_decoder()
    text = next(name for name, module in model.named_modules() if module is decoder)
    yield from (name for name in linears if not name.startswith(f"{text}."))


def leaf_name(name: str) -> str:
    """Return the end of a layer's name, which it shares with the other blocks. A number alone would name the blocks."""
    parts = name.split(".")
    return ".".join(parts[-2:] if parts[-1].isdigit() else parts[-1:])


def _expert_count(model: PreTrainedModel) -> int:
    config = model.config.get_text_config()
    counts = (getattr(config, name, None) for name in EXPERT_COUNTS)
    return next((count for count in counts if isinstance(count, int) and count > 1), 0)
