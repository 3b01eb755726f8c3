"""What a person does, in Chromium, against the real page with real training."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from playwright.sync_api import Page, expect

from bench.browser import open_tab
from sft_app.runs.directory import find_run, list_runs
from sft_app.settings import EXAMPLE_PROMPT, parse_settings
from sft_app.training.launch import submit_run
from tests.waiting import wait_until

FEW_STEPS = {
    "max_steps": "4",
    "per_device_train_batch_size": "1",
    "gradient_accumulation_steps": "1",
    "max_length": "192",
    "heldout_min": "4",
    "heldout_max": "4",
    "max_new_tokens": "24",
    "general_prompts": "4",
    "scorecard_prompted": "0",
    "replay": "0",
}
HALF_A_SECOND, A_LITTLE = 0.5, 0.4


def fill_settings(page: Page, values: dict[str, str]) -> None:
    page.locator("#all-settings button").first.click()
    for name, value in values.items():
        field = page.locator(f"#{name} input, #{name} textarea").first
        field.fill(value)
        field.blur()


def answer(page: Page, side: str) -> str:
    return page.locator(f'[data-side="{side}"]').inner_text()


@pytest.mark.starter
def test_from_example_to_two_answers_growing_at_once(server: Any, quiet_page: Page) -> None:
    page = quiet_page
    page.goto(server.url)
    expect(page.locator("#data-facts")).to_contain_text("252")
    expect(page.locator("#conversation-chat")).to_contain_text("Nell at Fernhill")
    expect(page.locator("#token-note")).to_contain_text("The model is trained on", timeout=60_000)
    expect(page.locator("#token-view")).to_contain_text("<|im_end|>")

    page.locator("#to-train").click()
    fill_settings(page, FEW_STEPS)
    page.locator("#start").click()
    expect(page.locator("#run-status")).to_contain_text("Training", timeout=90_000)
    run = list_runs(server.home)[0]
    expect(page.locator("#curves svg").first).to_be_visible(timeout=90_000)
    expect(page.locator("#watch-answers")).to_contain_text("Before training", timeout=90_000)

    page.reload()
    expect(page.locator("#run-status")).to_contain_text(run.id)
    expect(page.locator("#curves svg").first).to_be_visible()
    page.locator("#all-settings button").first.click()
    expect(page.locator("#max_steps input")).to_have_value("4")

    expect(page.locator("#run-status")).to_contain_text("Finished", timeout=240_000)
    expect(page.locator("#run-status")).to_contain_text("4 of 4")
    page.locator("#open-compare").click()
    expect(page.locator("#prompt textarea")).to_have_value(EXAMPLE_PROMPT)
    page.get_by_role("button", name="Generation settings (the same for both sides)").click()
    answer_length = page.locator("#compare-max_new_tokens input")
    answer_length.fill("40")
    answer_length.blur()
    page.locator("#ask").click()
    expect(page.locator("#evidence")).to_contain_text("adapter active in 210 modules", timeout=60_000)
    grew_together = page.wait_for_function(
        """() => {
            const text = side => document.querySelector(`[data-side="${side}"]`)?.innerText ?? '';
            const endings = [...document.querySelectorAll('.ft-answer header span')].map(s => s.innerText);
            const waiting = endings.some(text => text.endsWith('…'));
            return waiting && text('left').length > 5 && text('right').length > 5;
        }""",
        timeout=60_000,
    )
    assert grew_together
    expect(page.locator("#evidence")).to_contain_text("the two answers differ", timeout=90_000)
    assert answer(page, "left") != answer(page, "right")

    open_tab(page, "Scorecard")
    expect(page.locator("#scorecard")).to_contain_text("Did it forget? · 4 general questions")
    expect(page.locator("#scorecard")).to_contain_text("The models' own answers · 4 held-out questions")
    open_tab(page, "One prompt")
    answer_length.fill("1500")
    answer_length.blur()
    ask_for_long(page)
    page.locator("#stop-answer").click()
    expect(page.locator("#base-answer header span")).to_contain_text("you stopped it")
    assert spent_after(HALF_A_SECOND, server) < A_LITTLE
    ask_for_long(page)
    page.close()
    assert spent_after(HALF_A_SECOND, server) < A_LITTLE


def ask_for_long(page: Page) -> None:
    """Comes back while both answers grow."""
    page.locator("#prompt textarea").fill("Tell me the story of a whole long year, day by day.")
    page.locator("#ask").click()
    for side in ("base", "tuned"):
        expect(page.locator(f"#{side}-answer header span")).to_contain_text(
            re.compile(r"[1-9]\d tokens …"), timeout=60_000
        )


def spent_after(pause: float, server: Any) -> float:
    """Cores that the page's process keeps busy in the second that follows a pause."""
    time.sleep(pause)
    process = psutil.Process(server.process.pid)
    process.cpu_percent()
    time.sleep(1)
    return process.cpu_percent() / 100


