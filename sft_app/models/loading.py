"""Load base models, quantised base models and tokenizers, and free memory."""

from __future__ import annotations

import gc
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from sft_app.data.chat_templates import ENABLE_THINKING, set_chat_template
from sft_app.data.tokens import GENERATION_STOPS
from sft_app.errors import ModelError, first_line
from sft_app.models.catalog import ModelRef, model_files
from sft_app.models.hardware import Hardware
from sft_app.models.layers import layers_read_directly, linear_modules, routers
from sft_app.runtime.resources import OUT_OF_MEMORY_TEXT

if TYPE_CHECKING:
    import torch
    from transformers import BitsAndBytesConfig, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

ADAPTER_NAME = "default"
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
UNKNOWN_LENGTH = 10**9


def load_tokenizer(
    ref: ModelRef, home: Path, chat_template: str = "", enable_thinking: bool = False, eos_token: str = ""
) -> PreTrainedTokenizerBase:
    """Load the model's tokenizer; its `model_max_length` never exceeds the model's context length.

    `chat_template` and `enable_thinking` are the settings of these names; `eos_token` is that of a stored adapter.

    Raises:
        ModelError: the model has no usable tokenizer.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(**model_files(ref, home))
    except (OSError, ValueError) as error:
        raise ModelError(f"The tokenizer of {ref.name} cannot be loaded: {first_line(error)}") from error
    if tokenizer.eos_token_id is None:
        raise ModelError(
            f"The tokenizer of {ref.name} has no end-of-sequence token, so no answer could "
            f"ever end. Choose another model."
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    setattr(tokenizer, GENERATION_STOPS, (tokenizer.eos_token_id, *_generation_stops(ref, home)))
    setattr(tokenizer, ENABLE_THINKING, enable_thinking)
    set_chat_template(tokenizer, chat_template, eos_token)
    tokenizer.model_max_length = min(tokenizer.model_max_length, _context_length(ref, home) or UNKNOWN_LENGTH)
    return tokenizer


def load_config(ref: ModelRef, home: Path) -> PreTrainedConfig:
    """Load the model's transformers config without its weights.

    Raises: OSError, ValueError, as transformers does.
    """
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(**model_files(ref, home))


def model_class(config: PreTrainedConfig) -> Any:
    """Return transformers' class that loads a model with this config: for text, else for text and pictures.

    A model that reads pictures too is trained and compared on its text part.
    """
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING,
        MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    )

    kind = type(config)
    reads_text = kind in MODEL_FOR_CAUSAL_LM_MAPPING or kind not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
    return AutoModelForCausalLM if reads_text else AutoModelForImageTextToText


def weightless_model(config: PreTrainedConfig) -> PreTrainedModel:
    """Build a model with this config without memory for its weights. Raises: ValueError, ImportError."""
    import torch

    with torch.device("meta"):
        model: PreTrainedModel = model_class(config).from_config(config)
    return model


def _generation_stops(ref: ModelRef, home: Path) -> tuple[int, ...]:
    """Return the ids that the model's `generation_config` ends answers at; none if it has no such file."""
    from transformers import GenerationConfig

    files = model_files(ref, home)
    try:
        stops = GenerationConfig.from_pretrained(files.pop("pretrained_model_name_or_path"), **files).eos_token_id
    except (OSError, ValueError):
        return ()
    return tuple(stops) if isinstance(stops, list) else () if stops is None else (stops,)


def _context_length(ref: ModelRef, home: Path) -> int | None:
    """Return the context length in tokens, or None. Config errors are reported when the model is loaded."""
    try:
        return getattr(load_config(ref, home).get_text_config(), "max_position_embeddings", None)
    except (OSError, ValueError):
        return None


def load_base(
    ref: ModelRef, home: Path, hardware: Hardware, dtype: str = "auto", in_4bit: bool = False
) -> PreTrainedModel:
    """Load the base model in `dtype` onto the machine's device, in evaluation mode.

    `in_4bit` quantises the linear layers to NF4 with double quantisation and computes in `dtype`. Source: Dettmers et
    al. 2023, "QLoRA", arXiv 2305.14314.

    Raises:
        ModelError: the files cannot be loaded, or contain NaN or infinity.
    """
    import torch
    from transformers.utils import logging

    logging.disable_progress_bar()
    hardware_dtype = hardware.dtype if dtype == "auto" else dtype
    torch_dtype = getattr(torch, hardware_dtype)
    try:
        config = load_config(ref, home)
        model = model_class(config).from_pretrained(
            **model_files(ref, home),
            dtype=torch_dtype,
            device_map={"": hardware.device},
            use_safetensors=True,
            quantization_config=_nf4(torch_dtype, _kept_unquantised(config)) if in_4bit else None,
        )
    except (OSError, ValueError, ImportError, SafetensorError) as error:
        raise ModelError(f"{ref.name} cannot be loaded: {first_line(error)}") from error
    except RuntimeError as error:
        if shortage := reported_shortage(error):
            raise torch.OutOfMemoryError(shortage) from error
        raise
    if broken := non_finite_weights(dict(model.named_parameters())):
        raise ModelError(
            f"{ref.name} is broken: {broken[0]} contains numbers that are not finite in {hardware_dtype}. "
            "Choose another model, or train it again with a lower learning rate."
        )
    return model.eval()


