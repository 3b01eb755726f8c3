from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sft_app.evaluation.answer_pairs import AnswerPair, add_pairs
from sft_app.runs.folder import Run
from tests.judge_stand_in import Played, judging

PAIRS = [AnswerPair(prompt=f"Q{number}", base=f"plain {number}", tuned=f"warm {number}") for number in range(20)]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    (tmp_path / "r1").mkdir()
    run = Run(tmp_path / "r1")
    add_pairs(run, [*PAIRS, AnswerPair(prompt="Q", base="same", tuned="same")])
    return run


@pytest.fixture
def played() -> Iterator[Played]:
    with judging(Played()) as played:
        yield played
