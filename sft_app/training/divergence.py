"""Detect numbers that are not finite, and discard checkpoints that contain any."""

from __future__ import annotations

import math
import pickle
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from sft_app.errors import DivergedError
from sft_app.runs.checkpoints import checkpoint_step, complete_checkpoints, delete_checkpoint

# What transformers saves to continue from, besides the weights of an adapter or a full model; with FSDP the weights
# too. Folders of shards are left to torch.
_STATES = ("optimizer*", "scheduler.pt", "scaler.pt", "pytorch_model_fsdp*")
# What torch and pickle raise for invalid data. Not OSError: a disk that fails for a moment is no reason to delete
# anything.
_UNREADABLE = (
    RuntimeError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    EOFError,
    pickle.UnpicklingError,
)


def broken_base_error(loss: float, dtype: torch.dtype) -> DivergedError:
    """Build the error of a run that cannot start."""
    hint = "Its weights may be damaged: download the model again or choose another one."
    if dtype != torch.float32:
        hint = (
            f"Set dtype to float32: {_dtype_name(dtype)} may not be enough for this model. "
            "If that does not help, its weights may be damaged."
        )
    return DivergedError(f"The loss of the base model is {_describe_value(loss)}, so training cannot start.", hint)


def divergence_error(what: str, value: float, step: int, dtype: torch.dtype, learning_rate: float) -> DivergedError:
    """Build the error of a run that diverges at a step; `what` is the number that is not finite."""
    hint = f"Lower the learning rate (it is {learning_rate:g})"
    if dtype != torch.float32:
        hint += f" or set dtype to float32 (it is {_dtype_name(dtype)})"
    message = f"Training diverged at step {step}: {what} is {_describe_value(value)}."
    return DivergedError(message, f"{hint}, and start a new run. Checkpoints saved before that are kept.")


def all_finite(tensors: Iterable[torch.Tensor]) -> bool:
    """Return whether all tensors are finite. For sharded tensors, only this process's shard is checked."""
    parts = (tensor.to_local() if hasattr(tensor, "to_local") else tensor for tensor in tensors)
    return all(bool(part.detach().isfinite().all()) for part in parts)


def discard_broken_checkpoints(folder: Path) -> str:
    """Delete the newest checkpoints until one has finite, readable weights and training state; return a message."""
    discarded: list[str] = []
    for checkpoint in complete_checkpoints(folder):
        if _is_usable(checkpoint):
            return _discarded_message(discarded, f"continued from step {checkpoint_step(checkpoint)}")
        delete_checkpoint(checkpoint)
        discarded.append(checkpoint.name)
    return _discarded_message(discarded, "started again from the beginning")


def _discarded_message(names: Sequence[str], what_followed: str) -> str:
    why = "which contained non-finite or unreadable values"
    return f"Discarded {' and '.join(names)}, {why}. Training {what_followed}." if names else ""


def _is_usable(checkpoint: Path) -> bool:
    files = [file for name in _STATES for file in checkpoint.glob(name) if file.is_file()]
    try:
        states = [_load_state(file) for file in files]
    except _UNREADABLE:
        return False
    return _has_finite_weights(checkpoint) and all(map(_is_finite, states))


def _has_finite_weights(checkpoint: Path) -> bool:
    try:
        return all(all_finite(_tensors(file)) for file in checkpoint.glob("*.safetensors"))
    except SafetensorError:
        return False


def _load_state(file: Path) -> Any:
    """Load a state as transformers does, without reading more into memory than needed."""
    try:
        return torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except OSError:  # not every file system can map a file
        return torch.load(file, map_location="cpu", weights_only=True)


def _is_finite(state: Any) -> bool:
    """Return whether all tensors and numbers in a state are finite, however deeply nested."""
    if isinstance(state, torch.Tensor):
        return all_finite([state])
    if isinstance(state, Mapping):
        return all(map(_is_finite, state.values()))
    if isinstance(state, (list, tuple)):
        return all(map(_is_finite, state))
    return not isinstance(state, float) or math.isfinite(state)


def _tensors(file: Path) -> Iterable[Any]:
    with safe_open(file, framework="pt") as opened:
        for name in opened.keys():  # noqa: SIM118 (not a dict)
            yield opened.get_tensor(name)


def _describe_value(value: float) -> str:
    return "not a number" if math.isnan(value) else "infinite" if math.isinf(value) else "not finite"


def _dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
