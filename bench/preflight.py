"""Measure how far the preflight's formulas are from what training really takes: peak memory and seconds per step.

    python -m bench.preflight                      the starter, and random weights in the shape of SmolLM2-360M
    python -m bench.preflight --all                sixteen cases instead of six
    python -m bench.preflight --quick              a tiny model, for the tests
    python -m bench.preflight --json results.json  everything that was measured

Each case is measured as by the page's "Measure" button: with the worker's own trainer, two steps in a fresh process, on
conversations of the case's length. Peak memory is that of the whole process (on a GPU, what torch reserved there). The
formula's figure excludes its margin.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.models import make_home, word_tokenizer, write_conversations, write_random_model

GOAL = 0.15


@dataclass(frozen=True)
class Case:
    """A case to measure: `rows` conversations at once, of about `tokens` tokens each."""

    model: str
    method: str
    rows: int
    tokens: int
    checkpointing: bool = False
    trainer: str = "sft"


CASES = (
    Case("starter", "lora", 4, 256),
    Case("starter", "lora", 1, 1024, checkpointing=True),
    Case("starter", "full", 4, 256),
    Case("starter", "full", 4, 256, trainer="classic"),
    Case("starter", "qlora", 1, 256),
    Case("llama-360m", "lora", 1, 256),
)
MORE_CASES = (
    Case("starter", "lora", 1, 256),
    Case("starter", "lora", 1, 1024),
    Case("starter", "lora", 4, 256, checkpointing=True),
    Case("starter", "full", 1, 256),
    Case("starter", "full", 1, 1024, checkpointing=True),
    Case("starter", "qlora", 4, 256),
    Case("starter", "qlora", 1, 1024, checkpointing=True),
    Case("llama-360m", "lora", 4, 256),
    Case("llama-360m", "lora", 1, 1024, checkpointing=True),
    Case("llama-360m", "qlora", 1, 256),
)
QUICK_CASES = (Case("tiny", "lora", 2, 64), Case("tiny", "full", 1, 128, checkpointing=True))


def main() -> None:
    from bench.machine import machine, save_report

    arguments = _parse()
    with tempfile.TemporaryDirectory() as folder:
        home = _home_with_models(Path(folder) / "home", arguments.quick)
        measured = []
        for case in arguments.cases:
            entry = {**asdict(case), **measure(case, home)}
            measured.append(entry)
            description = f"{entry['peak_gib']:.2f} GiB, formula {entry['formula_gib']:.2f}"
            sys.stderr.write(f"{case.model} {case.method} {case.rows} x {case.tokens}: {description}\n")
    worst = max(measured, key=lambda entry: abs(entry["memory_error"]))
    report = {"machine": machine(), "goal": GOAL, "measured": measured, "largest_memory_error": worst["memory_error"]}
    save_report(report, arguments.json)
    show(report)


def measure(case: Case, home: Path) -> dict[str, float]:
    """Measure memory and time, and the formulas' relative errors; above 0, the formula overestimates."""
    from sft_app.data.checkup.lengths import measure_lengths
    from sft_app.data.reading import load_data, open_data
    from sft_app.models.hardware import detect_hardware
    from sft_app.models.loading import load_tokenizer
    from sft_app.settings import parse_settings
    from sft_app.training.estimates.speed import step_seconds
    from sft_app.training.preflight.machine_speed import machine_speed
    from sft_app.training.preflight.measuring import measure_run
    from sft_app.training.preflight.plan import Machine

    data = write_conversations(home / "conversations.jsonl", case.rows + 1, case.tokens)  # one is held out
    settings = parse_settings(
        {
            "data": str(data),
            "model": "starter" if case.model == "starter" else str(home / "models" / case.model),
            "method": case.method,
            "trainer": case.trainer,
            "per_device_train_batch_size": case.rows,
            "gradient_accumulation_steps": 1,
            "gradient_checkpointing": case.checkpointing,
            "max_length": 2048,
            "heldout_min": 1,
            "replay": 0,
        }
    )
    machine = Machine(home)
    file = open_data(settings.reading(), home)
    examples = load_data(file).examples
    lengths = measure_lengths(load_tokenizer(machine.model(settings), home), examples, None, len(examples))
    measured = measure_run(settings, examples, lengths, home)
    estimate = machine.preflight(settings, lengths, data.stat().st_size).memory
    speed, shape = machine_speed(detect_hardware(), settings), machine.shape(machine.model(settings))
    seconds = step_seconds(settings, shape, speed, measured.tokens_per_step, measured.trained_per_step)
    return {
        "peak_gib": measured.peak_gib,
        "formula_gib": estimate.expected,
        "memory_error": estimate.expected / measured.peak_gib - 1,
        "seconds_per_step": measured.seconds_per_step,
        "formula_seconds": seconds,
        "time_error": seconds / measured.seconds_per_step - 1,
        "gigaflops": speed.flops / 1e9,
        "gigabytes_per_second": speed.bytes / 1e9,
        "tokens_per_step": measured.tokens_per_step,
    }


def show(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("model", "method", "batch", "peak memory", "formula", "error", "s/step", "formula", "error")
    for entry in report["measured"]:
        repeats = " twice" if entry["checkpointing"] else ""
        table.add_row(
            entry["model"],
            entry["method"] if entry["trainer"] == "sft" else f"{entry['method']}, {entry['trainer']}",
            f"{entry['rows']} x {entry['tokens']}{repeats}",
            f"{entry['peak_gib']:.2f} GiB",
            f"{entry['formula_gib']:.2f} GiB",
            f"{entry['memory_error']:+.1%}",
            f"{entry['seconds_per_step']:.1f}",
            f"{entry['formula_seconds']:.1f}",
            f"{entry['time_error']:+.0%}",
        )
    console = Console()
    console.print(table)
    console.print(f"largest memory error {report['largest_memory_error']:+.1%} (goal: within {GOAL:.0%})")


def _home_with_models(folder: Path, is_quick: bool) -> Path:
    from transformers import AutoTokenizer

    home = make_home(folder, with_starter=not is_quick)
    if is_quick:
        write_random_model(home / "models" / "tiny", "tiny", word_tokenizer())
    else:
        tokenizer = AutoTokenizer.from_pretrained(home / "models" / "starter")
        write_random_model(home / "models" / "llama-360m", "llama-360m", tokenizer)
    return home


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_const", dest="cases", const=CASES + MORE_CASES, default=CASES)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.cases = QUICK_CASES
    return arguments


if __name__ == "__main__":
    main()
