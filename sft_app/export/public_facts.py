"""Describe a run's settings for others, in words and without the folders of the machine it ran on."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from sft_app.models.catalog import LOCAL_FOLDER, ModelRef
from sft_app.models.hardware import describe_machine
from sft_app.runs.folder import Run
from sft_app.runs.records import RunRecord, RunStatus, StepMetrics
from sft_app.runs.strength import StrengthChoice
from sft_app.runs.summary import RunSummary, as_float, clock, setting_text
from sft_app.settings import EXAMPLE_DATA, parse_settings

Fact = tuple[str, str]
_FILES = {
    "heldout_data": "the held-out conversations",
    "validation_data": "the conversations that choose the weights",
    "general_questions": "the general questions",
    "tests": "the tests",
}  # shown without the path on this machine
_CHOSEN_FOR_THE_DATA = {"learning_rate", "num_train_epochs", "gradient_accumulation_steps", "max_steps"}
SHOWN_ELSEWHERE = {"name", "data", "model", "revision", "preset", *_CHOSEN_FOR_THE_DATA}
_PATH = re.compile(r"(?<![^\s'\"(=])(?:~|[A-Za-z]:)?[\\/](?:[^\s'\",;()]*[\\/])?([^\s\\/'\",;()]+)")
METHODS = {
    "qlora": "QLoRA: an adapter on a 4-bit base model",
    "lora": "LoRA: an adapter",
    "full": "every weight is trained",
}
TRAINERS = {"sft": "TRL's SFTTrainer", "classic": "transformers' Trainer"}


def data_name(record: RunRecord) -> str:
    """Return the data's public name: an id on the Hub, the bundled example, or a file name without its folder."""
    name = record.settings.data
    return name if record.source.hub or name == EXAMPLE_DATA else file_name(name)


def public_model(record: RunRecord) -> str:
    """Return the model's public name: a Hub id, or the name of the folder it came from."""
    if record.model.source == LOCAL_FOLDER:  # the folder may no longer exist, or have been on another machine
        return file_name(record.model.location)
    return ModelRef(**record.model.model_dump()).public_id


def public_values(record: RunRecord) -> dict[str, Any]:
    """Return the settings that repeat the run, with the revision of the model it used."""
    values = record.settings.model_dump(mode="json")
    model = public_model(record) if record.model.source == LOCAL_FOLDER else values["model"]
    named = {name: file_name(getattr(record.settings, name)) for name in _FILES}
    return {**values, **named, "data": data_name(record), "model": model, "revision": record.model.revision}


def every_setting(record: RunRecord) -> list[Fact]:
    """Return all settings with their values in words."""
    values = public_values(record)
    settings = record.settings.model_copy(
        update={name: values[name] for name in ("data", "model", "revision", *_FILES)}
    )
    return [(name, setting_text(settings, name)) for name in type(settings).model_fields]


def changed_settings(record: RunRecord) -> list[Fact]:
    """Return the settings that differ from the run's preset."""
    usual = parse_settings({"preset": record.settings.preset})
    return [
        (name, value)
        for name, value in every_setting(record)
        if name not in SHOWN_ELSEWHERE and getattr(record.settings, name) != getattr(usual, name)
    ]


def needed_to_repeat(record: RunRecord) -> list[str]:
    """List what the command needs in addition to the settings."""
    needs = []
    if not record.source.hub and record.settings.data != EXAMPLE_DATA:
        needs.append(f"the data file {data_name(record)} in the current folder (sha256 {record.source.sha256})")
    for name, what in _FILES.items():
        if (file := getattr(record.settings, name)) and file != "none":
            needs.append(f"{what} {file_name(file)} in the current folder")
    if record.model.source == LOCAL_FOLDER:
        needs.append(f"the model folder {public_model(record)} in the current folder")
    return needs


def public_text(run: Run, text: str) -> str:
    """Shorten each path in a message to its last part."""
    for folder in (run.home.resolve(), Path.cwd(), Path.home()):
        if len(folder.parts) > 1:
            text = text.replace(str(folder), folder.name)
    return _PATH.sub(r"\1", text)


def file_name(path: str) -> str:
    """Return the last part of a path from any operating system."""
    return re.split(r"[\\/]", path.rstrip("\\/"))[-1]


