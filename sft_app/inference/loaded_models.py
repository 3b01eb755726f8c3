"""Keep a base model in memory with its recently used adapters, so that switching sides is instant."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_app.errors import ModelError
from sft_app.inference.compute_lock import ComputeLock
from sft_app.inference.device import choose_device, limit_gpu_memory, usable_memory_gib
from sft_app.inference.sides import Side
from sft_app.models.adapters import load_adapter
from sft_app.models.catalog import ModelRef
from sft_app.models.hardware import Hardware
from sft_app.models.loading import (
    ADAPTER_WEIGHTS,
    free_memory,
    keep_4bit_differentiable,
    load_base,
    load_tokenizer,
)
from sft_app.runs.checkpoints import read_safetensors_header
from sft_app.runtime.resources import LOADED_MODEL_FACTOR, shortage

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

MAX_LOADED_ADAPTERS = 4


@dataclass(frozen=True)
class LoadedSide:
    """Holds a side in memory: a model and the name of the side's adapter in it.

    Without an adapter, it is the shared base or a full model of its own.
    """

    model: PreTrainedModel
    adapter: str | None = None
    is_base: bool = False


@dataclass
class LoadedModels:
    """Holds one base model for any two of its sides, plus at most one full fine-tuned model.

    `lock` is held while a side generates, because that changes which adapters are active and how strongly. `hardware`
    is the device and dtype in use, and `note` says what is unusual about them; `dtype` is what the sides asked for.
    """

    home: Path
    base: ModelRef
    in_4bit: bool
    dtype: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    hardware: Hardware
    lock: ComputeLock
    note: str = ""
    exact_rows: dict[tuple[str | None, str | None], bool] = field(default_factory=dict)
    """Whether the two sides with these adapters are exact as rows of one batch, once tried."""
    _tokenizers: dict[tuple[str, bool, str], PreTrainedTokenizerBase] = field(default_factory=dict)
    _adapters: dict[Any, str] = field(default_factory=dict)
    _full: tuple[Any, Any] | None = None
    _adapter_count: int = 0

    @classmethod
    def load(cls, sides: tuple[Side, Side], home: Path) -> LoadedModels:
        """Load the base of these sides.

        Raises: ModelError, also if there is not enough memory.
        """
        side, whole = sides[0], {side.folder for side in sides if side.is_full_model()}
        tokenizer = load_tokenizer(side.base, home)
        hardware, note = choose_device(side, home, models=1 + len(whole))
        limit_gpu_memory(hardware, home)
        model = load_base(side.base, home, hardware, in_4bit=side.in_4bit)
        if hardware.dtype == "float32":
            keep_4bit_differentiable(model, True)  # the CPU fast path always computes in bfloat16
        lock = ComputeLock(home, hardware.device)
        return cls(home, side.base, side.in_4bit, side.dtype, model, tokenizer, hardware, lock, note)

    def tokenizer_with(
        self, chat_template: str, enable_thinking: bool = False, eos_token: str = ""
    ) -> PreTrainedTokenizerBase:
        """Return the base's tokenizer for these settings, with the EOS of an adapter from elsewhere."""
        if chat_template == self.tokenizer.chat_template:
            chat_template = ""
        if eos_token == self.tokenizer.eos_token:
            eos_token = ""
        if not chat_template and not enable_thinking and not eos_token:
            return self.tokenizer
        key = chat_template, enable_thinking, eos_token
        if key not in self._tokenizers:
            self._tokenizers[key] = load_tokenizer(self.base, self.home, *key)
        return self._tokenizers[key]

    def matches(self, side: Side) -> bool:
        """Return whether this base, as loaded, is the side's."""
        return (self.base, self.in_4bit, self.dtype) == (side.base, side.in_4bit, side.dtype)

    def loaded_sides(self, left: Side, right: Side) -> tuple[LoadedSide, LoadedSide]:
        """Return both sides, loading what is not in memory yet.

        Raises:
            ModelError: an adapter does not fit the base, or there is not enough memory for a second full model.
        """
        for side in (left, right):
            if side.folder is not None and not side.is_full_model():
                self._attach(side.folder, keep=[other.folder for other in (left, right)])
        return self._loaded_side(left), self._loaded_side(right)

    def loaded_beside(self, side: Side, others: tuple[Side, Side]) -> LoadedSide:
        """Return a further side next to a pair, whose adapters stay in memory. Raises: as `loaded_sides`."""
        if side.folder is not None and not side.is_full_model():
            self._attach(side.folder, keep=[other.folder for other in (*others, side)])
        return self._loaded_side(side)

    def _loaded_side(self, side: Side) -> LoadedSide:
        if side.folder is None:
            return LoadedSide(self.model, is_base=True)
        if side.is_full_model():
            return LoadedSide(self._full_model(side))
        return LoadedSide(self.model, self._adapters[_weights_key(side.folder)])

    def _attach(self, folder: Path, keep: list[Path | None]) -> None:
        if not (folder / ADAPTER_WEIGHTS).is_file():
            raise ModelError(f"{folder.name} has no {ADAPTER_WEIGHTS}. Other kinds of weight files are not loaded.")
        key = _weights_key(folder)
        if key in self._adapters:
            return
        kept = {_weights_key(other) for other in keep if other is not None and (other / ADAPTER_WEIGHTS).is_file()}
        for old in [old for old in self._adapters if old not in kept][
            : max(0, len(self._adapters) - MAX_LOADED_ADAPTERS + 1)
        ]:
            self.model.delete_adapter(self._adapters.pop(old))
        self._adapter_count += 1
        self.model = load_adapter(self.model, folder, f"side{self._adapter_count}")
        self._adapters[key] = f"side{self._adapter_count}"

    def _full_model(self, side: Side) -> Any:
        assert side.folder is not None
        key = (side.folder, (side.folder / "config.json").stat().st_mtime_ns)
        if self._full is None or self._full[0] != key:
            self._full = None
            free_memory()
            needed = LOADED_MODEL_FACTOR * _weights_gib(side.folder, self.hardware.dtype)
            free = usable_memory_gib(self.hardware.device, self.home)
            if needed > free:
                what, memory = f"{side.label} is a second full model, which", "memory in addition to the base model"
                raise ModelError(
                    f"{shortage(what, needed, free, memory)}. "
                    "Stop whatever is using the memory, or compare an adapter instead."
                )
            limit_gpu_memory(replace(self.hardware, memory_free_gib=free), self.home)
            own = ModelRef(side.name, str(side.folder), None, "full fine-tune")
            self._full = (key, load_base(own, self.home, self.hardware))
        return self._full[1]


def _weights_key(folder: Path) -> Any:
    return folder, (folder / ADAPTER_WEIGHTS).stat().st_mtime_ns


def _weights_gib(folder: Path, dtype: str) -> float:
    import torch

    headers = (read_safetensors_header(file)[0] for file in folder.glob("*.safetensors"))
    numbers: int = sum(math.prod(tensor.get("shape", [0])) for header in headers for tensor in header.values())
    itemsize: int = getattr(torch, dtype).itemsize
    return numbers * itemsize / 2**30
