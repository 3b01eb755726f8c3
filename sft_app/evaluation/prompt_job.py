"""A prompt set at work: what has been answered so far, kept with the run as it comes. Imports no torch."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sft_app.errors import DataError
from sft_app.evaluation.answer_pairs import AnswerPair, keep_pairs, known_pairs
from sft_app.evaluation.prompt_sets import Prompt, PromptResult, answer_prompt_set, as_csv, as_jsonl
from sft_app.inference.sides import BASE, Side, run_of_side
from sft_app.runs.directory import list_runs
from sft_app.runs.folder import Run
from sft_app.runtime.progress import ProgressCallback

if TYPE_CHECKING:
    from sft_app.inference.generation import Sampling


@dataclass
class PromptJob:
    """`labels` name the two sides for people, `names` in files; `run` is the right one.

    `is_stopping`: no further batch is to begin.
    """

    total: int = 0
    run: str = ""
    labels: tuple[str, str] = ("Base model", "Fine-tuned")
    names: tuple[str, str] = ("base", "tuned")
    results: list[PromptResult] = field(default_factory=list)
    seconds: float = 0.0
    is_kept: bool = False
    is_at_work: bool = False
    is_stopping: bool = False
    most_changed_first: bool = False

    def begin(self, sides: tuple[Side, Side], total: int) -> None:
        self.total, self.results, self.seconds, self.run = total, [], 0.0, sides[1].name
        self.labels, self.names = (sides[0].label, sides[1].label), file_names(sides)
        self.is_kept, self.is_stopping = False, False

    def work(self, batches: Iterator[list[PromptResult]], run: Run | None) -> Generator[None]:
        """Takes one batch after the other, until the last one or a stop, and keeps it with `run` before the next."""
        started, known = time.monotonic(), known_pairs(run) if run else set()
        self.is_at_work, self.is_kept = True, run is not None
        try:
            while not self.is_stopping and (batch := next(batches, None)) is not None:
                self.results += batch
                self.seconds = time.monotonic() - started
                if run:
                    keep_pairs(run, pairs_from_results(batch), known)
                yield
        finally:
            self.is_at_work = False

    def seconds_left(self) -> float | None:
        """At the pace so far; None before the first answer."""
        done = len(self.results)
        return self.seconds / done * (self.total - done) if done else None

    def listed(self) -> Sequence[PromptResult]:
        return sorted(self.results, key=lambda one: -(one.change or 0.0)) if self.most_changed_first else self.results


def pairs_from_results(results: Iterable[PromptResult]) -> list[AnswerPair]:
    """Of those that both sides have answered."""
    return [
        AnswerPair(prompt=one.prompt, base=one.base, tuned=one.tuned, reference=one.reference)
        for one in results
        if not one.problem
    ]


def answer_all(
    sides: tuple[Side, Side],
    prompts: Sequence[Prompt],
    system: str,
    sampling: Sampling,
    home: Path,
    on_progress: ProgressCallback,
) -> PromptJob:
    """The whole job at once. Raises: ModelError when the sides cannot be loaded."""
    from sft_app.inference.pair import load_pair

    job = PromptJob()
    job.begin(sides, len(prompts))
    run = run_of_side(sides[1].name, list_runs(home))
    batches = answer_prompt_set(load_pair(sides, home), prompts, system, sampling)
    for _ in job.work(batches, run_that_keeps(sides, run)):
        on_progress(len(job.results) / job.total)
    return job


def write_results(job: PromptJob, path: Path) -> None:
    """As CSV or JSONL, by the file's ending. Raises: DataError when it is another, or cannot be written."""
    refuse_other_endings(path)
    text = (as_csv if path.suffix == ".csv" else as_jsonl)(job.results, job.names)
    try:
        path.write_text(text, encoding="utf-8", newline="")
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror or error}.") from error


def refuse_other_endings(path: Path) -> None:
    """Raises: DataError when it is neither .csv nor .jsonl."""
    if path.suffix not in (".csv", ".jsonl"):
        raise DataError(f"{path.name}: answers can be written as .csv or .jsonl, got {path.suffix or 'no ending'!r}.")


def run_that_keeps(sides: tuple[Side, Side], run: Run | None) -> Run | None:
    """`run` if the sides are the base and that run itself, as pairs of a run are; else None."""
    is_pair = run is not None and sides[0].name == BASE and sides[1].folder == run.adapter_dir
    return run if is_pair else None


def file_names(sides: tuple[Side, Side]) -> tuple[str, str]:
    """The columns of the two answers in a file: `base` and `tuned`, or which two were compared."""
    left, right = (side.name for side in sides)
    if (left == BASE) != (right == BASE):
        return ("base", "tuned") if left == BASE else ("tuned", "base")
    return f"left: {left}", f"right: {right}"
