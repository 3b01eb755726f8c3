"""Convert settings to form fields and back.

Each field's type and help come from the settings model, which also validates the values: a number component's own
limits would reject a value without naming the field.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import NoneType
from typing import Any, Literal, get_args, get_origin

import gradio as gr

from sft_app.errors import SettingsError
from sft_app.settings import RunSettings, parse_settings, takes_none
from sft_app.ui.events import Updates

AUTOMATIC = "automatic"


def make_field(name: str, value: Any, **kwargs: Any) -> Any:
    """Create the component for one setting, showing `value`. `kwargs` go to the component."""
    field = RunSettings.model_fields[name]
    common = {"label": label_of(name), "info": field.description, **kwargs}
    shown, kind = to_form(name, value), _kind(name)
    if kind is bool:
        if takes_none(name):
            return gr.Dropdown([AUTOMATIC, "on", "off"], value=shown, **common)
        return gr.Checkbox(value=shown, **common)
    if kind in (int, float) and takes_none(name):  # an empty gr.Number comes back as 0
        return gr.Textbox(value=shown, placeholder=AUTOMATIC, max_lines=1, **common)
    if kind in (int, float):
        precision = 0 if kind is int else None
        return gr.Number(value=shown, precision=precision, **common)
    if get_origin(kind) is Literal:
        return gr.Dropdown(common.pop("choices", list(get_args(kind))), value=shown, **common)
    if get_origin(kind) is tuple:
        return gr.Textbox(value=shown, lines=2, **common)
    return gr.Textbox(value=shown, **{"max_lines": 1, **common})


def label_of(name: str) -> str:
    """Return the setting's name with spaces: the same words as in the files and on the command line."""
    return name.replace("_", " ")


def to_form(name: str, value: Any) -> Any:
    """Return a setting's value as its component shows it."""
    kind = _kind(name)
    if kind is bool and takes_none(name):
        return AUTOMATIC if value is None else "on" if value else "off"
    if get_origin(kind) is tuple:
        return "\n".join(value)
    if takes_none(name):
        return "" if value is None else str(value)
    return value


def from_form(name: str, shown: Any) -> Any:
    """Return a component's value as a setting's value. The settings model validates it."""
    kind = _kind(name)
    if kind is bool and takes_none(name):
        return {AUTOMATIC: None, "on": True, "off": False}[shown]
    if get_origin(kind) is tuple:
        return tuple(line.strip() for line in (shown or "").splitlines() if line.strip())
    if kind is str or takes_none(name):
        text = (shown or "").strip()
        return None if not text and takes_none(name) else text
    return shown


def values_from_form(names: list[str], shown: Sequence[Any] | None) -> dict[str, Any]:
    """Return the values of a whole form for `parse_settings`. An empty number field falls back to its default.

    Raises: SettingsError if the form is not complete.
    """
    if not isinstance(shown, list | tuple) or len(shown) != len(names):
        raise SettingsError("The page has not sent the whole form. Reload the page.")
    values = {name: from_form(name, value) for name, value in zip(names, shown, strict=True)}
    return {name: value for name, value in values.items() if value is not None or takes_none(name)}


def settings_from_form(names: list[str], shown: Sequence[Any] | None) -> RunSettings:
    """Return the settings in the named components, with defaults for all others. Raises: SettingsError."""
    return parse_settings(values_from_form(names, shown))


def form_updates(fields: Mapping[str, Any], values: Mapping[str, Any]) -> Updates:
    """Show these settings in the form's components. A field without a value does not change."""
    return {field: to_form(name, values[name]) for name, field in fields.items() if name in values}


def _kind(name: str) -> Any:
    """Return the type of a setting without its `| None`."""
    annotation = RunSettings.model_fields[name].annotation
    return next(part for part in get_args(annotation) if part is not NoneType) if takes_none(name) else annotation
