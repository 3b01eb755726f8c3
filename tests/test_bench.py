"""The measurements run, in small sizes; what they measure is read from `bench/results`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]


def measure(bench: str, folder: Path, *options: str) -> tuple[dict[str, Any], str]:
    """The report and what was printed of a bench in its small size."""
    report = folder / "report.json"
    command = [sys.executable, "-m", f"bench.{bench}", "--quick", *options, "--json", str(report)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
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
    from bench.train import is_right

    right = [{"arm": "ours", "first_loss": 2.0}, {"arm": "trl", "first_loss": 2.001}]
    wrong = [{"arm": "ours", "first_loss": 2.0}, {"arm": "trl", "first_loss": 2.1}]
    assert is_right({"summary": right, "gradient_cosine": 0.9999})
    assert not is_right({"summary": wrong, "gradient_cosine": 0.9999})
    assert not is_right({"summary": right, "gradient_cosine": 0.99})


def test_page_bench_trains_with_the_page_open_and_closed(tmp_path: Path) -> None:
    told, _ = measure("page", tmp_path)
    assert [window["is_open"] for window in told["windows"]] == [False, True, True, False]
    assert all(window["steps"] > 0 for window in told["windows"])
    assert told["summary"]["ratio_least"] <= told["summary"]["ratio"] <= told["summary"]["ratio_most"]
