"""Numbers that are not finite: a run ends at the first one, and no weights that hold one are kept or gone on from."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from sft_app.checkpoints import complete_checkpoints, delete_checkpoint
from sft_app.errors import DivergedError


def base_is_broken(loss: float, dtype: torch.dtype) -> DivergedError:
    """For a run that cannot begin."""
    hint = "Its weights may be damaged: download the model again or choose another one."
    if dtype != torch.float32:
        hint = f"Set dtype to float32: {_name(dtype)} may not be enough for this model. Else its weights are damaged."
    return DivergedError(f"The loss of the base model is {_word(loss)}, so there is nothing to train from.", hint)


def has_diverged(what: str, value: float, step: int, dtype: torch.dtype, learning_rate: float) -> DivergedError:
    """For a run that breaks at a step; `what` is the number that is not finite."""
    hint = f"Lower the learning rate (it is {learning_rate:g})"
    if dtype != torch.float32:
        hint += f" or set dtype to float32 (it is {_name(dtype)})"
    told = f"Training broke at step {step}: {what} is {_word(value)}."
    return DivergedError(told, f"{hint}, and start a new run. Checkpoints from before the break are kept.")


def are_finite(tensors: Iterable[torch.Tensor]) -> bool:
    """Of tensors that are split up over processes: this process's part."""
    parts = (tensor.to_local() if hasattr(tensor, "to_local") else tensor for tensor in tensors)
    return all(bool(part.detach().isfinite().all()) for part in parts)


def discard_broken(folder: Path) -> None:
    """Clears away the newest checkpoints as far as their weights are not finite, so that none is gone on from."""
    for checkpoint in complete_checkpoints(folder):
        if _has_finite_weights(checkpoint):
            return
        delete_checkpoint(checkpoint)


def _has_finite_weights(checkpoint: Path) -> bool:
    return all(are_finite(_tensors(file)) for file in checkpoint.glob("*.safetensors"))


def _tensors(file: Path) -> Iterable[Any]:
    with safe_open(file, framework="pt") as opened:
        for name in opened.keys():  # noqa: SIM118 (it is no dict)
            yield opened.get_tensor(name)


def _word(value: float) -> str:
    return "not a number" if math.isnan(value) else "infinite" if math.isinf(value) else "not finite"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
