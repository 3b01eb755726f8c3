"""Load saved adapters onto a base model, or say why they cannot be used.

A refused adapter leaves the model as it was.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PositiveInt, ValidationError
from safetensors import SafetensorError

from sft_app.errors import ModelError, first_line
from sft_app.models.loading import ADAPTER_CONFIG, ADAPTER_NAME, ADAPTER_WEIGHTS, non_finite_weights
from sft_app.runs.checkpoints import read_safetensors_header
from sft_app.runtime.resources import is_out_of_memory

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel

# Adapter settings that never change the base model.
SETTINGS_THAT_KEEP_THE_BASE = {
    *("peft_type", "task_type", "base_model_name_or_path", "revision", "auto_mapping", "inference_mode"),
    *("r", "lora_alpha", "lora_dropout", "rank_pattern", "alpha_pattern", "use_rslora", "use_dora", "lora_bias"),
    *("target_modules", "exclude_modules", "modules_to_save", "layers_to_transform", "layers_pattern"),
    *("peft_version", "fan_in_fan_out", "target_parameters", "trainable_token_indices", "ensure_weight_tying"),
}
LARGEST_FLOAT32 = 3.4028234e38
PEFT_PREFIX = "base_model.model."
_LORA_WEIGHT = re.compile(r"base_model\.model\.(.+)\.lora_([AB])\.weight")


def _check_pattern(names: Any) -> Any:
    """Return `names` unchanged if it is not an invalid regular expression.

    Raises: ValueError for a string that is not a valid regular expression.
    """
    if isinstance(names, str):
        try:
            re.compile(names)
        except re.error as error:
            raise ValueError(f"{names[:40]!r} is not a regular expression: {error}") from error
    return names


ModuleNames = Annotated[str | list[str] | None, AfterValidator(_check_pattern)]
Finite32 = Annotated[float, Field(ge=-LARGEST_FLOAT32, le=LARGEST_FLOAT32)]


class AdapterConfig(BaseModel):
    """Validates the fields of an `adapter_config.json` that PEFT uses without checking."""

    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)

    base_model_name_or_path: str | None = None
    r: PositiveInt = 8
    lora_alpha: Finite32 = 8
    lora_dropout: float = Field(0.0, ge=0.0, le=1.0)
    target_modules: ModuleNames = None
    exclude_modules: ModuleNames = None
    modules_to_save: list[str] | None = None
    rank_pattern: dict[str, PositiveInt] | None = None
    alpha_pattern: dict[str, Finite32] | None = None
    layers_to_transform: int | list[int] | None = None
    layers_pattern: str | list[str] | None = None
    target_parameters: list[str] | None = None
    trainable_token_indices: list[int] | dict[str, list[int]] | None = None


def load_adapter(model: PreTrainedModel, adapter_dir: Path, name: str = ADAPTER_NAME) -> PeftModel:
    """Load a saved adapter onto a model, next to any it already has, and return the model in evaluation mode.

    Weights are read from safetensors only. A refused adapter leaves the model as it was.

    Raises:
        ModelError: the folder has no adapter, it belongs to another model, or its weights or settings are invalid.
    """
    from peft import PeftModel

    weights = adapter_dir / ADAPTER_WEIGHTS
    if not weights.is_file():
        raise ModelError(f"{adapter_dir.name} has no {ADAPTER_WEIGHTS}.")
    _refuse_broken_adapter(adapter_dir)
    _refuse_broken_config(adapter_dir)
    try:
        _refuse_changed_base(read_adapter_config(adapter_dir))
        _check_shapes(model, weights)
        own = _saved_base_weights(model, weights, read_adapter_config(adapter_dir).get("modules_to_save") or [])
        if isinstance(model, PeftModel):
            adapted = model
            model.load_adapter(str(adapter_dir), adapter_name=name, torch_device=str(model.device))
        else:
            adapted = PeftModel.from_pretrained(model, str(adapter_dir), adapter_name=name)
        for weight, before in own.values():
            weight.data.copy_(before)  # PEFT has written the file's copy over it, which may be rounded
        _check_same_modules(adapted, weights, name, set(own))
    except Exception as error:  # PEFT raises errors of any kind, in the middle of its work
        _remove_adapter(model, name)
        if is_out_of_memory(error):
            raise
        raise ModelError(f"The adapter does not fit this base model: {first_line(error)}") from error
    return adapted.eval()


def _remove_adapter(model: PreTrainedModel, name: str) -> None:
    """Remove whatever PEFT has added to the model for this adapter, in whatever state it is."""
    from peft import PeftModel
    from peft.tuners.tuners_utils import BaseTunerLayer, delete_adapter
    from peft.utils.other import AuxiliaryTrainingWrapper

    if isinstance(model, PeftModel):
        delete_adapter(model.base_model.model, name, model.base_model.prefix)
        model.peft_config.pop(name, None)
    else:
        vars(model).pop("peft_config", None)
    kept = set(getattr(model, "peft_config", ()))
    unwrapped: list[str] = []
    for path, module in list(model.named_modules()):
        if not isinstance(module, BaseTunerLayer | AuxiliaryTrainingWrapper) or _is_within(path, unwrapped):
            continue
        if kept.isdisjoint(module._get_available_adapters()):
            plain = module.get_base_layer() if isinstance(module, BaseTunerLayer) else module.original_module
            parent, _, own_name = path.rpartition(".")
            setattr(model.get_submodule(parent), own_name, plain)
            unwrapped.append(path)


def _is_within(path: str, paths: list[str]) -> bool:
    return any(path.startswith(f"{outer}.") for outer in paths)


def _refuse_broken_config(adapter_dir: Path) -> None:
    """Raise ModelError if the adapter's config is missing, unreadable or invalid."""
    try:
        AdapterConfig.model_validate(read_adapter_config(adapter_dir))
    except FileNotFoundError as error:
        raise ModelError(f"The adapter in {adapter_dir.name} has no {ADAPTER_CONFIG}.") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"][:1])) or "it"
        raise ModelError(f"The adapter's {ADAPTER_CONFIG} is not valid: {where}: {first['msg']}.") from error
    except (OSError, ValueError) as error:
        raise ModelError(f"The adapter's {ADAPTER_CONFIG} cannot be read: {first_line(error)}") from error


