"""A saved adapter onto a model, or why not; the model is as it was when an adapter is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PositiveInt, ValidationError
from safetensors import SafetensorError

from sft_app.errors import ModelError, first_line
from sft_app.models.loading import ADAPTER_CONFIG, ADAPTER_NAME, ADAPTER_WEIGHTS, broken_weights
from sft_app.runs.checkpoints import read_safetensors_header

# Settings of an adapter that leave the base alone whatever they are.
HARMLESS = {
    *("peft_type", "task_type", "base_model_name_or_path", "revision", "auto_mapping", "inference_mode"),
    *("r", "lora_alpha", "lora_dropout", "rank_pattern", "alpha_pattern", "use_rslora", "use_dora", "lora_bias"),
    *("target_modules", "exclude_modules", "modules_to_save", "layers_to_transform", "layers_pattern"),
    *("peft_version", "fan_in_fan_out", "target_parameters", "trainable_token_indices", "ensure_weight_tying"),
}
LARGEST_FLOAT32 = 3.4028234e38
_LORA_WEIGHT = re.compile(r"base_model\.model\.(.+)\.lora_([AB])\.weight")


def _as_pattern(names: Any) -> Any:
    """Raises: ValueError when it is a text that is no regular expression."""
    if isinstance(names, str):
        try:
            re.compile(names)
        except re.error as error:
            raise ValueError(f"{names[:40]!r} is not a regular expression: {error}") from error
    return names


Names = Annotated[str | list[str] | None, AfterValidator(_as_pattern)]
Finite32 = Annotated[float, Field(ge=-LARGEST_FLOAT32, le=LARGEST_FLOAT32)]


class AdapterConfig(BaseModel):
    """What PEFT takes from an `adapter_config.json` without a look at it."""

    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)

    base_model_name_or_path: str | None = None
    r: PositiveInt = 8
    lora_alpha: Finite32 = 8
    lora_dropout: float = Field(0.0, ge=0.0, le=1.0)
    target_modules: Names = None
    exclude_modules: Names = None
    modules_to_save: list[str] | None = None
    rank_pattern: dict[str, PositiveInt] | None = None
    alpha_pattern: dict[str, Finite32] | None = None
    layers_to_transform: int | list[int] | None = None
    layers_pattern: str | list[str] | None = None
    target_parameters: list[str] | None = None
    trainable_token_indices: list[int] | dict[str, list[int]] | None = None


def load_adapter(model: Any, adapter_dir: Path, name: str = ADAPTER_NAME) -> Any:
    """The model with a saved adapter on it, beside those it has already; weights from safetensors only.

    The model is as it was when the adapter is refused.

    Raises:
        ModelError: the folder holds no adapter, one for another model, or one whose numbers or settings are broken.
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
        if isinstance(model, PeftModel):
            adapted = model
            model.load_adapter(str(adapter_dir), adapter_name=name, torch_device=str(model.device))
        else:
            adapted = PeftModel.from_pretrained(model, str(adapter_dir), adapter_name=name)
        _check_same_modules(adapted, weights, name)
    except Exception as error:  # PEFT raises errors of any kind, in the middle of its work
        _take_back(model, name)
        raise ModelError(f"The adapter does not fit this base model: {first_line(error)}") from error
    return adapted.eval()


def _take_back(model: Any, name: str) -> None:
    """Whatever PEFT has put into the model for this adapter, in whatever state it is."""
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
    """Raises: ModelError, for a file that cannot be read too."""
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
    """Raises: ModelError, for a file that cannot be read too."""
    from safetensors import safe_open

    try:
        with safe_open(adapter_dir / ADAPTER_WEIGHTS, framework="pt") as file:
            broken = [name for name in file.keys() if broken_weights({name: file.get_tensor(name)})]  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ModelError(f"The adapter's {ADAPTER_WEIGHTS} cannot be read: {first_line(error)}") from error
    if broken:
        raise ModelError(
            f"The adapter in {adapter_dir.name} is broken: {broken[0]} contains numbers that are not finite. "
            "Train again with a lower learning rate, or compare an earlier checkpoint."
        )


def _refuse_changed_base(config: dict[str, Any]) -> None:
    """Some settings rewrite the base's own weights while the adapter is loaded (PiSSA, OLoRA, LoftQ), or its layers;
    what is then compared is no longer the base, for anybody. Only what is known not to may differ from PEFT's
    defaults. Raises: ValueError."""
    from peft import LoraConfig

    usual = LoraConfig()
    for name, value in config.items():
        if name == "init_lora_weights" and value in (True, False, "gaussian"):
            continue
        if value and name not in HARMLESS and hasattr(usual, name) and value != getattr(usual, name):
            raise ValueError(f"its {name} is {str(value)[:40]!r}, which would change the base model.")


def _check_shapes(model: Any, weights: Path) -> None:
    """Whether the modules that the file names are there, as wide as it expects them; nothing is loaded for this."""
    modules = dict((model.get_base_model() if hasattr(model, "get_base_model") else model).named_modules())
    tensors, _ = read_safetensors_header(weights)
    for key, tensor in tensors.items():
        found = _LORA_WEIGHT.fullmatch(key)
        if found is None:
            continue
        name, factor = found.groups()
        if len(tensor["shape"]) < 2:
            raise ValueError(f"{key} must have two dimensions, got {len(tensor['shape'])}.")
        module = modules.get(name)
        if module is None:
            raise ValueError(f"it has no module {name}.")
        reads, width = ("in", tensor["shape"][1]) if factor == "A" else ("out", tensor["shape"][0])
        there = getattr(module, f"{reads}_features", width)
        if there != width:
            raise ValueError(f"{name} is {there} wide, but the adapter expects {width}.")


def _check_same_modules(adapted: Any, weights: Path, name: str) -> None:
    """PEFT passes over what is missing or too much in the file, which is an adapter of another model."""
    from peft import get_peft_model_state_dict
    from safetensors import safe_open

    with safe_open(weights, framework="pt") as file:
        saved = set(file.keys())
    wanted = set(get_peft_model_state_dict(adapted, adapter_name=name, save_embedding_layers=False))
    if saved != wanted:
        raise ValueError(f"{len(wanted - saved)} of its modules are missing and {len(saved - wanted)} are unexpected.")


def read_adapter_config(adapter_dir: Path) -> dict[str, Any]:
    return json.loads((adapter_dir / ADAPTER_CONFIG).read_text())
