"""The lengths of the conversations in tokens of the chosen model."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

from sft_app.data.checkup.lengths import QUICKLY_MEASURED, TokenLengths, measure_lengths
from sft_app.data.checkup.sampling import Sample
from sft_app.data.reading import Example
from sft_app.settings import RunSettings
from sft_app.ui.services.data import DataService
from sft_app.ui.services.models import ModelService


@dataclass
class LengthService:
    """Caches the last lengths measured."""

    data: DataService
    models: ModelService
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _measured: tuple[Any, TokenLengths] | None = None

    def measure(self, settings: RunSettings) -> TokenLengths:
        """Return the lengths of all data if a check-up has measured them, else of a sample.

        Their `max_length` may come from other settings. Raises: AppError if there are no tokens to count.
        """
        loaded = self.data.load(settings.reading())  # first, so that an error in the data shows immediately
        key, tokenizer = self._key(settings), self.models.tokenizer(settings)
        with self._lock:  # several events of one change call this at the same time
            if self._measured is None or self._measured[0] != key:
                sample = Sample[Example](QUICKLY_MEASURED)
                for example in loaded.examples:
                    sample.offer(example)
                self._measured = (key, measure_lengths(tokenizer, sample.items, None, sample.offered))
            return self._measured[1]

    def remember(self, settings: RunSettings, lengths: TokenLengths) -> None:
        """Keep lengths that a check-up has measured on the whole data."""
        self._measured = (self._key(settings), lengths)

    def max_length(self, settings: RunSettings) -> int:
        """Return the `max_length` of the settings, or the one that the data suggests. Raises: AppError as `measure`."""
        return settings.max_length or self.measure(settings).suggested_max_length

    def _key(self, settings: RunSettings) -> tuple[Any, ...]:
        return (*self.data.key(settings.reading()), settings.model, settings.chat_template, settings.enable_thinking)