def _refuse_broken_adapter(adapter_dir: Path) -> None:
    """Raise ModelError if the adapter's weights are unreadable or not finite."""
    from safetensors import safe_open

    try:
        with safe_open(adapter_dir / ADAPTER_WEIGHTS, framework="pt") as file:
            broken = [name for name in file.keys() if non_finite_weights({name: file.get_tensor(name)})]  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ModelError(f"The adapter's {ADAPTER_WEIGHTS} cannot be read: {first_line(error)}") from error
    if broken:
        raise ModelError(
            f"The adapter in {adapter_dir.name} is broken: {broken[0]} contains numbers that are not finite. "
            "Train again with a lower learning rate, or compare an earlier checkpoint."
        )


def _refuse_changed_base(config: dict[str, Any]) -> None:
    """Raise ValueError if a setting would make PEFT rewrite the base model while it loads the adapter.

    PiSSA, OLoRA and LoftQ change the base's own weights, and other settings its layers. Everyone would then compare
    against a changed base. So only settings known to be safe may differ from PEFT's defaults.
    """
    from peft import LoraConfig

    usual = LoraConfig()
    for name, value in config.items():
        if name == "init_lora_weights" and value in (True, False, "gaussian"):
            continue
        if value and name not in SETTINGS_THAT_KEEP_THE_BASE and hasattr(usual, name) and value != getattr(usual, name):
            raise ValueError(f"its {name} is {str(value)[:40]!r}, which would change the base model.")


def _check_shapes(model: PreTrainedModel, weights: Path) -> None:
    """Raise ValueError unless the model has the modules named in the file, with the right sizes. Loads no weights."""
    modules = dict((model.get_base_model() if hasattr(model, "get_base_model") else model).named_modules())
    tensors, _ = read_safetensors_header(weights)
    for key, tensor in tensors.items():
        match = _LORA_WEIGHT.fullmatch(key)
        if match is None:
            continue
        name, factor = match.groups()
        name = name.removesuffix(".base_layer")  # PEFT wraps a module once for each of its expert tensors
        if len(tensor["shape"]) < 2:
            raise ValueError(f"{key} must have two dimensions, got {len(tensor['shape'])}.")
        module = modules.get(name)
        if module is None:
            raise ValueError(f"it has no module {name}.")
        reads, width = ("in", tensor["shape"][1]) if factor == "A" else ("out", tensor["shape"][0])
        model_width = getattr(module, f"{reads}_features", width)
        if model_width != width:
            raise ValueError(f"{name} is {model_width} wide, but the adapter expects {width}.")


def _saved_base_weights(
    model: PreTrainedModel, weights: Path, modules_to_save: list[str]
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Find the base's own weights that were saved along with the adapter, as PEFT does for embeddings.

    Returns the file's key → (the base's weight, a copy of it). Modules in `modules_to_save` are the adapter's own.

    Raises: ValueError if the file has them changed, or for a vocabulary of another size.
    """
    from safetensors import safe_open

    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    parameters = {
        name.replace(".base_layer", ""): weight for name, weight in base.named_parameters(remove_duplicate=False)
    }
    found = {}
    with safe_open(weights, framework="pt") as file:
        for key in file.keys():  # noqa: SIM118
            weight = parameters.get(key.removeprefix(PEFT_PREFIX).replace(".base_layer", ""))
            if weight is None or not key.startswith(PEFT_PREFIX):
                continue
            saved, name = file.get_tensor(key), key.removeprefix(PEFT_PREFIX)
            if saved.shape != weight.shape:
                raise ValueError(
                    f"its {name} is for a vocabulary of {len(saved):,} tokens, but the base model has {len(weight):,}."
                )
            if name.rpartition(".")[0].rpartition(".")[2] in modules_to_save:
                continue
            if not _is_equal_when_rounded(saved, weight):
                raise ValueError(f"it comes with a changed {name}, which would change the base model.")
            found[key] = (weight, weight.detach().clone())
    return found


def _is_equal_when_rounded(saved: torch.Tensor, own: torch.Tensor) -> bool:
    """Return whether two tensors are equal in the less precise dtype of the two."""
    dtype = min(saved.dtype, own.dtype, key=lambda dtype: dtype.itemsize)
    return bool((saved.to(own.device, dtype) == own.detach().to(dtype)).all())


def _check_same_modules(adapted: PeftModel, weights: Path, name: str, base: set[str]) -> None:
    """Raise ValueError unless the file has exactly the adapter's modules; PEFT ignores missing and unexpected ones.

    `base` are weights of the base model that were saved along.
    """
    from peft import get_peft_model_state_dict
    from safetensors import safe_open

    with safe_open(weights, framework="pt") as file:
        saved = set(file.keys()) - base
    expected = set(get_peft_model_state_dict(adapted, adapter_name=name, save_embedding_layers=False))
    if saved != expected:
        raise ValueError(
            f"{len(expected - saved)} of its modules are missing and {len(saved - expected)} are unexpected."
        )


def read_adapter_config(adapter_dir: Path) -> dict[str, Any]:
    """Read the adapter's config from its folder.

    Raises: OSError, ValueError.
    """
    config: dict[str, Any] = json.loads((adapter_dir / ADAPTER_CONFIG).read_bytes())
    return config
