"""Read the sizes of a model without loading its weights, to estimate what training takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_app.errors import ModelError, first_line
from sft_app.models.catalog import ModelRef
from sft_app.models.loading import load_config
from sft_app.settings import RunSettings

if TYPE_CHECKING:
    from transformers import PreTrainedModel


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

    @property
    def linear_weights(self) -> int:
        """Return the number of weights in all linear layers."""
        return sum(linear.weights for linear in self.linears)

    def targets(self, settings: RunSettings) -> list[LinearShape]:
        """Return the layers that get an adapter."""
        names = settings.target_modules()
        return [linear for linear in self.linears if names is None or linear.name.split(".")[-1] in names]

    def trainable(self, settings: RunSettings) -> int:
        """Return the number of trained parameters.

        That is all of them, or two low-rank matrices per target layer and, with DoRA, a magnitude vector.
        """
        if settings.method == "full":
            return self.parameters
        targets = self.targets(settings)
        low_rank = sum(settings.lora_r * (linear.inputs + linear.outputs) for linear in targets)
        return low_rank + (sum(linear.outputs for linear in targets) if settings.use_dora else 0)


def read_shape(ref: ModelRef, home: Path) -> ModelShape:
    """Read a model's sizes from its config and code, without memory for the weights. Imports torch.

    Raises:
        ModelError: the config is missing or invalid, or transformers does not know the model.
    """
    import torch
    from transformers import AutoModelForCausalLM

    try:
        config = load_config(ref, home)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
    except (OSError, ValueError, ImportError) as error:
        raise ModelError(f"The shape of {ref.name} cannot be determined: {first_line(error)}") from error
    text = config.get_text_config()
    hidden = _largest_size(text, 1, "hidden_size", "n_embd", "d_model")
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
    )


def _largest_size(config: Any, default: int, *names: str) -> int:
    """Return the first of these fields in the config, at its largest if layers differ.

    Models without attention have no heads, and older models use other names.
    """
    values = [value for name in names if (value := getattr(config, name, None))]
    return max(values[0]) if values and isinstance(values[0], list | tuple) else values[0] if values else default


def _linear_shapes(model: PreTrainedModel) -> tuple[LinearShape, ...]:
    import torch
    from transformers.pytorch_utils import Conv1D

    head, shapes = model.get_output_embeddings(), []
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and module is not head:
            shapes.append(LinearShape(name, module.in_features, module.out_features))
        elif isinstance(module, Conv1D):
            shapes.append(LinearShape(name, *module.weight.shape))
    return tuple(shapes)
