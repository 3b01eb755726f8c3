"""Estimate how much disk space a run needs, before its model is loaded and without torch."""

from __future__ import annotations

import math
from pathlib import Path

from sft_app.runs.checkpoints import KEPT_CHECKPOINTS, read_safetensors_header
from sft_app.settings import RunSettings

# Enough for logs, tokenizer files and a small adapter.
LEAST_GIB = 1.0
# The newest ones, the best one, and one being written.
CHECKPOINTS_AT_ONCE = KEPT_CHECKPOINTS + 2
# A float32 weight and AdamW's two moments.
BYTES_SAVED, BYTES_IN_CHECKPOINT = 4, 12
# The run's copy of the conversations, and their tokens and labels, compared with the source.
COPIES_OF_DATA = 4


def disk_needed_gib(settings: RunSettings, model_dir: Path, data_bytes: int) -> float:
    """Return the disk space for a run's data, checkpoints, and adapter, or whole model for `full`.

    Weights are not counted if the model has not been downloaded, so that `model_dir` does not exist.
    """
    weights = trained_weights(settings, model_dir)
    needed = weights * (BYTES_SAVED + CHECKPOINTS_AT_ONCE * BYTES_IN_CHECKPOINT) + COPIES_OF_DATA * data_bytes
    return max(LEAST_GIB, needed / 2**30)


def trained_weights(settings: RunSettings, model_dir: Path) -> int:
    """Return how many weights a run trains, from the shapes in the model's files; 0 if they cannot be read."""
    return sum(_trained_weights_of(settings, name, shape) for name, shape in _shapes(model_dir))


def _trained_weights_of(settings: RunSettings, name: str, shape: list[int]) -> int:
    """Return the number of trained weights for a tensor: all of them, or those of its two low-rank matrices."""
    if settings.method == "full":
        return math.prod(shape)
    *_, module, kind = ["", *name.split(".")]
    targets = settings.target_modules()
    is_linear = len(shape) == 2 and kind == "weight" and "embed" not in name and module != "lm_head"
    is_target = targets is None or module in targets
    return settings.lora_r * sum(shape) if is_linear and is_target else 0


def _shapes(model_dir: Path) -> list[tuple[str, list[int]]]:
    shapes: list[tuple[str, list[int]]] = []
    for file in model_dir.glob("*.safetensors"):
        try:
            header, _ = read_safetensors_header(file)
        except (OSError, ValueError):
            continue
        shapes += [(name, tensor["shape"]) for name, tensor in header.items() if name != "__metadata__"]
    return shapes
