"""The models that the page keeps in memory: a tokenizer, and a base model with adapters."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_app.settings import RunSettings
from sft_app.ui.services.access import Access

if TYPE_CHECKING:
    from sft_app.inference.loaded_models import LoadedModels
    from sft_app.inference.pair import LoadedPair
    from sft_app.inference.sides import Side


@dataclass
class ModelService:
    """Loads models on first use. The locks are separate, because a tokenizer may have to wait for a download."""

    home: Path
    access: Access
    _tokenizer_lock: threading.Lock = field(default_factory=threading.Lock)
    _tokenizers: dict[tuple[str, str, bool, str], Any] = field(default_factory=dict)
    _models_lock: threading.Lock = field(default_factory=threading.Lock)
    _models: LoadedModels | None = None

    def tokenizer(self, settings: RunSettings) -> Any:
        """Return the tokenizer of a run with these settings. Raises: AppError."""
        from sft_app.models.catalog import resolve_model
        from sft_app.models.loading import load_tokenizer

        model, template = settings.model, settings.chat_template
        self.access.check_model(model)
        key = (model, template, settings.enable_thinking, self.access.whose())
        with self._tokenizer_lock:
            if key not in self._tokenizers:
                ref = resolve_model(model, None, self.home)
                self._tokenizers = {key: load_tokenizer(ref, self.home, template, settings.enable_thinking)}
            return self._tokenizers[key]

    def load_pair(self, sides: tuple[Side, Side]) -> LoadedPair:
        """Return two sides, loading them unless they are in memory. Raises: AppError."""
        from sft_app.inference.pair import load_pair

        with self._models_lock:
            if self._models is not None and not self._models.matches(sides[0]):
                self._free()
            pair = load_pair(sides, self.home, self._models)
            self._models = pair.models
            return pair

    def release(self) -> None:
        """Free the memory for a run that is about to start."""
        if self._models is not None:
            self._free()

    def _free(self) -> None:
        from sft_app.models.loading import free_memory

        self._models = None
        free_memory()
