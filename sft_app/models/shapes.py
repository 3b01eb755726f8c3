"""Read the sizes of a model without loading its weights, to estimate what training takes."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_app.errors import ModelError, first_line
from sft_app.models.catalog import ModelRef
from sft_app.models.layers import expert_tensors, linear_modules
from sft_app.models.loading import load_config, weightless_model
from sft_app.models.lora_targets import attach_lora
from sft_app.settings import RunSettings

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# The settings that an adapter's layers and number of weights depend on.
ADAPTER_SETTINGS = ("lora_target_modules", "lora_r", "lora_dropout", "use_dora")


@dataclass(frozen=True)
class LinearShape:
    """Describes a linear layer by its full name and its numbers of inputs and outputs."""

    name: str
    inputs: int
    outputs: int

    @property
    def weights(self) -> int:
        """Return the number of weights."""
        return self.inputs * self.outputs


@dataclass(frozen=True)
class ModelShape:
    """Describes the sizes of a decoder.

    `parameters` counts shared weights once; `linears` excludes the output layer. `query_width` and `key_width` are the
    number of heads times the head dimension.
    """

    parameters: int
    linears: tuple[LinearShape, ...]
    hidden_size: int
    intermediate_size: int
    layers: int
    vocabulary: int
    query_width: int
    key_width: int
    heads: int
    model: PreTrainedModel = field(repr=False, compare=False)
    """The model without memory for its weights."""

    @property
    def model_type(self) -> str:
        """Return the family as the config names it."""
        return str(self.model.config.model_type)

    @property
    def linear_weights(self) -> int:
        """Return the number of weights in all linear layers."""
        return sum(linear.weights for linear in self.linears)

    def targets(self, settings: RunSettings) -> list[LinearShape]:
        """Return the layers that get an adapter. Experts are one layer for each."""
        return _adapted(self.model, settings)[0]

    def trainable(self, settings: RunSettings) -> int:
        """Return the number of trained parameters: all of them, or those of an adapter as PEFT attaches it."""
        if settings.method == "full":
            return self.parameters
        return _adapted(self.model, settings)[1]

    def experts(self, settings: RunSettings) -> str:
        """Say whether the experts of a mixture are trained; empty for other models."""
        if not expert_tensors(self.model):
            return ""
        if settings.method == "full":
            return "trained, and so is the router that chooses between them"
        is_trained = any("experts" in linear.name for linear in self.targets(settings))
        return f"{'trained' if is_trained else 'not trained'}, and the router that chooses between them stays as it is"


def read_shape(ref: ModelRef, home: Path) -> ModelShape:
    """Read a model's sizes from its config and code, without memory for the weights. Imports torch.

    Raises:
        ModelError: the config is missing or invalid, or transformers does not know the model.
    """
    try:
        model = weightless_model(load_config(ref, home))
    except (OSError, ValueError, ImportError) as error:
        raise _unknown(ref, error) from error
    text = model.config.get_text_config()
    hidden = _width(text)
    heads = _largest_size(text, 1, "num_attention_heads", "num_heads", "n_head")
    head_dim = _largest_size(text, hidden // heads, "head_dim")
    return ModelShape(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        linears=_linear_shapes(model),
        hidden_size=hidden,
        intermediate_size=_largest_size(text, 4 * hidden, "intermediate_size", "n_inner", "ffn_dim"),
        layers=_largest_size(text, 1, "num_hidden_layers", "n_layer", "num_layers"),
        vocabulary=_largest_size(text, 1, "vocab_size"),
        query_width=head_dim * heads,
        key_width=head_dim * _largest_size(text, heads, "num_key_value_heads"),
        heads=heads,
        model=model,
    )


def read_width(ref: ModelRef, home: Path) -> tuple[int, str]:
    """Read a model's hidden size and `model_type` from its config alone. Raises: ModelError as `read_shape`."""
    try:
        config = load_config(ref, home)
    except (OSError, ValueError, ImportError) as error:
        raise _unknown(ref, error) from error
    return _width(config.get_text_config()), config.model_type


def _unknown(ref: ModelRef, error: Exception) -> ModelError:
    return ModelError(f"The shape of {ref.name} cannot be determined: {first_line(error)}")


def _width(config: Any) -> int:
    return _largest_size(config, 1, "hidden_size", "n_embd", "d_model")


def _adapted(model: PreTrainedModel, settings: RunSettings) -> tuple[list[LinearShape], int]:
    """Return the adapted layers and the number of an adapter's weights, counted on the model with the adapter attached.

    Raises: ModelError as `attach_lora`.
    """
    return _count_adapted(model, *(getattr(settings, name) for name in ADAPTER_SETTINGS))


@lru_cache(maxsize=64)
def _count_adapted(model: PreTrainedModel, *values: Any) -> tuple[list[LinearShape], int]:
    from peft.tuners.lora import LoraLayer

    chosen = RunSettings.model_construct(**dict(zip(ADAPTER_SETTINGS, values, strict=True)))
    adapted = attach_lora(copy.deepcopy(model), chosen)
    layers = [
        LinearShape(name.removeprefix("base_model.model."), layer.in_features, layer.out_features)
        for name, layer in adapted.named_modules()
        if isinstance(layer, LoraLayer)
        for _ in range(getattr(layer, "num_experts", 1))
    ]
    return layers, sum(weight.numel() for weight in adapted.parameters() if weight.requires_grad)


def _largest_size(config: Any, default: int, *names: str) -> int:
    """Return the first of these fields in the config, at its largest if layers differ.

    Models without attention have no heads, and older models use other names.
    """
    values = [value for name in names if (value := getattr(config, name, None))]
    return max(values[0]) if values and isinstance(values[0], list | tuple) else values[0] if values else default


def _linear_shapes(model: PreTrainedModel) -> tuple[LinearShape, ...]:
    shapes = []
    for name in linear_modules(model):
        module = model.get_submodule(name)
        sizes = (module.in_features, module.out_features) if hasattr(module, "in_features") else module.weight.shape
        shapes.append(LinearShape(name, *sizes))
    return tuple(shapes)
