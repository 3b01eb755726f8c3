"""Where a GPU is lent for a call, the comparison works in another process, to which only plain values go."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sft_app.evaluation.prompt_sets import Prompt, PromptSetTask
from sft_app.inference.generation import Sampling
from sft_app.inference.pair_tasks import AnswerTask, PairTaskRequest
from sft_app.ui.serving.zero_gpu import LONGEST_SECONDS, estimated_seconds, lends_gpu
from tests.made_runs import make_run  # noqa: F401

PROJECT = Path(__file__).resolve().parents[2]
FOLDER = Path(__file__).parent / "zero_gpu"


@pytest.fixture(scope="module")
def told(make_run: Callable[..., SimpleNamespace]) -> tuple[dict[str, Any], SimpleNamespace]:  # noqa: F811
    """What the page did on such a Space, and the run that it was asked about."""
    made = make_run()
    environment = {**os.environ, "SPACES_ZERO_GPU": "true", "PYTHONPATH": f"{FOLDER}:{PROJECT}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(FOLDER / "use_page.py"), str(made.home), made.run.id],
        cwd=PROJECT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1]), made


def test_answers_are_those_of_a_machine_with_its_own(told: tuple[dict[str, Any], SimpleNamespace]) -> None:
    from sft_app.inference.pair import load_pair
    from sft_app.inference.sides import find_sides
    from sft_app.inference.stream import compare_prompt

    found, made = told
    pair = load_pair(find_sides("base", made.run.id, made.home), made.home)
    here = compare_prompt(pair, "My order is late.", "", Sampling(temperature=0.0, seed=7, max_new_tokens=6))
    assert found["answers"] == [here.left.text, here.right.text]
    assert found["many"][0] == found["answers"]
    assert found["evidence"]["identical"] is False
    assert found["updates"] >= 2, "they grow"
    assert "<table" in found["next"] or "ft-" in found["next"]


def test_work_is_done_by_one_other_process_which_keeps_the_models(
    told: tuple[dict[str, Any], SimpleNamespace],
) -> None:
    found, _ = told
    assert len(found["processes"]) == 1 and found["own"] not in found["processes"]
    assert found["models_here"] is False


def test_spaces_comes_before_torch_and_gradio(told: tuple[dict[str, Any], SimpleNamespace]) -> None:
    assert told[0]["loaded_before"] == []


def test_errors_for_the_reader_come_through(told: tuple[dict[str, Any], SimpleNamespace]) -> None:
    empty, too_long, score = told[0]["problems"]
    assert "prompt" in empty.lower() and "worker error" not in empty
    assert "tokens" in too_long
    assert score.startswith("Measuring a run takes longer than ZeroGPU provides a GPU for.")


def test_seconds_are_asked_for_by_what_there_is_to_do() -> None:
    def seconds(task: Any, gib: float) -> int:
        return estimated_seconds(PairTaskRequest(task, None, Path(), gib))  # type: ignore[arg-type]

    short, long = (AnswerTask([], [], Sampling(max_new_tokens=tokens)) for tokens in (32, 256))
    assert 10 < seconds(short, 0.25) < seconds(long, 0.25) < 40
    assert seconds(long, 0.25) < seconds(long, 15) < LONGEST_SECONDS
    prompts = [Prompt("x")] * 20
    assert seconds(PromptSetTask(prompts, "", Sampling(max_new_tokens=256)), 15) == LONGEST_SECONDS


@pytest.mark.parametrize(("text", "lends"), [("true", True), ("1", True), ("", False), ("false", False)])
def test_such_a_space_is_known_by_its_variable(text: str, lends: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPACES_ZERO_GPU", text)
    assert lends_gpu() is lends
