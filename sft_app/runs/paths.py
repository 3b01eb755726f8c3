"""Define the paths inside a run folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sft_app.runtime.home import exports_dir

LOCK_FILE = "worker.lock"


class RunPath:
    """A path relative to the run folder: declared on the class, resolved on a run."""

    def __init__(self, *parts: str) -> None:
        self._parts = parts

    def __get__(self, run: RunPaths, owner: type[RunPaths]) -> Path:
        return run.path.joinpath(*self._parts)


@dataclass(frozen=True)
class RunPaths:
    """The path of a run folder and of everything in it."""

    path: Path

    settings_file = RunPath("settings.json")
    status_file = RunPath("status.json")
    train_file = RunPath("data", "train.jsonl")
    heldout_file = RunPath("data", "heldout.jsonl")  # judges the run
    validation_file = RunPath("data", "validation.jsonl")  # chooses the weights; absent if the held-out rows do
    general_file = RunPath("data", "general.jsonl")  # absent if the general questions are ours
    replay_file = RunPath("data", "replay.jsonl")  # the base's own answers to general prompts, if some are replayed
    tokens_dir = RunPath("tokens")
    checkpoints_dir = RunPath("checkpoints")
    adapter_dir = RunPath("adapter")
    metrics_file = RunPath("metrics.jsonl")
    snapshots_file = RunPath("snapshots.jsonl")
    log_file = RunPath("train.log")
    base_scores_file = RunPath("base_scores.jsonl")
    strength_file = RunPath("strength.json")  # absent if no strength but the trained one was tried
    evaluations_file = RunPath("evaluations.jsonl")
    scorecard_file = RunPath("scorecard.json")
    pairs_file = RunPath("answer_pairs.jsonl")
    votes_file = RunPath("votes.jsonl")
    judgements_file = RunPath("judgements.jsonl")
    tests_file = RunPath("tests.yaml")
    stop_file = RunPath("stop")
    cancel_file = RunPath("cancel")
    lock_file = RunPath(LOCK_FILE)  # created for the first worker; never copied to the storage

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

    def data_files(self) -> list[Path]:
        """List the files of conversations: for training, for judging and, if other rows choose, for choosing."""
        return [self.train_file, self.heldout_file, *([self.validation_file] if self.validation_file.exists() else [])]

    def has_adapter(self) -> bool:
        return self.adapter_dir.is_dir()
