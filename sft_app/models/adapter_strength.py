"""Change how strongly a saved adapter is applied, in its weights, so that whatever loads it has the new strength."""

from __future__ import annotations

import json
from pathlib import Path

from sft_app.errors import ModelError
from sft_app.models.loading import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from sft_app.runtime.files import put_on_disk

SECOND_FACTORS = (".lora_B.", ".lora_embedding_B")
MORE_THAN_A_PRODUCT = ("use_dora", "lora_bias", "modules_to_save", "trainable_token_indices", "target_parameters")


def scale_saved_adapter(folder: Path, factor: float) -> None:
    """Multiply what a saved LoRA adapter adds to the weights. Raises: ModelError as `check_scalable`."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    check_scalable(folder)
    file = folder / ADAPTER_WEIGHTS
    with safe_open(file, framework="pt") as saved:
        metadata, tensors = saved.metadata(), {name: saved.get_tensor(name) for name in saved.keys()}  # noqa: SIM118
        scaled = {name: tensor * (factor if _is_second(name) else 1) for name, tensor in tensors.items()}
    save_file(scaled, file, metadata=metadata)
    put_on_disk(file)


def check_scalable(folder: Path) -> None:
    """Check that a saved adapter is just a product.

    Raises: ModelError if it is more (DoRA, biases, whole modules, experts), or the folder has no adapter.
    """
    if not (folder / ADAPTER_WEIGHTS).is_file():
        raise ModelError("This run has no adapter, so it has no strength to change.")
    config = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    if any(config.get(name) for name in MORE_THAN_A_PRODUCT) or config.get("bias", "none") != "none":
        raise ModelError("The strength of this kind of adapter cannot be changed after training.")


def _is_second(name: str) -> bool:
    return any(factor in name for factor in SECOND_FACTORS)
