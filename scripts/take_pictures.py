"""Take the pictures in `docs/` from the running app: `make pictures`, after `make demo` has trained a run.

The page is opened over the workspace as a person would see it, 1280 pixels wide, in the light theme.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, expect, sync_playwright

from bench.browser import LAUNCH, PROJECT, Server, open_tab
from sft_app.runs.directory import list_runs
from sft_app.runtime.home import app_home

DOCS = PROJECT / "docs"
MESSY_ROWS = """1;Is the fern safe for cats?;Yes, ferns are safe for cats.;North
2;Is the fern safe for cats?;Yes, ferns are safe for cats.;North
3;Can I return a plant?;<p>Yes, within <b>30 days</b>.</p>;South
4;Whom do I ask about my invoice?;Write to jane.doe@garden-shop.co.uk about it.;North
5;Do you deliver on Sundays?;;South
"""
PLANTS = ("lilies", "ferns", "roses", "tulips", "herbs", "mosses", "shrubs")
# What stands for the folder of the project on the machine that takes the pictures.
SHOWN_FOLDER = "~/fine-tune-and-compare"

HIDE_FOLDER = """([folder, shown]) => {
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) texts.currentNode.data = texts.currentNode.data.replaceAll(folder, shown);
}"""


def main() -> None:
    finished = [run for run in list_runs(app_home()) if run.status().state == "finished" and run.scorecard()]
    if not finished:
        sys.exit("There is no finished run to show. Run `make demo` first.")
    server = Server(app_home())
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(**LAUNCH)
            expect.set_options(timeout=240_000)
            for picture in (take_data, take_train, take_compare, take_scorecard, take_runs, take_export, take_checkup):
                # A visitor of its own for each, since the page opens where the last visit ended.
                page = browser.new_page(viewport={"width": 1280, "height": 800}, color_scheme="light")
                page.set_default_timeout(120_000)
                page.goto(server.url)
                picture(page)
                page.close()
                sys.stderr.write(f"{picture.__name__.removeprefix('take_')}.png\n")
    finally:
        server.stop()


def save(page: Page, name: str, **options: Any) -> None:
    page.mouse.move(0, 0)
    page.wait_for_timeout(1500)  # until everything that moves has come to rest
    page.evaluate(HIDE_FOLDER, [str(PROJECT), SHOWN_FOLDER])
    page.screenshot(path=DOCS / f"{name}.png", full_page=True, **options)


def take_data(page: Page) -> None:
    expect(page.locator("#findings")).to_contain_text("No problems found")
    expect(page.locator("#token-view")).to_contain_text("<|im_end|>")
    save(page, "data")


def take_train(page: Page) -> None:
    open_tab(page, "Train")
    expect(page.locator("#run-status")).to_contain_text("Finished")
    expect(page.locator("#curves svg").first).to_be_visible()
    save(page, "train")


def take_compare(page: Page) -> None:
    open_tab(page, "Compare")
    expect(page.locator("#compare-right input")).not_to_have_value("")
    page.locator("#ask").click()
    expect(page.locator("#evidence")).to_contain_text("the two answers differ")
    page.locator("#compare-view label").nth(1).click()
    save(page, "compare")


def take_scorecard(page: Page) -> None:
    open_tab(page, "Compare")
    open_tab(page, "Scorecard")
    expect(page.locator("#scorecard")).to_contain_text("Did it forget?")
    save(page, "scorecard")


def take_runs(page: Page) -> None:
    open_tab(page, "Runs")
    expect(page.locator("#runs-table")).to_contain_text("Finished")
    save(page, "runs")


def take_export(page: Page) -> None:
    open_tab(page, "Export")
    expect(page.locator("#export-run input")).not_to_have_value("")
    page.locator("#export-kind label").filter(has_text=re.compile(r"^\s*Ollama:")).click()
    page.locator("#make-export").click()
    expect(page.locator("#ollama-commands")).to_contain_text("ollama create")
    card = page.locator("#export-result").bounding_box()  # the commands below it name folders of this machine
    assert card
    save(page, "export", clip={"x": 0, "y": 0, "width": 1280, "height": card["y"] + card["height"] + 16})


def plain_rows() -> Iterator[str]:
    for number in range(6, 60):
        plant = PLANTS[number % len(PLANTS)]
        answer = f"Water the {plant} {number % 5 + 1} times"
        yield f"{number};My {plant} in row {number} look tired. What now?;{answer};North\n"


def take_checkup(page: Page) -> None:
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "garden shop.csv"
        table.write_text(f"Nr;Question;Answer;Team\n{MESSY_ROWS}{''.join(plain_rows())}", encoding="utf-8")
        page.locator("input[type=file]").first.set_input_files(table)
        expect(page.locator("#findings")).to_contain_text("e-mail address")
        expect(page.locator("#fixes")).to_be_visible()
        first, last = (page.locator(part).bounding_box() for part in ("#findings", "#make-copy"))
        assert first and last
        height = last["y"] + last["height"] - first["y"]
        clip = {"x": first["x"] - 8, "y": first["y"] - 8, "width": first["width"] + 16, "height": height + 16}
        save(page, "checkup", clip=clip)


if __name__ == "__main__":
    main()
