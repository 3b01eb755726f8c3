"""A prompt set at work: stopped, kept as it comes, and named by what was compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sft_app.evaluation.answer_pairs import AnswerPair, read_pairs
from sft_app.evaluation.prompt_job import PromptJob, file_names, run_to_keep_pairs_in
from sft_app.evaluation.prompt_sets import PromptResult
from sft_app.inference.sides import Side
from sft_app.models.catalog import ModelRef
from sft_app.runs.folder import Run

MODEL = ModelRef("m", "m", None, source="local")


def side(name: str, folder: Path | None = None) -> Side:
    return Side(name, f"the {name}", MODEL, folder)


def result(number: int, problem: str = "", change: float = 0.5) -> PromptResult:
    return PromptResult(number, f"Q{number}", "", f"a{number}", f"b{number}", change, problem)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    (tmp_path / "r1").mkdir()
    return Run(tmp_path / "r1")


def begun(total: int = 4) -> PromptJob:
    job = PromptJob()
    job.begin((side("base"), side("r1")), total)
    return job


def test_each_batch_is_on_the_disk_before_the_next(run: Run) -> None:
    job = begun()
    work = job.work(iter([[result(1), result(2, problem="too long")], [result(3)]]), run)
    next(work)
    assert read_pairs(run) == [AnswerPair(prompt="Q1", base="a1", tuned="b1")] and job.is_at_work
    next(work)
    assert [pair.prompt for pair in read_pairs(run)] == ["Q1", "Q3"]
    assert list(work) == [] and not job.is_at_work


def test_a_stop_ends_it_after_the_batch_at_work() -> None:
    job, taken = begun(), []

    def batches() -> Any:
        for number in (1, 2):
            taken.append(number)
            yield [result(number)]

    for _ in job.work(batches(), None):
        job.is_stopping = True
    assert taken == [1] and [one.number for one in job.results] == [1] and not job.is_kept
    job.begin((side("base"), side("r1")), 1)
    assert (job.results, job.is_stopping) == ([], False)


def test_what_is_left_is_a_guess_from_the_pace() -> None:
    job = begun(total=4)
    assert job.seconds_left() is None
    job.results, job.seconds = [result(1)], 2.0
    assert job.seconds_left() == 6.0


def test_most_changed_come_first_on_demand() -> None:
    job = begun()
    job.results = [result(1, change=0.1), result(2, change=0.9)]
    assert job.listed() == job.results
    job.most_changed_first = True
    assert [one.number for one in job.listed()] == [2, 1]


def test_only_base_and_the_run_itself_are_pairs_of_the_run(run: Run) -> None:
    itself, checkpoint = side("r1", run.adapter_dir), side("r1/checkpoint-2", run.checkpoints_dir / "checkpoint-2")
    assert run_to_keep_pairs_in((side("base"), itself), run) == run
    assert run_to_keep_pairs_in((side("base"), checkpoint), run) is None
    assert run_to_keep_pairs_in((itself, side("base")), run) is None
    assert run_to_keep_pairs_in((side("base"), side("some/adapter")), None) is None


@pytest.mark.parametrize(
    ("left", "right", "names"),
    [
        ("base", "r1", ("base", "tuned")),
        ("r1", "base", ("tuned", "base")),
        ("r1", "r1", ("left: r1", "right: r1")),
        ("r1", "r2", ("left: r1", "right: r2")),
    ],
)
def test_files_say_what_was_compared(left: str, right: str, names: tuple[str, str]) -> None:
    assert file_names((side(left), side(right))) == names
