"""The report in a real browser: made on the page, and opened from disk without network."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, expect

from bench.browser import open_tab
from sft_app.settings import EXAMPLE_PROMPT


def test_the_report_is_saved_and_opens_anywhere(
    finished_run: Any, server: Any, quiet_page: Page, browser: Browser, tmp_path: Path
) -> None:
    page = quiet_page
    page.goto(server.url)
    open_tab(page, "Compare")
    expect(page.locator("#compare-right input")).to_have_value(re.compile(finished_run.id), timeout=30_000)
    open_tab(page, "Report")
    expect(page.locator("#report-pairs")).to_contain_text(f"1. {EXAMPLE_PROMPT}")
    page.locator("#make-report").click()
    for button, ending in (("#save-report", ".html"), ("#save-markdown", ".md")):
        with page.expect_download() as download:
            page.locator(button).click()
        assert download.value.suggested_filename == f"{finished_run.id}-report{ending}"
        download.value.save_as(tmp_path / f"report{ending}")
    assert (tmp_path / "report.md").read_text(encoding="utf-8").startswith(f"# Run {finished_run.id}")

    with browser.new_context(offline=True, viewport={"width": 390, "height": 800}) as context:
        report = context.new_page()
        asked: list[str] = []
        faults: list[str] = []
        report.on("request", lambda request: asked.append(request.url))
        report.on("console", lambda message: faults.append(message.text))
        address = (tmp_path / "report.html").as_uri()
        report.goto(address)
        for name in ("What changed", "How it learned", "Side by side", "The data", "Training", "How to reproduce it"):
            expect(report.get_by_role("heading", name=name, exact=True)).to_be_visible()
        expect(report.get_by_role("heading", name=EXAMPLE_PROMPT)).to_be_visible()
        assert report.evaluate("document.documentElement.scrollWidth") <= 390
        assert (asked, faults) == ([address], [])


def test_a_side_that_is_no_run_has_no_report(server: Any, quiet_page: Page) -> None:
    page = quiet_page
    page.goto(server.url)
    open_tab(page, "Compare")
    open_tab(page, "Report")
    page.locator("#make-report").click()
    expect(page.get_by_text("Choose a run on the right")).to_be_visible()
    expect(page.locator("#save-report")).to_be_hidden()