def reported_shortage(error: RuntimeError) -> str:
    """Return the out-of-memory error that transformers hides when it converts weights; empty if there was none.

    It keeps the errors' texts in its loading report and raises another one. Source: transformers 5.23,
    `core_model_loading.log_conversion_errors` and `utils/loading_report.log_state_dict_report`.
    """
    for frame, _ in traceback.walk_tb(error.__traceback__):
        report = frame.f_locals.get("loading_info")
        for text in getattr(report, "conversion_errors", {}).values():
            if found := OUT_OF_MEMORY_TEXT.search(text):
                return str(text[found.start() :]).splitlines()[0]
    return ""


def non_finite_weights(tensors: Mapping[str, torch.Tensor]) -> list[str]:
    """Return the names of weights that contain NaN or infinity. A 4-bit weight is judged by its scales."""
    import torch

    values = {name: part for name, tensor in tensors.items() for part in _checkable_values(tensor) if part.numel()}
    if not values:
        return []
    # Finding the minimum and maximum reads each number once, and NaN is both.
    extremes = [torch.stack(part.detach().aminmax()).float().cpu() for part in values.values()]
    is_finite = torch.isfinite(torch.stack(extremes)).all(dim=1).tolist()
    return [name for name, finite in zip(values, is_finite, strict=True) if not finite]


def _checkable_values(tensor: torch.Tensor) -> list[torch.Tensor]:
    """Return the values of a weight to check, in a precision that supports comparison."""
    import torch

    state = getattr(tensor, "quant_state", None)
    if state is not None:
        scales = state.state2.absmax if state.nested else state.absmax
        return [torch.stack([part.float().abs().max() for part in (scales, state.offset) if part is not None])]
    if tensor.is_meta or not tensor.is_floating_point():
        return []
    return [tensor if tensor.dtype.itemsize > 1 else tensor.float()]


def holds_full_model(adapter_dir: Path) -> bool:
    """Return whether a run saved a whole fine-tuned model in this folder instead of an adapter."""
    return (adapter_dir / "config.json").is_file() and not (adapter_dir / ADAPTER_WEIGHTS).is_file()


def keep_4bit_differentiable(model: PreTrainedModel, differentiable: bool) -> None:
    """Turn the CPU fast path of 4-bit layers off before training, or on again after it.

    The fast path repacks the weights in place at the first evaluation and has no gradient, so training would silently
    continue with wrong ones. Source: bitsandbytes 0.50, `nn/modules.py`, `Linear4bit.forward`.
    """
    for layer in linear_4bit_layers(model):
        layer.support_avx512bf16_for_cpu = not differentiable and _cpu_has_avx512bf16()


def linear_4bit_layers(model: PreTrainedModel) -> Iterator[Any]:
    """Yield the model's 4-bit linear layers."""
    return (module for module in model.modules() if type(module).__name__ == "Linear4bit")


def free_memory() -> None:
    """Return the memory of deleted models to the system."""
    import torch

    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()


def _kept_unquantised(config: PreTrainedConfig) -> list[str] | None:
    """Return the layers that stay unquantised: those whose weight the model reads itself, and routers.

    The output layer always does. None leaves the choice to transformers, for models without such layers.
    """
    model = weightless_model(config)
    linears = list(linear_modules(model))
    kept = {*layers_read_directly(model, linears), *routers(model, linears)}
    heads = (name for name, module in model.named_modules() if module is model.get_output_embeddings())
    return sorted({*kept, *heads}) if kept else None


def _nf4(compute_dtype: torch.dtype, unquantised: list[str] | None) -> BitsAndBytesConfig:
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute_dtype,
        llm_int8_skip_modules=unquantised,
    )


def _cpu_has_avx512bf16() -> bool:
    from bitsandbytes.nn.modules import has_avx512bf16

    return bool(has_avx512bf16())
