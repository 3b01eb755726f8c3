"""Measure how fast the app trains, compared with the usual libraries on the same data in the same run.

    python -m bench.train                               the starter model on this machine, LoRA
    python -m bench.train --shape llama-8b --method qlora     random weights in real shapes, for a GPU
    python -m bench.train --quick                       a tiny model, for the tests
    python -m bench.train --json results.json           everything that was measured

Arms: `ours` (the app's trainer), `trl` (`SFTTrainer` with its defaults), `trl+bf16`, `trl+bf16+packing`, `hf` (plain
`Trainer`, padded batches). Each runs in a fresh process, in an order that is reversed with every repeat. All use the
same conversations in each optimizer step (TRL's packing: as many steps over the same conversations) and the same
adapter, learning rate and seed. Tokens are counted from the data, without padding. One evaluator measures the held-out
loss before and after. On a machine that is slow in bfloat16, the `bf16` arms run in float32 and say so, which favours
them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.train_arms import Spec

ARMS = ("ours", "trl", "trl+bf16", "trl+bf16+packing", "hf")
GOALS = {"trl": 4.0, "trl+bf16": 2.5, "trl+bf16+packing": 1.5}
WARM_UP = 1
LOSS_TOLERANCE, COSINE_GOAL = 1e-2, 0.999


def main() -> None:
    from bench.machine import machine, matrix_teraflops, save_report
    from bench.train_data import make_spec

    arguments = _parse()
    with tempfile.TemporaryDirectory() as folder:
        spec = make_spec(Path(folder), arguments)
        facts = {**machine(), "matrix_teraflops": matrix_teraflops(spec.dtype)}
        arms = _arms(arguments.arms, facts["dtype"])
        measured = []
        for repeat in range(arguments.repeats):
            for arm in arms if repeat % 2 == 0 else reversed(arms):
                measured.append({"repeat": repeat, **_run_in_process("arm", arm, spec)})
                sys.stderr.write(f"repeat {repeat + 1}: {arm}\n")
        cosine = _run_in_process("cosine", "ours", spec)["cosine"]
        counted = count_tokens(spec)
    report = {
        "machine": facts,
        "shape": arguments.shape,
        "spec": {name: value for name, value in asdict(spec).items() if not name.endswith("_dir")},
        "data": counted,
        "measured": measured,
        "gradient_cosine": cosine,
        "summary": summarise(measured, counted, facts),
    }
    save_report(report, arguments.json)
    show(report)
    sys.exit(0 if is_valid(report) else "The arms do not compute the same thing, so their speed is meaningless.")


def count_tokens(spec: Spec) -> dict[str, Any]:
    """Count the tokens of all timed steps, and the floating-point operations per token."""
    from bench.train_arms import load_rows
    from bench.train_data import flops_per_token

    rows = load_rows(Path(spec.data_dir) / "train.jsonl")
    lengths = [len(row.input_ids) for row in rows]
    return {
        "conversations": len(rows),
        "tokens": sum(lengths),
        "trained_tokens": sum(row.trained for row in rows),
        "longest": max(lengths),
        "flops_per_token": flops_per_token(spec),
    }


def summarise(measured: list[dict[str, Any]], counted: dict[str, Any], facts: dict[str, Any]) -> list[dict[str, Any]]:
    """Return each arm's useful tokens/s (median, least, most over the repeats), and the speedup of `ours` in the same
    repeat. `of_ceiling` is the achieved arithmetic relative to this machine's matrix products."""
    speeds = {arm: [_speed(entry) for entry in measured if entry["arm"] == arm] for arm in _names(measured)}
    summary = []
    for arm, values in speeds.items():
        entries = [entry for entry in measured if entry["arm"] == arm]
        ratios = [ours / other for ours, other in zip(speeds["ours"], values, strict=True)]
        summary.append(
            {
                "arm": arm,
                "tokens_per_second": median(values),
                "least": min(values),
                "most": max(values),
                "ratio": median(ratios),
                "ratio_least": min(ratios),
                "ratio_most": max(ratios),
                "goal": GOALS.get(arm),
                "of_ceiling": median(values) * counted["flops_per_token"] / 1e12 / facts["matrix_teraflops"],
                "peak_gib": max(entry["peak_gib"] for entry in entries),
                "first_step_done": median(entry["first_step_done"] for entry in entries),
                "first_loss": median(entry["losses"][0] for entry in entries),
                "loss_before": median(entry["loss_before"] for entry in entries),
                "loss_after": median(entry["loss_after"] for entry in entries),
                "loss_spread": max(e["loss_after"] for e in entries) - min(e["loss_after"] for e in entries),
            }
        )
    return summary


