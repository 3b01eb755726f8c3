"""Choose the parts of a model that a LoRA adapter is trained on, and attach it.

By default these are all linear layers of the text model, and the experts of a mixture, which transformers stores as one
tensor for all of them. Three kinds stay as they are: routers, which choose the experts; layers whose weight the model
reads itself, past the adapter, which would learn nothing; and everything that reads pictures or sound.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from sft_app.errors import ModelError, first_line
from sft_app.models.layers import (
    expert_tensors,
    layers_outside_text,
    layers_read_directly,
    leaf_name,
    linear_modules,
    routers,
)
from sft_app.models.loading import ADAPTER_NAME
from sft_app.settings import RunSettings

if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel
    from transformers import PreTrainedModel


def attach_lora(model: PreTrainedModel, settings: RunSettings) -> PeftModel:
    """Attach a fresh LoRA adapter to the base model. It has no effect until it is trained.

    Raises:
        ModelError: the model has no modules named in `lora_target_modules`, or PEFT cannot adapt them.
    """
    from peft import get_peft_model

    try:
        return get_peft_model(model, lora_config(model, settings), adapter_name=ADAPTER_NAME)
    except ValueError as error:
        raise ModelError(f"lora_target_modules {settings.lora_target_modules!r}: {first_line(error)}") from error


def lora_config(model: PreTrainedModel, settings: RunSettings) -> LoraConfig:
    """Return PEFT's config for this model: the names of the modules and expert tensors that get an adapter.

    Raises: ModelError for one of two layers that share their weights.
    """
    from peft import LoraConfig

    chosen, linears = settings.target_modules(), list(linear_modules(model))
    _refuse_shared_weights(model, chosen or [])
    kept = set(layers_outside_text(model, linears))
    if chosen is None:
        kept |= {*routers(model, linears), *layers_read_directly(model, linears)}
    targets = set(chosen if chosen is not None else (leaf_name(name) for name in linears if name not in kept))
    config = LoraConfig(
        r=settings.lora_r,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        use_rslora=settings.use_rslora,
        use_dora=settings.use_dora,
        target_modules=sorted(targets),
        exclude_modules=sorted(name for name in kept if leaf_name(name) in targets) or None,
        task_type="CAUSAL_LM",
    )
    _convert_names(config, model)
    has_plain_adapter = not settings.use_dora and not settings.lora_dropout  # PEFT adapts tensors in no other way
    if chosen is None and has_plain_adapter and not config.target_parameters:
        config.target_parameters = sorted({".".join(name.split(".")[-2:]) for name in expert_tensors(model)}) or None
    return config


def _refuse_shared_weights(model: PreTrainedModel, chosen: list[str]) -> None:
    """Refuse an adapter on the embedding or output layer if both have one weight: it could be merged into neither."""
    head = model.get_output_embeddings()
    if head is None or (embedding := model.get_input_embeddings()).weight is not head.weight:
        return
    for name, module in model.named_modules():
        if module in (embedding, head) and not {name, leaf_name(name)}.isdisjoint(chosen):
            raise ModelError(
                f"{leaf_name(name)} shares its weights with another layer of this model, so it cannot have an adapter "
                "of its own. Remove it from lora_target_modules."
            )


def _convert_names(config: Any, model: PreTrainedModel) -> None:
    """Let PEFT turn names of transformers 4 into those of the fused experts, as it will when it attaches the adapter.

    Where a family's shared experts have the names that single experts had, PEFT takes the name for the experts.
    """
    with suppress(ImportError):
        from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers

        convert_peft_config_for_transformers(config, model, None)
