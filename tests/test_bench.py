"""The measurements run, in small sizes; what they measure is read from `bench/results`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch

PROJECT = Path(__file__).resolve().parents[1]


def measure(bench: str, folder: Path, *options: str) -> tuple[dict[str, Any], str]:
    """The report and what was printed of a bench in its small size."""
    report = folder / "report.json"
    command = [sys.executable, "-m", f"bench.{bench}", "--quick", *options, "--json", str(report)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # for a tiny model a second thread only waits
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(report.read_text()), done.stdout


def test_data_bench_measures_every_part_at_every_size(tmp_path: Path) -> None:
    told, printed = measure("data", tmp_path, "--repeats", "1")
    summary = told["summary"]
    assert {(entry["part"], entry["rows"]) for entry in summary} == {
        (part, rows) for part in ("reading", "reading and format", "check-up", "preview") for rows in (500, 2000)
    }
    assert all(entry["rows_per_second"] > 0 and entry["peak_gib"] > 0 for entry in summary)
    assert "check-up" in printed


def test_train_bench_measures_every_arm_and_checks_that_they_agree(tmp_path: Path) -> None:
    told, _ = measure("train", tmp_path)
    arms = {entry["arm"]: entry for entry in told["summary"]}
    assert {"ours", "trl", "trl+bf16+packing", "hf"} <= arms.keys()
    assert all(entry["tokens_per_second"] > 0 and entry["peak_gib"] > 0 for entry in arms.values())
    assert arms["ours"]["ratio"] == 1
    assert told["gradient_cosine"] > 0.999


def test_a_fast_wrong_answer_is_refused() -> None:
    from bench.train import is_valid

    right = [{"arm": "ours", "first_loss": 2.0}, {"arm": "trl", "first_loss": 2.001}]
    wrong = [{"arm": "ours", "first_loss": 2.0}, {"arm": "trl", "first_loss": 2.1}]
    assert is_valid({"summary": right, "gradient_cosine": 0.9999})
    assert not is_valid({"summary": wrong, "gradient_cosine": 0.9999})
    assert not is_valid({"summary": right, "gradient_cosine": 0.99})


def test_compare_bench_measures_every_arm_and_each_gives_the_tokens_of_the_sides(tmp_path: Path) -> None:
    told, printed = measure("compare", tmp_path)
    base, tuned = told["expected"]
    assert len(base) == len(tuned) == 16 and base != tuned
    ids = {entry["arm"]: entry["ids"] for entry in told["measured"]}
    assert ids.pop("base alone") == [base]
    assert len(ids) == 4 and all(sides == [base, tuned] for sides in ids.values())
    arms = {entry["arm"]: entry for entry in told["summary"]}
    assert arms["base alone"]["decode"]["median"] == 1
    assert arms["one after the other"]["first_token"]["median"] > 1
    assert all(entry["decode_seconds"]["median"] > 0 and entry["peak_gib"] > 0 for entry in arms.values())
    assert told["scoring"][0]["conversations"] == 4 and told["scoring_summary"]["ratio"]["median"] > 0
    assert "two loaded models" in printed and "goals for ours, at most: decode × 1." in printed


def test_fast_comparison_with_wrong_tokens_or_losses_is_refused() -> None:
    from bench.compare import is_valid

    def report(ours: list[list[int]], alone: list[int], loss: float, dtype: str = "float32") -> dict[str, Any]:
        measured = [{"arm": "ours", "ids": ours}, {"arm": "base alone", "ids": [alone]}]
        scoring = [{"losses": {"one": [[2.0], [loss]], "two": [[2.0], [1.5]]}}]
        return {"spec": {"dtype": dtype}, "expected": [[5, 6], [5, 7]], "measured": measured, "scoring": scoring}

    assert is_valid(report([[5, 6], [5, 7]], [5, 6], 1.5))
    assert not is_valid(report([[5, 6], [5, 6]], [5, 6], 1.5))
    assert not is_valid(report([[5, 6], [5, 7]], [5, 8], 1.5))
    assert is_valid(report([[5, 6], [5, 7]], [5, 8], 1.5, "bfloat16"))
    assert not is_valid(report([[5, 6], [5, 7]], [5, 6], 1.6))
    same = report([[5, 6], [5, 6]], [5, 6], 1.5) | {"expected": [[5, 6], [5, 6]]}
    assert not is_valid(same), "an adapter without effect proves nothing"


@pytest.mark.starter
def test_recipe_bench_runs_a_cell_once_and_shows_it(tiny_model_dir: Path, tmp_path: Path) -> None:
    cells = tmp_path / "cells.jsonl"
    options = ("--data", "labelling", "--arms", "good", "--model", str(tiny_model_dir), "--out", str(cells))
    plot = tmp_path / "plot.svg"
    for _ in range(2):
        command = [sys.executable, "-m", "bench.recipe", *options, "--plot", str(plot)]
        done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        (cell,) = [json.loads(line) for line in cells.read_text().splitlines()]
        assert "good" in done.stdout and f"{cell['loss']['tuned']:.3f}" in done.stdout
    assert (cell["heldout"], cell["conversations_per_step"]) == (30, 4)
    assert cell["loss"]["tuned"] < cell["loss"]["base"] and cell["strength"]["tried"]
    drawn = ElementTree.parse(plot).getroot()
    (point,) = drawn.iter("{http://www.w3.org/2000/svg}circle")
    assert 0 < float(point.get("cx", "")) < 460 and 0 < float(point.get("cy", "")) < 340
    said = "".join(text.text or "" for text in drawn.iter("{http://www.w3.org/2000/svg}text"))
    assert f"good ({cell['loss']['change']:+.2f}, {cell['general']['change']:+.2f})" in said
    assert {"steps", "training_seconds", "general", "known", "answers", "curve"} <= cell.keys()


def test_page_bench_trains_with_the_page_open_and_closed(
    tmp_path: Path, starter_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SFT_APP_HOME", str(starter_home))
    told, _ = measure("page", tmp_path)
    assert [window["is_open"] for window in told["windows"]] == [False, True, True, False]
    assert all(window["steps"] > 0 for window in told["windows"])
    assert told["summary"]["ratio_least"] <= told["summary"]["ratio"] <= told["summary"]["ratio_most"]


def test_gpu_check_runs_on_a_cpu_but_for_what_only_a_gpu_can_tell(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench.gpu", "--tiny", "--json", str(tmp_path / "report.json")]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:] + done.stdout
    parts = [json.loads(line) for line in done.stdout.splitlines()]
    assert parts == json.loads((tmp_path / "report.json").read_text())["parts"]
    skipped = [part["part"] for part in parts if "skipped" in part]
    expected = ["float16, as on a T4", "head dimensions of the kernel", "out of memory and recovery"]
    assert skipped == (expected if not torch.cuda.is_available() else [])
    (learned,) = (part for part in parts if part["part"] == "a default run ends and learns")
    assert learned["losses"][1] < learned["losses"][0]


@pytest.mark.usefixtures("plain_processes")  # the one measurement that starts as it does outside the tests
def test_gpu_check_says_that_there_is_no_gpu() -> None:
    done = subprocess.run([sys.executable, "-m", "bench.gpu"], cwd=PROJECT, capture_output=True, text=True)
    assert (done.returncode != 0) == ("Add --tiny to try the script on a CPU" in done.stderr)


def test_gpu_check_fails_when_a_part_does(tmp_path: Path) -> None:
    from bench.gpu_parts import Check

    check = Check(tmp_path, tiny=True)
    check.part("right", lambda: {"passed": True})
    check.part("raises", lambda: {"passed": 1 / 0})
    assert [result["passed"] for result in check.results] == [True, False]
    assert check.results[1]["error"] == "ZeroDivisionError: division by zero"
