"""Files of one's own in Chromium: uploaded on the Train tab, described before Start, and used by the run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from sft_app.runs.directory import list_runs
from sft_app.runtime.files import read_jsonl
from tests.ui.test_browser import fill_settings
from tests.ui.test_named_files import GOOD
from tests.ui.test_remembered import open_train, wait_until_kept

ROWS = [{"question": f"Where is parcel {n}?", "answer": f"Parcel {n} is on its way."} for n in range(9)]
FEW_STEPS = {"max_steps": "1", "max_length": "128", "max_new_tokens": "4", "scorecard_prompts": "0", "replay": "0"}


def upload(page: Page, name: str, file: Path, content: str) -> None:
    file.write_text(content, encoding="utf-8")
    with page.expect_file_chooser() as chooser:  # a click, because only that allows a file of the same name again
        page.locator(f"#{name}-upload").click()
    chooser.value.set_files(file)


def value_of(page: Page, name: str) -> str:
    return page.locator(f"#{name} :is(input, textarea)").input_value()


@pytest.mark.starter
def test_uploaded_files_are_described_kept_and_used(
    server: Any, quiet_page: Page, tmp_path: Path, tiny_model_dir: Path
) -> None:
    page, home = quiet_page, server.home
    page.goto(server.url)
    open_train(page)
    page.locator("#model input").fill(str(tiny_model_dir))
    page.locator("#model input").press("Enter")
    fill_settings(page, FEW_STEPS)
    upload(page, "heldout_data", tmp_path / "mine.jsonl", '{"weight": 1}')
    expect(page.locator("#heldout_data-note .ft-problem")).to_contain_text("mine.jsonl: The columns `weight` match no")
    upload(page, "heldout_data", tmp_path / "mine.jsonl", "\n".join(map(json.dumps, ROWS)))
    expect(page.locator("#heldout_data-note")).to_have_text("mine.jsonl: 9 conversations.")
    for name in ("tests", "general_questions"):
        upload(page, name, tmp_path / GOOD[name][0], GOOD[name][1])
        expect(page.locator(f"#{name}-note")).to_have_text(GOOD[name][2])
        assert value_of(page, name).startswith(str(home / "uploads"))
    page.locator("#validation_data :is(input, textarea)").fill("/no/such.csv")
    expect(page.locator("#validation_data-note")).to_contain_text("There is no data file /no/such.csv. Check the path.")
    wait_until_kept(page)

    page.reload()
    open_train(page)
    page.get_by_role("button", name="All settings").click()
    expect(page.locator("#heldout_data-note")).to_have_text("mine.jsonl: 9 conversations.")
    page.locator("#validation_data :is(input, textarea)").fill("")
    expect(page.locator("#validation_data-note")).to_have_text("")
    page.locator("#start").click()
    expect(page.locator("#run-status")).to_contain_text("Finished", timeout=120_000)
    run = list_runs(home)[0]
    judged = [row["messages"][0]["content"] for row in read_jsonl(run.heldout_file)]
    assert judged == [row["question"] for row in ROWS]
    assert len(read_jsonl(run.general_file)) == 2 and "See you" in run.tests_file.read_text()
