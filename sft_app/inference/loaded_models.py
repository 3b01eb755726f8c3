"""A base model in memory with the adapters that have been asked for, so that another side is there at once."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sft_app.errors import ModelError
from sft_app.inference.device import choose_device
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
from sft_app.runtime.resources import LOADED_MODEL_FACTOR, free_memory_gib, shortage

KEPT_ADAPTERS = 4


@dataclass(frozen=True)
class LoadedSide:
    """A side in memory: a model, and the name in it of the side's adapter. Without one it is the base of both sides, or
    a whole model of its own."""

    model: Any
    adapter: str | None = None
    is_base: bool = False


@dataclass
class LoadedModels:
    """One base model for any two of its sides. A whole fine-tuned model is held beside it, one at a time.

    `lock` is held while a side works, because which adapters are active, and how strongly, is changed for that time.
    `hardware` is the device they are on, with the precision they compute in, and `note` what there is to say of both;
    `dtype` is what the sides asked for.
    """

    home: Path
    base: ModelRef
    in_4bit: bool
    dtype: str
    model: Any
    tokenizer: Any
    hardware: Hardware
    note: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)
    _adapters: dict[Any, str] = field(default_factory=dict)
    _full: tuple[Any, Any] | None = None
    _named: int = 0

    @classmethod
    def of(cls, sides: tuple[Side, Side], home: Path) -> LoadedModels:
        """The base of these sides. Raises: ModelError, also where there is no room for it."""
        side, whole = sides[0], {side.folder for side in sides if side.is_full_model()}
        tokenizer = load_tokenizer(side.base, home)
        hardware, note = choose_device(side, home, models=1 + len(whole))
        model = load_base(side.base, home, hardware, in_4bit=side.in_4bit)
        if hardware.dtype == "float32":
            keep_4bit_differentiable(model, True)  # the fast path of a CPU computes in bfloat16 whatever is asked
        return cls(home, side.base, side.in_4bit, side.dtype, model, tokenizer, hardware, note)

    def serves(self, side: Side) -> bool:
        """Whether this base, as it is loaded, is that of the side."""
        return (self.base, self.in_4bit, self.dtype) == (side.base, side.in_4bit, side.dtype)

    def loaded_sides(self, left: Side, right: Side) -> tuple[LoadedSide, LoadedSide]:
        """Both sides, loaded where they are not in memory yet.

        Raises:
            ModelError: an adapter does not fit the base, or there is no room for a whole second model.
        """
        for side in (left, right):
            if side.folder is not None and not side.is_full_model():
                self._attach(side.folder, keep=[other.folder for other in (left, right)])
        return self._voice(left), self._voice(right)

    def _voice(self, side: Side) -> LoadedSide:
        if side.folder is None:
            return LoadedSide(self.model, is_base=True)
        if side.is_full_model():
            return LoadedSide(self._full_model(side))
        return LoadedSide(self.model, self._adapters[_stamp(side.folder)])

    def _attach(self, folder: Path, keep: list[Path | None]) -> None:
        if not (folder / ADAPTER_WEIGHTS).is_file():
            raise ModelError(f"{folder.name} has no {ADAPTER_WEIGHTS}. Other kinds of weight files are not loaded.")
        key = _stamp(folder)
        if key in self._adapters:
            return
        kept = {_stamp(other) for other in keep if other is not None and (other / ADAPTER_WEIGHTS).is_file()}
        for old in [old for old in self._adapters if old not in kept][
            : max(0, len(self._adapters) - KEPT_ADAPTERS + 1)
        ]:
            self.model.delete_adapter(self._adapters.pop(old))
        self._named += 1
        self.model = load_adapter(self.model, folder, f"side{self._named}")
        self._adapters[key] = f"side{self._named}"

    def _full_model(self, side: Side) -> Any:
        assert side.folder is not None
        key = (side.folder, (side.folder / "config.json").stat().st_mtime_ns)
        if self._full is None or self._full[0] != key:
            self._full = None
            free_memory()
            needed = LOADED_MODEL_FACTOR * _weights_gib(side.folder, self.hardware.dtype)
            free = free_memory_gib(self.hardware.device)
            if needed > free:
                what, memory = f"{side.label} is a second full model, which", "memory in addition to the base model"
                raise ModelError(
                    f"{shortage(what, needed, free, memory)}. "
                    "Stop what is using the memory, or compare an adapter instead."
                )
            own = ModelRef(side.name, str(side.folder), None, "full fine-tune")
            self._full = (key, load_base(own, self.home, self.hardware))
        return self._full[1]


def _stamp(folder: Path) -> Any:
    return folder, (folder / ADAPTER_WEIGHTS).stat().st_mtime_ns


def _weights_gib(folder: Path, dtype: str) -> float:
    import torch

    headers = (read_safetensors_header(file)[0] for file in folder.glob("*.safetensors"))
    numbers: int = sum(math.prod(tensor.get("shape", [0])) for header in headers for tensor in header.values())
    itemsize: int = getattr(torch, dtype).itemsize
    return numbers * itemsize / 2**30