def training_data_facts(run: Run, record: RunRecord) -> list[Fact]:
    """Return the facts about the training data and what became of its rows."""
    source, heldout, validation = record.source, *map(_count_lines, (run.heldout_file, run.validation_file))
    not_chosen = source.rows - source.conversations - source.rejected
    facts = [("Source", data_name(record)), *_hub_facts(source.hub)]
    facts += [("Contents (sha256)", source.sha256)]
    facts += [("Layout", " ".join([source.format, *source.columns]))]
    facts += [("Rows", f"{source.rows:,}"), ("Conversations", f"{source.conversations:,}")]
    facts += [("Trained on", f"{_count_lines(run.train_file):,}")]
    facts += [("Held out to choose the weights", f"{validation:,}")] if validation else []
    facts += [("Held out to judge" if validation else "Held out", f"{heldout:,}")]
    facts += [("Rejected", f"{source.rejected:,} rows could not be used" if source.rejected else "none")]
    facts += [("Excluded by the settings", f"{not_chosen:,} rows")] if not_chosen > 0 else []
    return facts + ([("Notes on the columns", public_text(run, " ".join(source.notes)))] if source.notes else [])


def _count_lines(file: Path) -> int:
    """Count the lines of a file; 0 if it does not exist."""
    if not file.exists():
        return 0
    with file.open("rb") as lines:
        return sum(1 for _ in lines)


def training_facts(
    record: RunRecord, status: RunStatus, summary: RunSummary, strength: StrengthChoice | None = None
) -> list[Fact]:
    """Return how the run was trained, and for how many steps."""
    settings = record.settings
    rank = "" if settings.method == "full" else f", rank {settings.lora_r}, alpha {settings.lora_alpha}"
    facts = [("Method", METHODS[settings.method] + rank), ("Trainer", TRAINERS[settings.trainer])]
    facts += [("Precision", status.precision)] if status.precision else []
    facts += [("Steps", f"{status.step:,} of {status.total_steps:,}")]
    facts += [("Weights kept", f"from step {status.kept_step:,}")] if status.kept_step else []
    facts += [("Strength", f"{strength.chosen:g} of what was trained")] if strength else []
    facts += [("Rows per step", f"{settings.rows_per_step():,}")]
    facts += [("Passes over the examples", f"{settings.passes():g}")] if settings.max_steps < 0 else []
    facts += [("Learning rate", f"{settings.resolved_learning_rate():g}, {settings.lr_scheduler_type}")]
    facts += [("Chat template", settings.describe_chat_template())] if settings.chat_template else []
    facts += [("Longest conversation", f"{settings.max_length:,} tokens")] if settings.max_length else []
    speed = summary.tokens_per_second
    return facts + ([("Speed", f"{speed:,.0f} tokens per second")] if speed else [])


def made_with_facts(record: RunRecord, status: RunStatus, metrics: Sequence[StepMetrics]) -> list[Fact]:
    """Return the base model, machine, seed and times."""
    memory = max(filter(math.isfinite, (as_float(row.memory_gib) for row in metrics)), default=None)
    facts = [("Base model", public_model(record))]
    facts += [("Revision", record.model.revision)] if record.model.revision else []
    facts += [("Downloaded from", record.model.source), ("Machine", record.machine or _this_machine())]
    facts += [("Memory used", f"{memory:.1f} GiB")] if memory is not None else []
    facts += [("Seed", str(record.settings.seed)), ("Started", _moment(status.started_utc))]
    facts += [("Ended", _moment(status.ended_utc))]
    return facts + ([("Duration", f"{clock(status.elapsed_seconds())} (minutes:seconds)")] if status.ended_utc else [])


def _hub_facts(hub: dict[str, Any]) -> list[Fact]:
    labels = {"Part": "config", "Split": "split", "Commit": "commit", "Licence": "licence"}
    return [(label, str(hub[key])) for label, key in labels.items() if hub.get(key)]


def _this_machine() -> str:
    return f"{describe_machine()} (the machine that wrote this report; the run did not record its own)"


def _moment(utc: str | None) -> str:
    return datetime.fromisoformat(utc).strftime("%Y-%m-%d %H:%M UTC") if utc else "–"
