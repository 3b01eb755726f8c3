"""Define which conversations are held out of training, and what they are used for."""

from __future__ import annotations

from typing import Literal

from pydantic import field_validator, model_validator

from sft_app.settings.data import DataSettings, clean_source, setting


class HeldoutSettings(DataSettings):
    """The settings that divide the data into conversations that train and those that do not."""

    heldout_fraction: float = setting(
        "data", 0.1, "Share of the conversations held out of training for evaluation.", ge=0.0, le=0.5
    )
    heldout_min: int = setting("data", 8, "Hold out at least this many conversations.", ge=1, le=1000)
    heldout_max: int = setting("data", 200, "Hold out at most this many conversations.", ge=1, le=10_000)
    heldout_data: str = setting(
        "data",
        "",
        "A file of conversations that only judge the result. Leave empty to hold some of your examples out.",
    )
    validation_data: str = setting(
        "data",
        "",
        "A file of conversations that choose which weights are kept. Leave empty to hold some of your examples out.",
    )

    primary_measure: Literal["loss", "tests"] = setting(
        "data",
        "loss",
        "What decides whether training helped, named before it begins: the loss on held-out examples, or your tests.",
    )

    @field_validator("heldout_data", "validation_data")
    @classmethod
    def _without_quotes_or_blanks(cls, value: str) -> str:
        return clean_source(value)

    @model_validator(mode="after")
    def _heldout_range(self) -> HeldoutSettings:
        if self.heldout_min > self.heldout_max:
            raise ValueError(f"heldout_min {self.heldout_min} is more than heldout_max {self.heldout_max}")
        return self
