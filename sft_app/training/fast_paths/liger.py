"""Use Liger's kernels for normalisation, rotary embeddings and gated MLPs on a GPU, where the package is installed.

Liger replaces functions of the model's own modules and of transformers' file for its family. Both are put back when the
kernels are removed, because a model that is loaded later has not been checked with them.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedModel

logger = logging.getLogger(__name__)
LIGER_DEVICE = "cuda"
MISSING = object()
# Losses stay with the trainer.
KERNELS = {"rope": True, "rms_norm": True, "swiglu": True, "geglu": True, "layer_norm": True}
LOSSES = {"cross_entropy": False, "fused_linear_cross_entropy": False}


class LigerKernels:
    """Applies Liger's kernels to a model and removes them again."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._base: Any = model.get_base_model() if hasattr(model, "get_base_model") else model
        self._changes: list[tuple[dict[str, Any], dict[str, Any]]] = []

    def apply(self) -> bool:
        """Apply the kernels and return whether there are any for this model and device."""
        if self._base.device.type != LIGER_DEVICE or importlib.util.find_spec("liger_kernel") is None:
            return False
        before = [(values, dict(values)) for values in self._replaceable()]
        try:
            package: Any = importlib.import_module("liger_kernel.transformers")
            package._apply_liger_kernel_to_instance(model=self._base, **KERNELS, **LOSSES)
        except Exception as error:  # a version of it, or of Triton, that does not go with this one of transformers
            logger.warning("Liger's kernels are not used: %s: %s", type(error).__name__, error)
            is_complete = False
        else:
            is_complete = True
        self._changes += [(values, changed) for values, old in before if (changed := _changed(values, old))]
        if not is_complete:
            self.remove()
        return bool(self._changes)

    def remove(self) -> None:
        """Put back everything that `apply` has replaced."""
        for values, old in self._changes:
            for name, value in old.items():
                if value is MISSING:
                    del values[name]
                else:
                    values[name] = value
        self._changes.clear()

    def _replaceable(self) -> list[dict[str, Any]]:
        """Return the attributes of the model's modules, and the names in the files that define them."""
        files = {type(module).__module__ for module in self._base.modules()}
        own = [sys.modules[name].__dict__ for name in sorted(files) if name.startswith("transformers.models.")]
        return [*own, *(module.__dict__ for module in self._base.modules())]


def _changed(values: dict[str, Any], old: dict[str, Any]) -> dict[str, Any]:
    """Return the old values of the names that are new or have another value now."""
    return {name: old.get(name, MISSING) for name, value in values.items() if old.get(name, MISSING) is not value}
