"""Work through a prompt set, and keep each batch of answers with the run. Imports no torch."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sft_app.errors import DataError
from sft_app.evaluation.answer_pairs import AnswerPair, add_pairs, read_pair_ids
from sft_app.evaluation.prompt_sets import Prompt, PromptResult, answer_prompt_set, as_csv, as_jsonl
from sft_app.evaluation.sides.more_sides import MoreSide, labels_of, side_notes
from sft_app.inference.sides import BASE, Side, run_of_side
from sft_app.runs.directory import list_runs
from sft_app.runs.folder import Run
from sft_app.runtime.progress import ProgressCallback

if TYPE_CHECKING:
    from sft_app.inference.generation import Sampling


@dataclass
class PromptJob:
    """A prompt set and the answers so far.

    `labels` name the sides on the page, `names` in files, the two of the pair first; `run` is the name of the right
    side. `notes` say what is unusual about a side. Once `is_stopping` is set, no further batch begins.
    """

    total: int = 0
    run: str = ""
    labels: tuple[str, ...] = ("Base model", "Fine-tuned")
    names: tuple[str, ...] = ("base", "tuned")
    notes: list[str] = field(default_factory=list)
    results: list[PromptResult] = field(default_factory=list)
    seconds: float = 0.0
    is_kept: bool = False
    is_at_work: bool = False
    is_stopping: bool = False
    most_changed_first: bool = False

    def begin(self, sides: tuple[Side, Side], total: int, more: Sequence[MoreSide] = ()) -> None:
        self.total, self.results, self.seconds, self.run = total, [], 0.0, sides[1].name
        self.labels = labels_of(sides, more)
        self.names = (*file_names(sides), *(side.name for side in more))
        self.notes = side_notes(sides, more)
        self.is_kept, self.is_stopping = False, False

    def work(self, batches: Iterator[list[PromptResult]], run: Run | None) -> Generator[None]:
        """Take the batches one by one, until the last one or a stop, and keep each with `run` before the next."""
        started, known = time.monotonic(), read_pair_ids(run) if run else set()
        self.is_at_work, self.is_kept = True, run is not None
        try:
            while not self.is_stopping and (batch := next(batches, None)) is not None:
                self.results += batch
                self.seconds = time.monotonic() - started
                if run:
                    add_pairs(run, pairs_from_results(batch), known)
                yield
        finally:
            self.is_at_work = False

    def seconds_left(self) -> float | None:
        """Estimate the remaining seconds from the pace so far; None before the first answer."""
        done = len(self.results)
        return self.seconds / done * (self.total - done) if done else None

    def listed(self) -> Sequence[PromptResult]:
        return sorted(self.results, key=lambda one: -(one.change or 0.0)) if self.most_changed_first else self.results


def pairs_from_results(results: Iterable[PromptResult]) -> list[AnswerPair]:
    """Return the pairs of the prompts that both sides have answered."""
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
    more: Sequence[MoreSide] = (),
) -> PromptJob:
    """Answer all prompts and return the finished job. Raises: ModelError if the sides cannot be loaded."""
    from sft_app.inference.pair import load_pair

    job = PromptJob()
    job.begin(sides, len(prompts), more)
    run = run_of_side(sides[1].name, list_runs(home))
    batches = answer_prompt_set(load_pair(sides, home), prompts, system, sampling, more)
    for _ in job.work(batches, run_to_keep_pairs_in(sides, run)):
        on_progress(len(job.results) / job.total)
    return job


def write_results(job: PromptJob, path: Path) -> None:
    """Write the results as CSV or JSONL. Raises: DataError if the ending is neither or the file cannot be written."""
    check_answers_ending(path)
    text = (as_csv if path.suffix == ".csv" else as_jsonl)(job.results, job.names)
    try:
        path.write_text(text, encoding="utf-8", newline="")
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror or error}.") from error


def check_answers_ending(path: Path) -> None:
    """Check that answers can be written to this file. Raises: DataError if its ending is neither .csv nor .jsonl."""
    if path.suffix not in (".csv", ".jsonl"):
        raise DataError(f"{path.name}: answers can be written as .csv or .jsonl, got {path.suffix or 'no ending'!r}.")


def run_to_keep_pairs_in(sides: tuple[Side, Side], run: Run | None) -> Run | None:
    """Return `run` if it is compared with its base, so that the answers are pairs of this run; else None."""
    is_pair = run is not None and sides[0].name == BASE and sides[1].folder == run.adapter_dir
    return run if is_pair else None


def file_names(sides: tuple[Side, Side]) -> tuple[str, str]:
    """Return the column names of the two answers: `base` and `tuned`, or the names of the two sides."""
    left, right = (side.name for side in sides)
    if (left == BASE) != (right == BASE):
        return ("base", "tuned") if left == BASE else ("tuned", "base")
    return f"left: {left}", f"right: {right}"
