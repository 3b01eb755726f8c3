"""Measure what it costs to answer with both sides at once, compared with other ways to get the same two answers.

    python -m bench.compare                               the starter model on this machine
    python -m bench.compare --shape llama-8b              random weights in real shapes, for a GPU
    python -m bench.compare --method qlora                a 4-bit base
    python -m bench.compare --quick                       a tiny model, for the tests
    python -m bench.compare --json results.json           everything that was measured

Arms: `base alone` (one answer of the plain base model, the yardstick), `ours` (both sides as rows of one batch), `one
after the other` (one model, its adapter off and then on), `adapter_names` (PEFT's own mixed batch) and `two loaded
models`. Each runs in a fresh process, in an order that is reversed with every repeat, and generates `--tokens` tokens
greedily. In every repeat, `ours` must give the same tokens as each side alone. The second part scores reference answers
with both sides, in one pass and in two, alternating in one process.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.compare_arms import Spec

ARMS = ("base alone", "ours", "one after the other", "adapter_names", "two loaded models")
DECODE_GOALS = {"cpu": 1.4, "cuda": 1.15}
FIRST_TOKEN_GOAL, MEMORY_GOAL, SCORING_GOAL = 1.1, 1.05, 1.6
LOSS_TOLERANCE = {"float32": 1e-3, "bfloat16": 5e-2, "float16": 5e-2}


def main() -> None:
    from bench.machine import machine, save_report

    arguments = _parse()
    with tempfile.TemporaryDirectory() as folder:
        spec = make_spec(Path(folder), arguments)
        expected = _run_in_process("adapter", "", spec)["ids"]
        measured = []
        for repeat in range(arguments.repeats):
            for arm in ARMS if repeat % 2 == 0 else reversed(ARMS):
                measured.append({"repeat": repeat, **_run_in_process("arm", arm, spec)})
                sys.stderr.write(f"repeat {repeat + 1}: {arm}\n")
        scoring = [_run_in_process("scoring", "", spec) for _ in range(arguments.repeats)]
    facts = machine()
    report = {
        "machine": facts,
        "shape": arguments.shape,
        "spec": {"prompt_tokens": len(spec.prompt), "tokens": spec.tokens, "method": spec.method, "dtype": spec.dtype},
        "goals": {
            "decode": DECODE_GOALS[facts["device"]],
            "first_token": FIRST_TOKEN_GOAL,
            "peak": MEMORY_GOAL,
            "scoring": SCORING_GOAL,
        },
        "expected": expected,
        "measured": measured,
        "scoring": scoring,
        "summary": summarise(measured),
        "scoring_summary": summarise_scoring(scoring),
    }
    save_report(report, arguments.json)
    show(report)
    sys.exit(0 if is_valid(report) else "The sides differ from what they answer alone, so the speed is meaningless.")


def make_spec(folder: Path, arguments: argparse.Namespace) -> Spec:
    """Write model and conversations into `folder`. The prompt is the start of all conversations, joined end to end."""
    from bench.compare_arms import Spec
    from bench.train_data import model_and_rows
    from sft_app.inference.device import comparison_dtype
    from sft_app.models.hardware import detect_hardware
    from sft_app.runtime.files import write_jsonl_atomically

    model_dir, rows = model_and_rows(folder, arguments.shape, arguments.conversations)
    write_jsonl_atomically(folder / "rows.jsonl", rows)
    prompt = [id for row in rows for id in row["input_ids"]][: arguments.prompt_tokens]
    return Spec(
        str(model_dir),
        str(folder / "adapter"),
        str(folder / "rows.jsonl"),
        tuple(prompt),
        arguments.tokens,
        arguments.method,
        comparison_dtype(detect_hardware()),
        arguments.shape == "tiny",
    )


def summarise(measured: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return each arm's seconds and, for figures with goals, the ratio to `base alone` in the same repeat: median,
    least and most."""
    summary = []
    for arm in ARMS:
        entries = [entry for entry in measured if entry["arm"] == arm]
        alone = {entry["repeat"]: entry for entry in measured if entry["arm"] == "base alone"}

        def ratios(name: str, entries: Any = entries, alone: Any = alone) -> dict[str, float]:
            return _spread([entry[name] / alone[entry["repeat"]][name] for entry in entries])

        summary.append(
            {
                "arm": arm,
                "decode_seconds": _spread([entry["decode_seconds"] for entry in entries]),
                "decode": ratios("decode_seconds"),
                "whole": ratios("seconds"),
                "first_token_seconds": _spread([entry["first_token_seconds"] for entry in entries]),
                "first_token": ratios("first_token_seconds"),
                "peak_gib": max(entry["peak_gib"] for entry in entries),
                "peak": ratios("peak_gib"),
            }
        )
    return summary


