"""Seeing it learn, in Chromium: the answers over time, runs side by side, the queue."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from playwright.sync_api import Page, expect

from bench.browser import open_tab
from sft_app.runs.directory import queued_runs
from sft_app.runs.folder import Run
from sft_app.settings import parse_settings
from sft_app.training.launch import create_queued_run, stop_run, submit_run
from tests.conftest import write_data
from tests.waiting import wait_until

FAST = {
    "max_length": 64,
    "max_new_tokens": 8,
    "learning_rate": 0.02,
    "general_prompts": 2,
    "replay": 0,
    "watch_prompts": ["Where is order 3?"],
}


@pytest.fixture(scope="module")
def two_runs(module_server: Any, tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """Trained by the real processes, one after the other; at this rate the answers change. Not to be changed."""
    data = write_data(tmp_path_factory.mktemp("data"))
    values = {**FAST, "model": str(tiny_model_dir), "data": str(data), "max_steps": 30, "eval_steps": 10}
    asked = [{"name": "Small rank", "lora_r": 4}, {"name": "Large rank", "lora_r": 32}]
    runs = [submit_run(parse_settings({**values, **one}), module_server.home) for one in asked]
    for run in runs:
        wait_until(lambda run=run: run.status().has_ended(), seconds=180)
        assert run.status().state == "finished", run.status()
    return runs


@pytest.fixture
def busy_machine(home: Path) -> Iterator[None]:
    """Another run has the machine, so that what is queued waits."""
    with FileLock(home / "machine.lock"):
        yield
        for run in queued_runs(home):
            stop_run(run)


def slide_to(page: Page, place: int) -> None:
    slider = page.locator("#watch-position input[type=range]")
    slider.focus()
    page.keyboard.press("Home")
    for _ in range(place):
        page.keyboard.press("ArrowRight")


def test_the_slider_moves_from_the_base_model_to_the_newest_answers(
    module_server: Any, quiet_page: Page, two_runs: list[Run]
) -> None:
    page, times = quiet_page, two_runs[1].snapshots()
    texts = [snapshot.answers[0].answer for snapshot in times]
    assert [snapshot.step for snapshot in times] == [0, 10, 20, 30] and texts[-1] != texts[0]
    page.goto(module_server.url)
    open_tab(page, "Train")
    expect(page.locator("#curves svg")).to_have_count(5)
    expect(page.locator("#curves")).to_contain_text(re.compile("Learning rate.*Gradient norm.*Speed.*Memory", re.S))
    now = page.locator("#watch-answers .ft-now")
    expect(now).to_contain_text("Step 30")  # the newest by default
    expect(now.locator(".ft-text")).to_have_text(texts[-1], use_inner_text=False)
    slide_to(page, 0)
    expect(now).to_contain_text("Move the slider")
    expect(page.locator("#watch-answers .ft-two > div").first).to_contain_text("Before training")
    slide_to(page, 1)
    expect(now).to_contain_text("Step 10")
    for _ in range(3):  # polls leave the slider where it was put
        with page.expect_request(re.compile("queue/join")):
            pass
    expect(now).to_contain_text("Step 10")


def test_two_chosen_runs_come_into_one_chart_with_what_was_set_differently(
    module_server: Any, quiet_page: Page, two_runs: list[Run]
) -> None:
    page = quiet_page
    page.goto(module_server.url)
    open_tab(page, "Runs")
    expect(page.locator("#several-curves")).to_contain_text("Choose two or more runs")
    for name in ("Small rank", "Large rank"):
        page.locator("#several-runs input").click()
        page.get_by_role("option", name=name).click()
    expect(page.locator("#several-curves .ft-thick")).to_have_count(2)
    expect(page.locator("#several-curves .ft-legend")).to_contain_text("Small rankLarge rank")
    table = page.locator("#several-settings")
    expect(table.locator("tr", has_text="lora r")).to_have_text(re.compile(r"lora r\s*4\s*32"))
    expect(table.locator("tr", has_text="held-out loss")).to_contain_text("→")
    expect(table).not_to_contain_text("max steps")


def test_the_order_of_the_queue_changes_by_click(
    server: Any, quiet_page: Page, busy_machine: None, tiny_model_dir: Path, data_file: Path
) -> None:
    page, values = quiet_page, {**FAST, "model": str(tiny_model_dir), "data": str(data_file)}
    runs = {
        name: create_queued_run(parse_settings({**values, "name": name}), server.home)
        for name in ("alpha", "beta", "gamma")
    }
    page.goto(server.url)
    expect(page.locator("#run-status")).to_contain_text("Queued")
    open_tab(page, "Runs")
    places = page.locator("#waiting-runs label")
    expect(places).to_have_text(["1. alpha", "2. beta", "3. gamma"])
    places.nth(2).click()
    page.locator("#earlier").click()
    expect(places).to_have_text(["1. alpha", "2. gamma", "3. beta"])
    page.locator("#earlier").click()  # the same run is still the chosen one
    expect(places).to_have_text(["1. gamma", "2. alpha", "3. beta"])
    assert [run.record().settings.name for run in queued_runs(server.home)] == ["gamma", "alpha", "beta"]
    page.locator("#later").click()
    expect(places).to_have_text(["1. alpha", "2. gamma", "3. beta"])
    page.locator("#take-out").click()
    expect(places).to_have_text(["1. alpha", "2. beta"])
    assert runs["gamma"].status().state == "stopped"


def test_the_runs_tab_without_runs_says_what_to_do(server: Any, quiet_page: Page) -> None:
    quiet_page.goto(server.url)
    open_tab(quiet_page, "Runs")
    expect(quiet_page.locator("#no-runs")).to_contain_text("Press Start on the Train tab")
    for part in ("#chosen-run", "#several-runs", "#queue"):
        expect(quiet_page.locator(part)).to_be_hidden()
