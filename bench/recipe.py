"""Compare recipes: what each learns of a data set, what it forgets, and how long it takes.

    python -m bench.recipe --out results.jsonl                     all data sets and arms, one seed; hours on a CPU
    python -m bench.recipe --out results.jsonl --data example --arms good trl --seeds 1 2
    python -m bench.recipe --out results.jsonl --show --plot results.svg     only tables and plot of what is there

Each cell is a run of the app with the arm's settings: the same rows are held out in every arm of a data set and seed.
Measured with the run's own scorecard: loss on the judging rows, the model's own answers, general questions, and what
of them was known before and is lost now. A cell that is in the file already is not measured again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.models import make_home
from bench.recipe_arms import ARMS
from bench.recipe_data import EXAMPLE, DataSet, write_data_sets
from sft_app.runs.folder import Run

TESTS = EXAMPLE.with_name("customer_service_tests.yaml")
MEASURED = {
    "scorecard_prompts": 8,
    "scorecard_prompted": 0,
    "general_prompts": 40,
    "general_answers": 0,
    "watch_prompts": [],
}


def main() -> None:
    from bench.recipe_plot import draw
    from bench.recipe_report import show

    arguments = _parse()
    if not arguments.show:
        with tempfile.TemporaryDirectory() as folder:
            home = make_home(Path(folder) / "home", with_starter=True)
            data = write_data_sets(Path(folder))
            for cell in _missing(arguments, list(data)):
                measured = measure(cell, data[cell["data"]], home, arguments.model)
                with arguments.out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(measured) + "\n")
                sys.stderr.write(f"{cell['data']} {cell['arm']} {cell['seed']}: {measured['loss']['tuned']:.3f}\n")
    show(read_cells(arguments.out))
    if arguments.plot:
        draw(read_cells(arguments.out), arguments.plot)


def measure(cell: dict[str, Any], data: DataSet, home: Path, model: str = "starter") -> dict[str, Any]:
    """Train one cell and return it with what was measured. Raises: RuntimeError with the run's message if it failed."""
    files = {"data": str(data.train), "heldout_data": str(data.judging)}
    settings = {**MEASURED, **ARMS[cell["arm"]], **files, "model": model, "seed": cell["seed"]}
    if data.train.stem.startswith("example"):
        settings["tests"] = str(TESTS)
    config = home / "config.json"
    config.write_text(json.dumps(settings), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "sft_app", "train", "--config", str(config), "--json"],
        env={**os.environ, "SFT_APP_HOME": str(home)},
        stdout=subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"{cell}: {done.stdout}")
    return {**cell, **measured_of(Run(home / "runs" / json.loads(done.stdout)["run"]))}


def measured_of(run: Run) -> dict[str, Any]:
    """Return what the bench keeps of a finished run."""
    card, status, metrics, strength = run.scorecard(), run.status(), run.metrics(), run.strength()
    assert card is not None
    settings = run.record().settings
    curve = [(row.step, row.heldout_loss) for row in metrics if row.heldout_loss is not None]
    answers, general, known, tests = card.answers, card.general, card.known, card.tests
    return {
        "rate": settings.resolved_learning_rate(),
        "conversations_per_step": settings.rows_per_step(),
        "steps": status.step,
        "kept_step": status.kept_step,
        "training_seconds": max((row.elapsed_seconds or 0.0 for row in metrics), default=0.0),
        "seconds": status.worked_seconds,
        "heldout": card.heldout.conversations,
        "loss": {"base": card.base["loss"], "tuned": card.tuned["loss"], **_interval(card.difference["loss"])},
        "curve": curve,
        "answers": answers
        and {
            "base": answers.base,
            "tuned": answers.tuned,
            "difference": {name: _interval(change) for name, change in answers.difference.items()},
        },
        "general": general
        and {
            "base": general.base["loss"],
            "tuned": general.tuned["loss"],
            **_interval(general.difference["loss"]),
        },
        "known": known and known.by_loss and known.by_loss.as_record(),
        "tests": tests and {"passed": [tests.passed(0), tests.passed(1)], "total": len(tests.tests)},
        "strength": strength and strength.as_record(),
    }


def read_cells(path: Path) -> list[dict[str, Any]]:
    """Read what has been measured so far; empty without a file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []


def _interval(change: Any) -> dict[str, float | None]:
    return {"change": change.value, "low": change.low, "high": change.high}


def _missing(arguments: argparse.Namespace, data: list[str]) -> Iterator[dict[str, Any]]:
    done = {(cell["data"], cell["arm"], cell["seed"]) for cell in read_cells(arguments.out)}
    for seed in arguments.seeds:
        for name in arguments.data or data:
            for arm in arguments.arms or ARMS:
                if (name, arm, seed) not in done:
                    yield {"data": name, "arm": arm, "seed": seed}


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="JSON lines; what is in it is not measured again")
    parser.add_argument("--data", nargs="*", help="names of data sets")
    parser.add_argument("--arms", nargs="*", choices=list(ARMS))
    parser.add_argument("--seeds", nargs="*", type=int, default=[1])
    parser.add_argument("--model", default="starter")
    parser.add_argument("--show", action="store_true")
    parser.add_argument("--plot", type=Path, help="an SVG of gain against loss elsewhere")
    return parser.parse_args()


if __name__ == "__main__":
    main()