def is_valid(report: dict[str, Any]) -> bool:
    """Return whether arms with equal steps have the same first loss, and packing gives the same gradients."""
    losses = [entry["first_loss"] for entry in report["summary"] if not entry["arm"].endswith("packing")]
    return max(losses) - min(losses) < LOSS_TOLERANCE and report["gradient_cosine"] > COSINE_GOAL


def show(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    facts, counted = report["machine"], report["data"]
    console = Console(markup=False)
    console.print(f"{facts['name']}, {facts['dtype']} ({facts['why']}), {facts['matrix_teraflops']:.3g} TFLOP/s")
    useful = (
        f"{counted['tokens']:,} tokens of {counted['conversations']} conversations, the longest {counted['longest']}"
    )
    console.print(f"{report['spec']['method']}, {useful}")
    table = Table(
        "arm", "useful tokens/s", "ours is", "goal", "of ceiling", "peak memory", "first step", "held-out loss"
    )
    for entry in report["summary"]:
        table.add_row(
            entry["arm"],
            f"{entry['tokens_per_second']:,.0f}\n{entry['least']:,.0f} … {entry['most']:,.0f}",
            f"× {entry['ratio']:.2f}\n{entry['ratio_least']:.2f} … {entry['ratio_most']:.2f}",
            f"× {entry['goal']:g}" if entry["goal"] else "",
            f"{entry['of_ceiling']:.0%}",
            f"{entry['peak_gib']:.1f} GiB",
            f"{entry['first_step_done']:.0f} s",
            f"{entry['loss_before']:.4f} →\n{entry['loss_after']:.4f}",
        )
    console.print(table)
    console.print(f"gradients, packed against one by one: cosine {report['gradient_cosine']:.6f}")


def _speed(entry: dict[str, Any]) -> float:
    """Return the useful tokens per second over the steps after the warm-up."""
    return sum(entry["tokens"][WARM_UP:]) / sum(entry["seconds"][WARM_UP:])


def _names(measured: list[dict[str, Any]]) -> list[str]:
    return [arm for arm in ARMS if any(entry["arm"] == arm for entry in measured)]


def _arms(requested: list[str], dtype: str) -> list[str]:
    """Drop `trl+bf16` on a machine without fast bfloat16, where it would equal `trl`."""
    return [arm for arm in requested if dtype == "bfloat16" or arm != "trl+bf16"]


def _run_in_process(part: str, arm: str, spec: Spec) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.train", "--child", part, arm, json.dumps(asdict(spec))]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{arm} failed:\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def _child(part: str, arm: str, spec_json: str) -> None:
    from bench.train_arms import Spec, gradient_cosine, measure_arm

    spec = Spec(**json.loads(spec_json))
    result = measure_arm(arm, spec) if part == "arm" else {"cosine": gradient_cosine(spec)}
    sys.stdout.write("\n" + json.dumps(result) + "\n")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=("starter", "llama-1b", "llama-8b", "tiny"), default="starter")
    parser.add_argument("--method", choices=("lora", "qlora"), default="lora")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--examples-per-step", type=int, default=8)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.shape, arguments.repeats, arguments.steps = "tiny", 1, 2
    return arguments


if __name__ == "__main__":
    _child(*sys.argv[2:]) if sys.argv[1:2] == ["--child"] else main()
