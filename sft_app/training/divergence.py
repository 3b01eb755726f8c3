"""Numbers that are not finite: a run ends at the first one, and no weights and no state of training that hold one are
kept or gone on from."""

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

# What transformers saves for training to go on from beside the weights of an adapter or a whole model; with FSDP the
# weights too. Folders of split-up ones are left to torch.
_STATES = ("optimizer*", "scheduler.pt", "scaler.pt", "pytorch_model_fsdp*")
# What torch and pickle raise for bytes that are no saved state. No OSError: a disk that fails for a moment is no reason
# to delete anything.
_UNREADABLE = (
    RuntimeError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    EOFError,
    pickle.UnpicklingError,
)


def base_is_broken(loss: float, dtype: torch.dtype) -> DivergedError:
    """For a run that cannot begin."""
    hint = "Its weights may be damaged: download the model again or choose another one."
    if dtype != torch.float32:
        hint = (
            f"Set dtype to float32: {_name(dtype)} may not be enough for this model. Otherwise its weights are damaged."
        )
    return DivergedError(f"The loss of the base model is {_word(loss)}, so training cannot start.", hint)


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


def discard_broken(folder: Path) -> str:
    """Clears away the newest checkpoints as far as their weights, or what the optimizer, the schedule and the loss
    scaling go on with, are not finite or cannot be read. Returns what there is to say of it."""
    discarded: list[str] = []
    for checkpoint in complete_checkpoints(folder):
        if _is_sound(checkpoint):
            return _discarded_told(discarded, f"continued from step {checkpoint_step(checkpoint)}")
        delete_checkpoint(checkpoint)
        discarded.append(checkpoint.name)
    return _discarded_told(discarded, "started again from the beginning")


def _discarded_told(names: Sequence[str], what_followed: str) -> str:
    why = "with numbers that are not finite or cannot be read"
    return f"Discarded {' and '.join(names)}, {why}. Training {what_followed}." if names else ""


def _is_sound(checkpoint: Path) -> bool:
    files = [file for name in _STATES for file in checkpoint.glob(name) if file.is_file()]
    try:
        states = [_load_state(file) for file in files]
    except _UNREADABLE:
        return False
    return _has_finite_weights(checkpoint) and all(map(_is_finite, states))


def _has_finite_weights(checkpoint: Path) -> bool:
    try:
        return all(are_finite(_tensors(file)) for file in checkpoint.glob("*.safetensors"))
    except SafetensorError:
        return False


def _load_state(file: Path) -> Any:
    """As transformers loads it, without reading more into memory than is looked at."""
    try:
        return torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except OSError:  # not every file system can map a file
        return torch.load(file, map_location="cpu", weights_only=True)


def _is_finite(state: Any) -> bool:
    """Of tensors and numbers, however deep they stand in it."""
    if isinstance(state, torch.Tensor):
        return are_finite([state])
    if isinstance(state, Mapping):
        return all(map(_is_finite, state.values()))
    if isinstance(state, (list, tuple)):
        return all(map(_is_finite, state))
    return not isinstance(state, float) or math.isfinite(state)


def _tensors(file: Path) -> Iterable[Any]:
    with safe_open(file, framework="pt") as opened:
        for name in opened.keys():  # noqa: SIM118 (it is no dict)
            yield opened.get_tensor(name)


def _word(value: float) -> str:
    return "not a number" if math.isnan(value) else "infinite" if math.isinf(value) else "not finite"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
