"""Compare in a real browser: two answers, the conversation that goes on, and a closer look."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from bench.browser import open_tab
from tests.ui.compare.conftest import Shared


@pytest.fixture
def compared(shared: Shared, quiet_page: Page) -> Page:
    """The tab after a first question to the base model and the finished run."""
    page = quiet_page
    page.goto(shared.url)
    open_tab(page, "Compare")
    expect(page.locator("#compare-right input")).to_have_value(re.compile(shared.run.id), timeout=30_000)
    set_field(page, "max_new_tokens", "12")
    page.locator("#prompt textarea").fill("Where is it?")
    page.locator("#ask").click()
    done(page)
    return page


def set_field(page: Page, name: str, value: str) -> None:
    page.get_by_role("button", name="Generation settings (the same for both sides)").click()
    page.locator(f"#compare-{name} input").fill(value)
    page.locator(f"#compare-{name} input").blur()


def done(page: Page) -> None:
    expect(page.locator("#evidence")).to_contain_text("the two answers", timeout=60_000)
    expect(page.locator("#base-answer header span")).to_contain_text(
        re.compile("ended with EOS|reached the token limit")
    )


def test_a_conversation_goes_on_with_each_sides_own_answers(compared: Page) -> None:
    page = compared
    expect(page.locator("#evidence")).to_contain_text("adapter active in 14 modules, norm")
    page.locator("#prompt textarea").fill("And when?")
    page.locator("#reply").click()
    expect(page.locator("#base-answer .ft-question")).to_have_count(2, timeout=30_000)
    done(page)
    expect(page.locator("#tuned-answer .ft-question")).to_have_text(["Where is it?", "And when?"])
    page.locator("#edit-question").click()
    expect(page.locator("#prompt textarea")).to_have_value("And when?")
    expect(page.locator("#base-answer .ft-question")).to_have_count(1)


def test_the_view_changes_without_asking_again(compared: Page) -> None:
    page = compared
    answer = page.locator('#base-answer [data-side="left"]').inner_text()
    page.locator("#compare-view").get_by_text("Raw text").click()
    expect(page.locator('#base-answer [data-side="left"]')).to_contain_text("<|im_start|>user")
    page.locator("#compare-view").get_by_text("Text", exact=True).click()
    expect(page.locator('#base-answer [data-side="left"]')).to_have_text(answer)


def test_a_side_can_be_changed_to_itself_and_that_is_said(compared: Page, shared: Shared) -> None:
    page = compared
    page.locator("#compare-left input").fill(shared.run.id)
    page.locator("#compare-left input").press("Enter")
    page.locator("#ask").click()
    expect(page.locator("#evidence")).to_contain_text("Both sides are the same.", timeout=60_000)


def test_a_place_of_the_answer_is_looked_at(compared: Page) -> None:
    page = compared
    page.get_by_role("button", name="Next token: what each side predicts next").click()
    page.get_by_label("right answer").click()
    expect(page.locator("#next-token")).to_contain_text("next token", timeout=30_000)
    expect(page.locator("#next-token tbody tr").first).to_contain_text("%")


def test_what_is_wrong_with_a_side_is_told_and_nothing_is_lost(compared: Page) -> None:
    page = compared
    answer = page.locator('#base-answer [data-side="left"]').inner_text()
    page.locator("#compare-left input").fill("no/such/folder")
    page.locator("#compare-left input").press("Enter")
    page.locator("#ask").click()
    expect(page.get_by_text("is neither a folder on this machine")).to_be_visible(timeout=30_000)
    expect(page.locator('#base-answer [data-side="left"]')).to_have_text(answer)
