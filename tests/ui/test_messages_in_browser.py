"""A message is there long enough to be read, and no longer."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from sft_app.ui.events import MIN_MESSAGE_SECONDS, reading_seconds


def cause_a_message(page: Page, hub_id: str) -> Any:
    page.locator("#hub-id input, #hub-id textarea").fill(hub_id)
    page.locator("#fetch").click()
    return page.locator(".toast-body", has_text=hub_id)


@pytest.fixture
def data_tab(server: Any, quiet_page: Page) -> Page:
    quiet_page.goto(server.url)
    quiet_page.get_by_role("button", name="From the Hugging Face Hub").click()
    return quiet_page


def test_a_message_goes_by_itself_and_with_the_next_click(data_tab: Page) -> None:
    first = cause_a_message(data_tab, "../first")
    expect(first).to_be_visible()
    second = cause_a_message(data_tab, "../second")
    expect(second).to_be_visible()
    expect(first).to_be_hidden()
    data_tab.locator("#use-example").click()
    expect(second).to_be_hidden(timeout=3_000)  # sooner than by itself
    third = cause_a_message(data_tab, "../third")
    expect(third).to_be_visible()
    expect(third).to_be_hidden()


def test_there_is_time_to_read_a_message_twice() -> None:
    assert reading_seconds("Too short.") == MIN_MESSAGE_SECONDS
    assert reading_seconds("word " * 60) == 40