def summarise_scoring(scoring: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the seconds of both methods, and the speedup of one pass over two in the same round."""
    one, two = ([second for entry in scoring for second in entry["seconds"][way]] for way in ("one", "two"))
    faster = [both / alone for alone, both in zip(one, two, strict=True)]
    return {"one_pass_seconds": _spread(one), "two_passes_seconds": _spread(two), "ratio": _spread(faster)}


def is_valid(report: dict[str, Any]) -> bool:
    """Return whether the sides differ, `ours` equals each side alone, and both ways of scoring give the same losses."""
    base, tuned = report["expected"]
    ours = [entry["ids"] for entry in report["measured"] if entry["arm"] == "ours"]
    alone = [entry["ids"] for entry in report["measured"] if entry["arm"] == "base alone"]
    is_float32 = report["spec"]["dtype"] == "float32"
    tolerance = LOSS_TOLERANCE[report["spec"]["dtype"]]
    differences = [
        abs(one - other)
        for entry in report["scoring"]
        for sides in zip(entry["losses"]["one"], entry["losses"]["two"], strict=True)
        for one, other in zip(*sides, strict=True)
    ]
    return (
        base != tuned
        and all(ids == [base, tuned] for ids in ours)
        and (not is_float32 or all(ids == [base] for ids in alone))
        and max(differences) < tolerance
    )


def show(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    spec, goals, scoring = report["spec"], report["goals"], report["scoring_summary"]
    console = Console(markup=False)
    console.print(f"{report['machine']['name']}, {report['shape']}, {spec['method']}, {spec['dtype']}")
    console.print(f"{spec['tokens']} tokens after a prompt of {spec['prompt_tokens']}; × is relative to base alone")
    table = Table("arm", "decode s", "×", "with prompt ×", "first token ×", "peak ×")
    table.columns[0].no_wrap = True
    for entry in report["summary"]:
        table.add_row(
            entry["arm"],
            f"{entry['decode_seconds']['median']:.2f}",
            *(_median_and_range(entry[name], "\n") for name in ("decode", "whole", "first_token", "peak")),
        )
    console.print(table)
    limits = ("decode", "first_token", "peak")
    limits_text = ", ".join(f"{name.replace('_', ' ')} × {goals[name]:g}" for name in limits)
    console.print(f"goals for ours, at most: {limits_text}")
    conversations = report["scoring"][0]["conversations"]
    one, two, ratio = (_median_and_range(scoring[name]) for name in ("one_pass_seconds", "two_passes_seconds", "ratio"))
    console.print(f"scoring {conversations} conversations with both sides, seconds: {one} in one pass, {two} in two")
    console.print(f"one pass is × {ratio} as fast (goal: × {goals['scoring']:g})")


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": median(values), "least": min(values), "most": max(values)}


def _median_and_range(values: dict[str, float], between: str = " ") -> str:
    return f"{values['median']:.2f}{between}({values['least']:.2f} … {values['most']:.2f})"


def _run_in_process(part: str, arm: str, spec: Spec) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.compare", "--child", part, arm, json.dumps(asdict(spec))]
    # for tiny tensors, a second thread only adds overhead
    threads = {"OMP_NUM_THREADS": "1"} if spec.is_tiny else {}
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **threads})
    if done.returncode:
        sys.exit(f"{part} {arm} failed:\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def _child(part: str, arm: str, spec_json: str) -> None:
    from bench.compare_arms import Spec, expected_ids, measure_arm, measure_scoring, save_random_adapter

    spec = Spec(**json.loads(spec_json))
    if part == "adapter":
        save_random_adapter(spec)
        result = {"ids": expected_ids(spec)}
    else:
        result = measure_arm(arm, spec) if part == "arm" else measure_scoring(spec)
    sys.stdout.write("\n" + json.dumps(result) + "\n")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=("starter", "llama-1b", "llama-8b", "tiny"), default="starter")
    parser.add_argument("--method", choices=("lora", "qlora"), default="lora")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--prompt-tokens", type=int, default=64)
    parser.add_argument("--conversations", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.shape, arguments.repeats, arguments.tokens, arguments.conversations = "tiny", 1, 16, 4
    return arguments


if __name__ == "__main__":
    _child(*sys.argv[2:]) if sys.argv[1:2] == ["--child"] else main()
