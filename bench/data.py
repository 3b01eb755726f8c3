"""Measure speed and memory of `inspect`: time should grow linearly with the rows, and memory hardly at all.

    python -m bench.data                      10,000, 100,000 and 1,000,000 rows of about 1 kB
    python -m bench.data --quick              small sizes, for the tests
    python -m bench.data --json results.json  everything that was measured

Four parts are timed, each in a fresh process: reading (bytes to rows); reading and format (to conversations); the whole
check-up (with findings and the split); and the preview of at most 20,000 conversations that the page opens with. Token
lengths are left out, because they come from a sample of fixed size. Sizes alternate, so that a slow minute of a shared
machine does not affect only one of them.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROWS = (10_000, 100_000, 1_000_000)
QUICK_ROWS = (500, 2_000)
PARTS = ("reading", "reading and format", "check-up", "preview")
WORDS = 4000


def main() -> None:
    from bench.machine import machine, save_report

    arguments = _parse()
    rows = QUICK_ROWS if arguments.quick else tuple(arguments.rows)
    with tempfile.TemporaryDirectory() as folder:
        files = {count: write_rows(Path(folder) / f"{count}.jsonl", count) for count in rows}
        measured = [
            {"part": part, "rows": count, "repeat": repeat, **measure_in_process(part, files[count])}
            for repeat in range(arguments.repeats)
            for count in rows
            for part in PARTS
        ]
    report = {"machine": machine(), "measured": measured, "summary": summarise(measured)}
    save_report(report, arguments.json)
    show(report)


def write_rows(path: Path, count: int) -> Path:
    """Write support conversations of random words, about 1 kB each; one in fifty is a copy or a near copy."""
    dice = random.Random(0)
    words = ["".join(dice.choices("abcdefghilmnoprstuvw", k=dice.randint(2, 9))) for _ in range(WORDS)]
    recent: list[list[str]] = []
    with path.open("w", encoding="utf-8") as file:
        for _ in range(count):
            if recent and dice.random() < 0.02:
                answer = list(dice.choice(recent))
                answer[dice.randrange(len(answer))] = dice.choice(words)
            else:
                answer = dice.choices(words, k=dice.randint(90, 170))
                recent = [*recent[-50:], answer]
            question = " ".join(dice.choices(words, k=dice.randint(8, 30)))
            messages = [{"role": "user", "content": question}, {"role": "assistant", "content": " ".join(answer) + "."}]
            file.write(json.dumps({"messages": messages}) + "\n")
    return path


def measure_in_process(part: str, path: Path) -> dict[str, float]:
    """Run one part in a fresh process."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.data", "--measure", part, str(path)], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def measure(part: str, path: Path) -> dict[str, float]:
    """Measure one part in this process: seconds, rows per second, and peak memory in GiB."""
    from sft_app.data.checkup.inspection import inspect_data
    from sft_app.data.reading import PREVIEWED, Reading, load_data, open_data
    from sft_app.data.sources.data_files import read_rows
    from sft_app.runtime.resources import peak_resident_gib
    from sft_app.settings import RunSettings

    settings = RunSettings(data=str(path))
    start = time.perf_counter()
    if part == "reading":
        done = sum(1 for _ in read_rows(path))
    elif part == "reading and format":
        done = sum(1 for _ in Reading(open_data(settings.reading(), path.parent)))
    elif part == "preview":
        done = len(load_data(open_data(settings.reading(), path.parent), PREVIEWED).examples)
    else:
        done = inspect_data(open_data(settings.reading(), path.parent), settings, None).conversations
    seconds = time.perf_counter() - start
    return {
        "seconds": seconds,
        "rows_per_second": done / seconds,
        "peak_gib": peak_resident_gib(),
        "megabytes": path.stat().st_size / 1e6,
    }


def summarise(measured: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the median, least and most rows per second of each part and size; `growth` is the time per row relative to
    the smallest size."""
    summary: list[dict[str, Any]] = []
    for part in PARTS:
        smallest = None
        for rows in sorted({entry["rows"] for entry in measured}):
            entries = [entry for entry in measured if (entry["part"], entry["rows"]) == (part, rows)]
            speeds = sorted(entry["rows_per_second"] for entry in entries)
            median = speeds[len(speeds) // 2]
            seconds = sorted(entry["seconds"] for entry in entries)[len(entries) // 2]
            smallest = smallest or median
            summary.append(
                {
                    "part": part,
                    "rows": rows,
                    "megabytes": entries[0]["megabytes"],
                    "seconds": seconds,
                    "rows_per_second": median,
                    "least": speeds[0],
                    "most": speeds[-1],
                    "growth": smallest / median,
                    "peak_gib": max(entry["peak_gib"] for entry in entries),
                }
            )
    return summary


def show(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("part", "rows", "MB", "seconds", "rows/s", "least … most", "time per row", "peak memory")
    for entry in report["summary"]:
        table.add_row(
            entry["part"],
            f"{entry['rows']:,}",
            f"{entry['megabytes']:,.0f}",
            f"{entry['seconds']:,.1f}",
            f"{entry['rows_per_second']:,.0f}",
            f"{entry['least']:,.0f} … {entry['most']:,.0f}",
            f"× {entry['growth']:.2f}",
            f"{entry['peak_gib']:.2f} GiB",
        )
    Console().print(table)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        sys.stdout.write(json.dumps(measure(sys.argv[2], Path(sys.argv[3]))))
    else:
        main()
