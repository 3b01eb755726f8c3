"""Measure what an open page costs the run it shows: useful tokens/s of training with and without it.

    python -m bench.page                       a run of the starter, Chromium on the same machine
    python -m bench.page --quick               a tiny model, for the tests
    python -m bench.page --json results.json   everything that was measured

One run trains throughout, with one conversation per step. Meanwhile the page is closed, open, open and closed in turn,
so that a machine that gets slower or faster does so for both. Each window of time starts when the page has settled and
ends before it is closed, so that the one-time cost of opening it is not included.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from bench.browser import LAUNCH, Server
from bench.models import make_home, word_tokenizer, write_conversations, write_random_model
from sft_app.runs.folder import Run
from sft_app.runs.records import StepMetrics
from sft_app.settings import RunSettings, parse_settings

IS_OPEN = (False, True, True, False)


def main() -> None:
    from bench.machine import machine, save_report

    arguments = _parse()
    with tempfile.TemporaryDirectory() as folder:
        home = make_home(Path(folder) / "home", with_starter=True)  # the page shows it
        settings = _settings(home, arguments.quick)
        with _page(home) as url, _training(home, settings) as run:
            windows = measure(run, url, arguments)
    report = {"machine": machine(), "windows": windows, "summary": summarise(windows)}
    save_report(report, arguments.json)
    show(report)


def measure(run: Run, url: str, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure the tokens/s of each window, in order."""
    from playwright.sync_api import sync_playwright

    windows: list[dict[str, Any]] = []
    with sync_playwright() as playwright:
        for is_open in IS_OPEN * arguments.rounds:
            browser = _open(playwright, url) if is_open else None
            time.sleep(arguments.settling)
            begun = len(run.metrics())
            time.sleep(arguments.seconds)
            steps = run.metrics()[begun - 1 :]
            windows.append({"is_open": is_open, "steps": len(steps) - 1, "tokens_per_second": _speed(steps)})
            sys.stderr.write(f"{'open' if is_open else 'closed'}: {windows[-1]['tokens_per_second']:.0f} tokens/s\n")
            if browser is not None:
                browser.close()
    return windows


def summarise(windows: list[dict[str, Any]]) -> dict[str, Any]:
    """Summarise the windows: `ratio` is open over closed for adjacent windows; `noise` is each closed window over the
    one before, which differ only in time."""
    by_state = {state: [w["tokens_per_second"] for w in windows if w["is_open"] is state] for state in (False, True)}
    pairs = [(windows[n], windows[n + 1]) for n in range(0, len(windows), 2)]
    ratios = [
        (a if a["is_open"] else b)["tokens_per_second"] / (b if a["is_open"] else a)["tokens_per_second"]
        for a, b in pairs
    ]
    noise = [after / before for before, after in zip(by_state[False], by_state[False][1:], strict=False)]
    return {
        "closed": median(by_state[False]),
        "open": median(by_state[True]),
        "ratio": median(ratios),
        "ratio_least": min(ratios),
        "ratio_most": max(ratios),
        "noise_least": min(noise),
        "noise_most": max(noise),
    }


def show(report: dict[str, Any]) -> None:
    from rich.console import Console

    summary = report["summary"]
    console = Console(markup=False)
    console.print(f"page closed {summary['closed']:,.0f} tokens/s, open {summary['open']:,.0f}")
    console.print(
        f"open over closed {summary['ratio']:.3f} ({summary['ratio_least']:.3f} … {summary['ratio_most']:.3f})"
    )
    console.print(f"closed over closed {summary['noise_least']:.3f} … {summary['noise_most']:.3f}")


def _speed(steps: list[StepMetrics]) -> float:
    """Return the useful tokens/s between the first and the last of these steps."""
    spent = [after.elapsed_seconds - before.elapsed_seconds for before, after in zip(steps, steps[1:], strict=False)]
    tokens = sum(step.tokens_per_second * seconds for step, seconds in zip(steps[1:], spent, strict=True))
    return tokens / sum(spent)


def _open(playwright: Any, url: str) -> Any:
    """Open a browser that shows the active run, as a user would leave it open."""
    browser = playwright.chromium.launch(**LAUNCH)
    page = browser.new_page()
    page.goto(url)
    page.get_by_role("tab", name="Train").click()
    page.locator("#curves svg").first.wait_for()
    return browser


@contextmanager
def _page(home: Path) -> Iterator[str]:
    """Serve the app's page within the block, and yield its address."""
    server = Server(home)
    try:
        yield server.url
    finally:
        server.stop()


@contextmanager
def _training(home: Path, settings: RunSettings) -> Iterator[Run]:
    """Start a run and yield it once it is training; it is stopped at the end of the block."""
    from sft_app.training.launch import stop_run, submit_run

    run = submit_run(settings, home)
    try:
        while len(run.metrics()) < 3:
            if run.status().has_ended():
                sys.exit(f"The run ended: {run.status().message}")
            time.sleep(0.5)
        yield run
    finally:
        stop_run(run)
        while not run.status().has_ended():
            time.sleep(0.5)


def _settings(home: Path, is_quick: bool) -> RunSettings:
    """Return settings with more steps than will be taken, evaluated only at the first and the last."""
    values: dict[str, Any] = {
        "max_steps": 1_000_000,
        "eval_steps": 1_000_000.0,
        "watch_prompts": [],
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": 1,
        "heldout_min": 1,
        "heldout_max": 2,
        "replay": 0,
    }
    if is_quick:
        data = write_conversations(home / "conversations.jsonl", 20, 64)
        model = write_random_model(home / "models" / "tiny", "tiny", word_tokenizer())
        values |= {"data": str(data), "model": str(model)}
    return parse_settings(values)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="number of rounds of four windows each")
    parser.add_argument("--seconds", type=float, default=25.0, help="length of a window")
    parser.add_argument("--settling", type=float, default=20.0, help="seconds to wait before each window")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rounds, arguments.seconds, arguments.settling = 1, 2.0, 0.5
    return arguments


if __name__ == "__main__":
    main()
