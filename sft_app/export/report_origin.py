"""Where a run comes from: its data, its training, its model, and the machine."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sft_app.export.report_settings import Fact, data_name, public_model
from sft_app.models.hardware import describe_machine
from sft_app.runs.folder import Run
from sft_app.runs.records import RunRecord, RunStatus
from sft_app.runs.summary import as_float, clock
from sft_app.runtime.files import read_jsonl

METHODS = {
    "qlora": "QLoRA: an adapter on a 4-bit base model",
    "lora": "LoRA: an adapter",
    "full": "every weight is trained",
}
TRAINERS = {"sft": "TRL's SFTTrainer", "classic": "transformers' Trainer"}


def data_facts(run: Run, record: RunRecord) -> list[Fact]:
    """What was learnt from, and what became of its rows."""
    source, heldout = record.source, len(read_jsonl(run.heldout_file))
    not_chosen = source.rows - source.conversations - source.rejected
    facts = [("Source", data_name(record)), *_hub_facts(source.hub)]
    facts += [("Contents (sha256)", source.sha256)]
    facts += [("Layout", " ".join([source.format, *source.columns]))]
    facts += [("Rows", f"{source.rows:,}"), ("Conversations", f"{source.conversations:,}")]
    facts += [("Trained on", f"{source.conversations - heldout:,}"), ("Held out", f"{heldout:,}")]
    facts += [("Rejected", f"{source.rejected:,} rows could not be used" if source.rejected else "none")]
    return facts + ([("Not chosen by the settings", f"{not_chosen:,} rows")] if not_chosen > 0 else [])


def training_facts(record: RunRecord, status: RunStatus, summary: dict[str, Any]) -> list[Fact]:
    """How it was trained, and how far."""
    settings = record.settings
    rank = "" if settings.method == "full" else f", rank {settings.lora_r}, alpha {settings.lora_alpha}"
    facts = [("Method", METHODS[settings.method] + rank), ("Trainer", TRAINERS[settings.trainer])]
    facts += [("Precision", status.precision)] if status.precision else []
    facts += [("Steps", f"{status.step:,} of {status.total_steps:,}")]
    facts += [("Weights kept", f"of step {status.kept_step:,}")] if status.kept_step else []
    facts += [("Rows per step", f"{settings.rows_per_step():,}")]
    facts += [("Learning rate", f"{settings.resolved_learning_rate():g}, {settings.lr_scheduler_type}")]
    facts += [("Longest conversation", f"{settings.max_length:,} tokens")] if settings.max_length else []
    speed = summary["tokens_per_second"]
    return facts + ([("Speed", f"{speed:,.0f} tokens per second")] if speed else [])


def made_with_facts(record: RunRecord, status: RunStatus, metrics: Sequence[dict[str, Any]]) -> list[Fact]:
    """Base model, machine, seed and time."""
    memory = max(filter(math.isfinite, (as_float(row.get("memory_gib")) for row in metrics)), default=None)
    facts = [("Base model", public_model(record))]
    facts += [("Revision", record.model.revision)] if record.model.revision else []
    facts += [("Downloaded from", record.model.source), ("Machine", record.machine or _this_machine())]
    facts += [("Memory used", f"{memory:.1f} GiB")] if memory is not None else []
    facts += [("Seed", str(record.settings.seed)), ("Started", _moment(status.started_utc))]
    facts += [("Ended", _moment(status.ended_utc))]
    return facts + ([("Took", f"{clock(status.elapsed_seconds())} (minutes:seconds)")] if status.ended_utc else [])


def _hub_facts(hub: dict[str, Any]) -> list[Fact]:
    told = {"Part": "config", "Split": "split", "Commit": "commit", "Licence": "licence"}
    return [(label, str(hub[key])) for label, key in told.items() if hub.get(key)]


def _this_machine() -> str:
    return f"{describe_machine()} (the machine that wrote this report; the run did not record its own)"


def _moment(utc: str | None) -> str:
    return datetime.fromisoformat(utc).strftime("%Y-%m-%d %H:%M UTC") if utc else "–"