def test_kill_of_the_server_leaves_the_run_running_and_a_new_page_finds_it(
    server: Any, quiet_page: Page, tiny_model_dir: Path, data_file: Path
) -> None:
    page = quiet_page
    settings = parse_settings(
        {
            "model": str(tiny_model_dir),
            "data": str(data_file),
            "max_steps": 4000,
            "max_length": 64,
            "max_new_tokens": 4,
            "general_prompts": 2,
            "name": "long one",
        }
    )
    run = submit_run(settings, server.home)
    page.goto(server.url)
    expect(page.locator("#run-status")).to_contain_text("Training", timeout=60_000)
    server.kill()
    page.goto("about:blank")  # the page that lost its server would load itself anew in the middle of what follows
    before = run.status()
    assert before.state == "training"
    server.start()
    page.goto(server.url)
    expect(page.locator("#run-status")).to_contain_text("long one")
    expect(page.locator("#run-status")).to_contain_text("Training")
    assert run.status().step >= before.step
    page.locator("#stop").click()
    expect(page.locator("#run-status")).to_contain_text("Stopped", timeout=60_000)
    assert find_run(server.home, run.id).has_adapter()


def test_kill_of_the_worker_is_told_on_the_page_and_resume_goes_on(
    server: Any, quiet_page: Page, tiny_model_dir: Path, data_file: Path
) -> None:
    page = quiet_page
    values = {"model": str(tiny_model_dir), "data": str(data_file), "max_steps": 120, "max_length": 64}
    values |= {"eval_steps": 20, "max_new_tokens": 4, "general_prompts": 2, "scorecard_prompts": 2, "replay": 0}
    run = submit_run(parse_settings(values), server.home)
    page.goto(server.url)
    expect(page.locator("#run-status")).to_contain_text(re.compile("Training|Preparing"), timeout=60_000)
    wait_until(lambda: run.status().step > 20)  # the page may be too slow to show each step
    os.kill(run.status().pid or 0, signal.SIGKILL)
    expect(page.locator("#run-status")).to_contain_text(re.compile("Failed|Interrupted"))
    expect(page.locator("#run-status")).to_contain_text(re.compile("signal 9|exited without an error message"))
    page.locator("#resume").click()
    expect(page.locator("#run-status")).to_contain_text("Finished", timeout=120_000)
    steps = [row.step for row in run.metrics() if row.loss is not None]
    assert steps == sorted(set(steps)) and steps[-1] == 120


def test_an_uploaded_file_shows_what_is_left_out_and_why(server: Any, quiet_page: Page, tmp_path: Path) -> None:
    good = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello <b>you</b>"}]}
    file = tmp_path / "mine.jsonl"
    file.write_text(json.dumps(good) + '\n{"messages": [{"role": "user", "content": "Hi"}]}\nnot json\n')
    quiet_page.goto(server.url)
    expect(quiet_page.locator("#data-facts")).to_contain_text("252")
    with quiet_page.expect_file_chooser() as chooser:
        quiet_page.locator("#upload").click()
    chooser.value.set_files(file)
    expect(quiet_page.locator("#data-facts")).to_contain_text("2 skipped")
    expect(quiet_page.get_by_text("row 2: there is no assistant message")).to_be_visible()
    expect(quiet_page.get_by_text("row 3: not valid JSON")).to_be_visible()


def test_runs_tab_downloads_and_deletes(server: Any, quiet_page: Page, finished_run: Any) -> None:
    page = quiet_page
    page.goto(server.url)
    open_tab(page, "Runs")
    expect(page.locator("#runs-table")).to_contain_text(finished_run.id)
    page.locator("#download-adapter").click()
    with page.expect_download() as download:
        page.locator("#save-adapter").click()
    assert download.value.suggested_filename == f"{finished_run.id}-adapter.zip"
    page.locator("#delete-run").click()
    page.locator("#really-delete").click()
    expect(page.locator("#runs-table")).not_to_contain_text(finished_run.id)
    assert not finished_run.path.exists()
