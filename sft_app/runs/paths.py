"""Define the paths inside a run folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sft_app.runtime.home import exports_dir

LOCK_FILE = "worker.lock"


class Inside:
    """A path relative to the run folder: declared on the class, resolved on a run."""

    def __init__(self, *parts: str) -> None:
        self._parts = parts

    def __get__(self, run: RunPaths, owner: type[RunPaths]) -> Path:
        return run.path.joinpath(*self._parts)


@dataclass(frozen=True)
class RunPaths:
    """The path of a run folder and of everything in it."""

    path: Path

    settings_file = Inside("settings.json")
    status_file = Inside("status.json")
    train_file = Inside("data", "train.jsonl")
    heldout_file = Inside("data", "heldout.jsonl")
    tokens_dir = Inside("tokens")
    checkpoints_dir = Inside("checkpoints")
    adapter_dir = Inside("adapter")
    metrics_file = Inside("metrics.jsonl")
    snapshots_file = Inside("snapshots.jsonl")
    log_file = Inside("train.log")
    base_scores_file = Inside("base_scores.jsonl")
    scorecard_file = Inside("scorecard.json")
    pairs_file = Inside("answer_pairs.jsonl")
    votes_file = Inside("votes.jsonl")
    stop_file = Inside("stop")
    cancel_file = Inside("cancel")
    lock_file = Inside(LOCK_FILE)  # created for the first worker; never copied to the storage

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def home(self) -> Path:
        """Return the home folder that contains this run."""
        return self.path.parents[1]

    @property
    def merged_dir(self) -> Path:
        """Return the folder of the merged model, which is outside the run folder, so that it is never copied."""
        return exports_dir(self.home) / f"{self.id}-merged"

    def has_adapter(self) -> bool:
        return self.adapter_dir.is_dir()
