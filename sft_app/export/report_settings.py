"""A run's settings as others may read them: in words, and without the folders of the machine it ran on."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from sft_app.models.catalog import LOCAL_FOLDER, ModelRef
from sft_app.runs.folder import Run
from sft_app.runs.records import RunRecord
from sft_app.runs.summary import setting_text
from sft_app.settings import EXAMPLE_DATA, parse_settings

Fact = tuple[str, str]
TOLD_ELSEWHERE = {"name", "data", "model", "revision", "preset"}
_PATH = re.compile(r"(?<![^\s'\"(=])(?:~|[A-Za-z]:)?[\\/](?:[^\s'\",;()]*[\\/])?([^\s\\/'\",;()]+)")


def data_name(record: RunRecord) -> str:
    """A data set's id on the Hub, the bundled example as it is called, or a file's name without its folder."""
    asked = record.settings.data
    return asked if record.source.hub or asked == EXAMPLE_DATA else file_name(asked)


def public_model(record: RunRecord) -> str:
    """A Hub id, or the name of a folder that the model came from."""
    if record.model.source == LOCAL_FOLDER:  # which may be gone by now, or have been on another machine
        return file_name(record.model.location)
    return ModelRef(**record.model.model_dump()).public_id


def public_values(record: RunRecord) -> dict[str, Any]:
    """The settings that repeat the run, at the revision of the model that it found."""
    values = record.settings.model_dump(mode="json")
    model = public_model(record) if record.model.source == LOCAL_FOLDER else values["model"]
    return {**values, "data": data_name(record), "model": model, "revision": record.model.revision}


def every_setting(record: RunRecord) -> list[Fact]:
    """All of them with their values in words."""
    values = public_values(record)
    settings = record.settings.model_copy(update={name: values[name] for name in ("data", "model", "revision")})
    return [(name, setting_text(settings, name)) for name in type(settings).model_fields]


def changed_settings(record: RunRecord) -> list[Fact]:
    """Those that are not what the run's preset sets."""
    usual = parse_settings({"preset": record.settings.preset})
    return [
        (name, value)
        for name, value in every_setting(record)
        if name not in TOLD_ELSEWHERE and getattr(record.settings, name) != getattr(usual, name)
    ]


def needed_to_repeat(record: RunRecord) -> list[str]:
    """What the command needs beside the settings."""
    needs = []
    if not record.source.hub and record.settings.data != EXAMPLE_DATA:
        needs.append(f"the data file {data_name(record)} in the current folder (sha256 {record.source.sha256})")
    if record.model.source == LOCAL_FOLDER:
        needs.append(f"the model folder {public_model(record)} in the current folder")
    return needs


def public_text(run: Run, text: str) -> str:
    """A message without the folders that it names; the last part of each stays."""
    for folder in (run.home.resolve(), Path.cwd(), Path.home()):
        if len(folder.parts) > 1:
            text = text.replace(str(folder), folder.name)
    return _PATH.sub(r"\1", text)


def file_name(path: str) -> str:
    """The last part, whichever system wrote the path."""
    return re.split(r"[\\/]", path.rstrip("\\/"))[-1]
