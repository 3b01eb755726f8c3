"""The generation settings, which are the same for both sides."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gradio as gr

from sft_app.settings import RunSettings
from sft_app.ui.forms import make_field

if TYPE_CHECKING:
    from sft_app.inference.generation import Sampling

THINKING_CHOICES = {"as trained": None, "on": True, "off": False}
WIDTHS = {"system_prompt": 2, "temperature": 1, "seed": 1, "max_new_tokens": 1}


def make_conditions(prefix: str) -> dict[str, Any]:
    """Create the fields by name. Their element ids begin with `prefix`."""
    defaults = RunSettings()
    return {
        name: make_field(name, getattr(defaults, name), scale=scale, min_width=140, elem_id=f"{prefix}-{name}")
        for name, scale in WIDTHS.items()
    }


def sampling_of(settings: RunSettings) -> Sampling:
    from sft_app.inference.generation import Sampling

    return Sampling(settings.temperature, settings.seed, settings.max_new_tokens)


def make_thinking(prefix: str) -> gr.Dropdown:
    """Create the field that says whether both sides think first."""
    return gr.Dropdown(
        list(THINKING_CHOICES),
        value="as trained",
        label="Think first",
        info="For models that can think before they answer. Thoughts are long: also raise max new tokens.",
        min_width=140,
        elem_id=f"{prefix}-enable_thinking",
    )
