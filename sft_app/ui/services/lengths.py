"""How long the conversations are in tokens of the chosen model."""

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
    """Keeps the last lengths measured."""

    data: DataService
    models: ModelService
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _measured: tuple[Any, TokenLengths] | None = None

    def measure(self, settings: RunSettings) -> TokenLengths:
        """Return the lengths of the whole data once it has been checked, before that those of a sample.

        Their `max_length` may be that of other settings. Raises: AppError when there are no tokens to count.
        """
        loaded = self.data.load(settings.reading())  # first: what is wrong with a file is known at once
        key, tokenizer = self._key(settings), self.models.tokenizer(settings.model)
        with self._lock:  # several events of one change ask at the same time
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
        """Return what the settings ask for, or what the data suggests. Raises: AppError as `measure`."""
        return settings.max_length or self.measure(settings).suggested_max_length

    def _key(self, settings: RunSettings) -> tuple[Any, ...]:
        return (*self.data.key(settings.reading()), settings.model)
