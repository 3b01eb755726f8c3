"""Run folders as a worker leaves them, without anything having been trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sft_app.runs.directory import create_run
from sft_app.runs.folder import Run
from sft_app.runs.records import ModelRecord, RunRecord, SourceRecord
from sft_app.runs.scorecard import Scorecard
from sft_app.settings import parse_settings, with_recipe

NASTY = "<script>alert(1)</script> | `x` ![a](http://evil/) </style>\"'&\n# not a heading\n- no list\n\n```\n</details>"
MODEL = ModelRecord(name="org/model", location="org/model", revision="abc123", source="Hugging Face Hub")


def part(low: float, value: float, high: float) -> dict[str, Any]:
    return {
        "heldout": {"conversations": 20, "trained_tokens": 400},
        "base": {"loss": 4.0, "perplexity": 54.6, "token_accuracy": 0.25},
        "tuned": {"loss": 4.0 + value, "perplexity": 20.1, "token_accuracy": 0.5},
        "difference": {"loss": {"value": value, "low": low, "high": high}},
        "rows": {"better": 15, "worse": 5, "equal": 0},
    }


def whole_card(**more: Any) -> Scorecard:
    return Scorecard.model_validate({**whole_values(), **more})


def whole_values() -> dict[str, Any]:
    answers = {
        "prompts": 8,
        "base": {"rouge_l": 0.1},
        "tuned": {"rouge_l": 0.4},
        "difference": {"rouge_l": {"value": 0.3, "low": 0.2, "high": 0.4}},
    }
    return {**part(-2.0, -1.0, -0.5), "general": part(0.1, 0.2, 0.3), "answers": answers}


def make_run(home: Path, model: ModelRecord = MODEL, source: dict[str, Any] | None = None, **settings: Any) -> Run:
    """A run that was asked for, and nothing else."""
    values = {"name": "Shop voice", "data": str(home / "private" / "shop.jsonl"), "model": model.name, **settings}
    record = RunRecord(
        settings=with_recipe(parse_settings(values), 120, 576, "llama"),
        source=SourceRecord(
            path=str(values["data"]),
            sha256="f" * 64,
            format="messages",
            rows=120,
            conversations=110,
            rejected=7,
            **(source or {}),
        ),
        model=model,
        versions={"torch": "2.11.0", "trl": "1.16.0"},
        machine="1 × Great GPU, 16 cores",
        created_utc="2026-11-23T15:00:00+00:00",
    )
    row = {"row": 1, "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}
    return create_run(home, record, [row], [row] * 10)


def finish(run: Run, **changes: Any) -> None:
    """The run as its worker leaves it, without a scorecard."""
    run.adapter_dir.mkdir()
    for step in range(0, 5):
        run.log_metric(step=step, loss=3.0 - step / 10, learning_rate=1e-4, tokens_per_second=100.0, memory_gib=1.5)
    run.log_metric(step=0, heldout_loss=4.0)
    run.log_metric(step=4, heldout_loss=3.0)
    run.update_status(state="training", step=4, total_steps=4)
    run.update_status(**{"state": "finished", "kept_step": 4, **changes})
