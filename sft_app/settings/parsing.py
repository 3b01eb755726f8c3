"""Parse settings from user input, and describe each setting."""

from __future__ import annotations

from collections.abc import Mapping
from types import NoneType
from typing import Any, get_args

from pydantic import ValidationError

from sft_app.errors import SettingsError
from sft_app.settings.data import Section
from sft_app.settings.run import FORMER_PRESETS, Preset, RunSettings

_FOR_THE_DATA: dict[str, Any] = {
    "num_train_epochs": None,
    "max_steps": -1,
    "learning_rate": None,
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": None,
    "replay": 0.2,
}
PRESETS: dict[Preset, dict[str, Any]] = {
    "quick": {**_FOR_THE_DATA, "eval_steps": 0.5, "early_stopping_patience": None, "choose_strength": False},
    "good": {**_FOR_THE_DATA, "eval_steps": 0.1, "early_stopping_patience": 3, "choose_strength": True},
    "best": {**_FOR_THE_DATA, "eval_steps": 0.05, "early_stopping_patience": 6, "choose_strength": True},
}
REMOVED_SETTINGS = frozenset({"torch_compile"})
"""Settings of earlier versions, which their runs still name."""


def parse_settings(values: Mapping[str, Any]) -> RunSettings:
    """Parse settings from plain values; the rest comes from the preset, then from the defaults.

    Raises:
        SettingsError: with one line for every fault.
    """
    preset = values.get("preset", "quick")
    if preset in FORMER_PRESETS:
        raise SettingsError(f"preset: {preset} no longer exists; the nearest is {FORMER_PRESETS[preset]}.")
    if preset not in get_args(Preset):
        raise SettingsError(f"preset: got {preset!r}, expected one of {', '.join(get_args(Preset))}.")
    try:
        return RunSettings.model_validate({**PRESETS[preset], "preset": preset, **values})
    except ValidationError as error:
        raise SettingsError(describe_faults(error)) from error


def describe_faults(error: ValidationError) -> str:
    """Return one line for every fault."""
    return "\n".join(_fault_line(fault) for fault in error.errors())


def parse_assignments(assignments: list[str]) -> dict[str, Any]:
    """Parse `["max_steps=20", "packing=false"]` into values; pydantic converts the text later.

    An empty value or `none` empties a setting that can be empty.

    Raises:
        SettingsError: an assignment has no `=`.
    """
    values: dict[str, Any] = {}
    for assignment in assignments:
        name, separator, text = assignment.partition("=")
        if not separator:
            raise SettingsError(f"--set {assignment}: expected NAME=VALUE, for example max_steps=20.")
        name, text = name.strip(), text.strip()
        values[name] = None if text.lower() in ("", "none") and takes_none(name) else text
    return values


def takes_none(name: str) -> bool:
    """Return whether a setting can be left empty, so that its value is chosen automatically."""
    field = RunSettings.model_fields.get(name)
    return field is not None and NoneType in get_args(field.annotation)


def choices_of(name: str) -> list[str]:
    """Return the choices of a setting that has a fixed set of values."""
    return list(get_args(RunSettings.model_fields[name].annotation))


def fields_of(section: Section) -> list[str]:
    """Return the names of a section's settings, in order of definition."""
    return [name for name, field in RunSettings.model_fields.items() if _section(field) == section]


def _section(field: Any) -> str:
    section: str = field.json_schema_extra["section"]
    return section


def _fault_line(fault: Any) -> str:
    name = ".".join(str(part) for part in fault["loc"]) or "settings"
    if name in REMOVED_SETTINGS:
        return f"{name}: this setting no longer exists, because it had no effect; leave it out."
    if fault["type"] == "extra_forbidden":
        return f"{name}: there is no setting with this name."
    text = fault["msg"].removeprefix("Value error, ").replace("a valid tuple", "a list")  # pydantic's wording
    return f"{name}: {text}, got {fault['input']!r}."
