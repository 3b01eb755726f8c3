"""The scorecard in a real browser: a copy of the run at another strength, with recorded answers as a further side."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, expect

from bench.browser import open_tab
from sft_app.runs.directory import list_runs
from sft_app.runtime.files import iterate_jsonl


def test_a_copy_is_measured_at_another_strength_next_to_recorded_answers(
    finished_run: Any, server: Any, quiet_page: Page, tmp_path: Path
) -> None:
    turns = [row["messages"] for row in iterate_jsonl(finished_run.heldout_file)]
    rows = [{"prompt": one[0]["content"], "answer": one[-1]["content"]} for one in turns]
    recorded = tmp_path / "hosted.jsonl"
    recorded.write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = quiet_page
    page.goto(server.url)
    open_tab(page, "Compare")
    expect(page.locator("#compare-right input")).to_have_value(re.compile(finished_run.id))
    open_tab(page, "Scorecard")
    page.locator("#score-prompts input").fill("2")
    with page.expect_file_chooser() as chooser:
        page.locator("#score-recorded-upload").click()
    chooser.value.set_files(recorded)
    expect(page.locator("#score-recorded-note")).to_contain_text("hosted.jsonl: answers to")
    page.get_by_text("Try another strength of the adapter").click()
    strength = page.locator("#copied-strength input[type=number]")
    strength.fill("0.6")
    strength.press("Tab")
    page.locator("#copy-strength").click()
    card = page.locator("#scorecard")
    expect(card).to_contain_text("Recorded: hosted.jsonl", timeout=120_000)
    expect(card).to_contain_text("The strength of the adapter was set by hand")
    copy, original = list_runs(finished_run.home)
    assert original.id == finished_run.id and original.strength() is None
    expect(page.locator("#compare-right input")).to_have_value(re.compile(" at 0.6"))
    expect(strength).to_have_value("0.6")
    found = copy.scorecard()
    assert found is not None and [side.name for side in found.sides] == ["hosted.jsonl"]
