"""The form and the settings say the same, both ways."""

from __future__ import annotations

import gradio as gr
import pytest

from sft_app.errors import SettingsError
from sft_app.settings import PRESETS, RunSettings, parse_settings
from sft_app.ui.forms import form_updates, from_form, make_field, settings_from_form, to_form, values_from_form

NAMES = list(RunSettings.model_fields)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_setting_survives_the_way_through_the_form(preset: str) -> None:
    settings = parse_settings({"preset": preset, "revision": "main", "watch_prompts": ["One?", "Two?"]})
    fields = {name: make_field(name, RunSettings.model_fields[name].default) for name in NAMES}
    shown = form_updates(fields, settings.model_dump())
    assert parse_settings(values_from_form(NAMES, tuple(shown[field] for field in fields.values()))) == settings


@pytest.mark.parametrize("name", NAMES)
def test_a_field_shows_the_settings_own_help(name: str) -> None:
    component = make_field(name, RunSettings.model_fields[name].default)
    assert component.info == RunSettings.model_fields[name].description


def test_a_value_out_of_range_is_told_with_its_field() -> None:
    assert isinstance(make_field("temperature", 0.0), gr.Number)
    with pytest.raises(SettingsError, match="temperature: .* less than or equal to 2"):
        settings_from_form(["temperature"], (9,))


def test_an_emptied_number_falls_back_to_its_default() -> None:
    assert values_from_form(["lora_r", "learning_rate"], (None, "")) == {"learning_rate": None}


def test_a_number_that_may_be_empty_is_a_text_field_because_an_empty_number_comes_back_as_zero() -> None:
    assert isinstance(make_field("learning_rate", None), gr.Textbox)
    assert parse_settings({"learning_rate": from_form("learning_rate", " 3e-4 ")}).learning_rate == 3e-4


@pytest.mark.parametrize(("shown", "value"), [("automatic", None), ("on", True), ("off", False)])
def test_an_optional_switch_has_three_positions(shown: str, value: bool | None) -> None:
    assert from_form("gradient_checkpointing", shown) is value
    assert to_form("gradient_checkpointing", value) == shown


def test_watch_prompts_are_one_a_line() -> None:
    assert from_form("watch_prompts", " One? \n\nTwo?\n") == ("One?", "Two?")
