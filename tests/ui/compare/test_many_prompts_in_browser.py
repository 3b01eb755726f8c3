"""Many prompts in a real browser: pasted, answered, looked at, taken away as a file."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from bench.browser import open_tab
from sft_app.evaluation.answer_pairs import read_pairs
from tests.ui.compare.conftest import Shared

PROMPTS = ["Where is it?", "When <b>now</b>?", "Why?"]


@pytest.fixture
def many(shared: Shared, quiet_page: Page) -> Page:
    page = quiet_page
    page.goto(shared.url)
    open_tab(page, "Compare")
    expect(page.locator("#compare-right input")).to_have_value(re.compile(shared.run.id), timeout=30_000)
    open_tab(page, "Many prompts")
    page.get_by_role("button", name="Generation settings (the same for both sides)").locator("visible=true").click()
    page.locator("#many-max_new_tokens input").fill("6")
    page.locator("#many-max_new_tokens input").blur()
    return page


def answer_all(page: Page, told: str) -> None:
    page.locator("#answer-all").click()
    expect(page.locator("#many-progress")).to_contain_text(told, timeout=90_000)


def cell(page: Page, text: str) -> Locator:
    return page.locator("#many-table").get_by_role("gridcell").filter(has_text=text).locator("visible=true").first


def saved(page: Page, kind: str, folder: Path) -> Path:
    with page.expect_download() as caught:
        page.locator(f"#many-{kind}").click()
    caught.value.save_as(folder / f"saved.{kind}")
    return folder / f"saved.{kind}"


def test_pasted_prompts_become_rows_and_files(many: Page, shared: Shared, tmp_path: Path) -> None:
    page = many
    page.locator("#pasted-prompts textarea").fill("\n".join([*PROMPTS, "x" * 600]))
    answer_all(page, "4 prompts answered")
    expect(page.locator("#many-progress")).to_contain_text("1 could not be answered")
    expect(cell(page, "the model's context is 512")).to_be_visible()
    cell(page, "When <b>now</b>?").click()
    expect(page.locator("#many-detail .ft-question")).to_have_text(PROMPTS[1])
    with saved(page, "csv", tmp_path).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["prompt"] for row in rows[:3]] == PROMPTS and "context" in rows[3]["problem"]
    lines = saved(page, "jsonl", tmp_path).read_text().splitlines()
    expect(page.locator("#many-detail [data-side=right]")).to_have_text(
        json.loads(lines[1])["tuned"], use_inner_text=False
    )
    pairs = {pair.prompt: pair for pair in read_pairs(shared.run)}
    assert [pairs[row["prompt"]].tuned for row in rows[:3]] == [json.loads(line)["tuned"] for line in lines[:3]]
    assert rows[3]["prompt"] not in pairs


def test_a_file_with_references_and_most_changed_first(many: Page, tmp_path: Path) -> None:
    page = many
    file = tmp_path / "mine.csv"
    file.write_text("q,expected\n" + "".join(f"Where is order {n}?,Here {n}\n" for n in range(10)))
    page.locator("#prompt-file input[type=file]").set_input_files(file)
    expect(page.locator("#prompt-file-note")).to_contain_text(
        "No column of mine.csv could be identified as the prompts"
    )
    page.locator("#prompt-column input").click()
    page.get_by_role("option", name="q", exact=True).click()
    expect(page.locator("#prompt-file-note")).to_contain_text(
        "10 prompts from the column “q”, references from “expected”"
    )
    answer_all(page, "10 prompts answered")
    expect(page.locator("#many-table")).to_contain_text("Here 9")
    page.locator("#most-changed").get_by_label("Most changed first").check()
    cell(page, "Here 4").click()
    expect(page.locator("#many-detail")).to_contain_text("Reference: Here 4")


def test_recorded_answers_are_uploaded_as_a_side(many: Page, tmp_path: Path) -> None:
    page, note = many, many.locator("#many-recorded-note")
    upload, file = page.locator("#many-more-sides-file input[type=file]"), tmp_path / "other model.csv"
    (tmp_path / "prompts.csv").write_text("prompt\nWhy?\n")
    upload.set_input_files(tmp_path / "prompts.csv")
    expect(note).to_contain_text("prompts.csv has no column with answers. Name it `answer`, next to a column `prompt`")
    file.write_text("prompt,answer\nWhere is it?,It left on Monday.\nWhy?,Because of the frost.\n")
    upload.set_input_files(file)
    expect(note).to_have_text("other model.csv: answers to 2 prompts.")
    expect(page.locator("#many-more-sides")).to_contain_text("Recorded: other model.csv")
    page.locator("#pasted-prompts textarea").fill("Where is it?")
    answer_all(page, "1 prompt answered")
    expect(page.locator("#many-table")).to_contain_text("It left on Monday.")


def test_what_is_missing_is_told(many: Page) -> None:
    page = many
    page.locator("#answer-all").click()
    expect(page.get_by_text("Enter at least one prompt, one per line")).to_be_visible(timeout=30_000)
    page.locator("#pasted-prompts textarea").fill("Hi")
    page.locator("#compare-right input").fill("base")
    page.locator("#compare-right input").press("Enter")
    page.locator("#answer-all").click()
    expect(page.get_by_text("Both sides are the base model")).to_be_visible(timeout=30_000)


def test_stop_keeps_what_is_there(many: Page, tmp_path: Path) -> None:
    page = many
    page.locator("#many-max_new_tokens input").fill("64")
    page.locator("#many-max_new_tokens input").blur()
    page.locator("#pasted-prompts textarea").fill("\n".join(f"Where is order {n}?" for n in range(800)))
    page.locator("#answer-all").click()
    expect(page.locator("#many-progress")).to_contain_text(re.compile(r"of 800, about .* left"), timeout=90_000)
    page.locator("#stop-all").click()
    expect(page.locator("#many-progress")).to_contain_text(re.compile(r"Stopped: \d+ of 800"), timeout=60_000)
    rows = saved(page, "jsonl", tmp_path).read_text().splitlines()
    expect(page.locator("#many-progress")).to_contain_text(f"Stopped: {len(rows)} of 800")
