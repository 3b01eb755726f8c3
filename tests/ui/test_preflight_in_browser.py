"""Before Start: the card follows the form, one click takes what fits, and it can be measured."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from sft_app.runs.directory import list_runs

pytestmark = pytest.mark.starter


def open_train(page: Any, url: str) -> Any:
    """The card, once it has said something."""
    page.goto(url)
    page.get_by_role("tab", name="Train").click()
    card = page.locator("#preflight")
    expect(card).to_contain_text("of 134.5 million weights", timeout=60_000)
    return card


def fill_setting(page: Any, name: str, value: str) -> None:
    field = page.locator(f"#{name} :is(input, textarea)").first
    field.fill(value)
    field.press("Enter")


def test_card_follows_the_form_and_one_click_makes_it_fit(server: Any, quiet_page: Any) -> None:
    page = quiet_page
    card = open_train(page, server.url)
    expect(card).to_contain_text("60 × 4 conversations")
    page.get_by_text("All settings").click()
    fill_setting(page, "max_steps", "30")
    expect(card).to_contain_text("30 × 4 conversations")
    fill_setting(page, "per_device_train_batch_size", "512")
    expect(card).to_contain_text("The run does not fit")
    page.get_by_role("button", name="Use these settings").click()
    expect(card).to_contain_text("30 × 512 conversations")
    expect(card).not_to_contain_text("The run does not fit")
    expect(page.get_by_role("button", name="Use these settings")).to_be_hidden()
    batch = page.locator("#per_device_train_batch_size input").input_value()
    together = page.locator("#gradient_accumulation_steps input").input_value()
    assert int(batch) < 512 and int(batch) * int(together) == 512


def test_what_cannot_be_told_is_said_in_the_card(server: Any, quiet_page: Any) -> None:
    page = quiet_page
    card = open_train(page, server.url)
    page.get_by_text("All settings").click()
    fill_setting(page, "lora_dropout", "9")
    expect(card).to_contain_text("lora_dropout")
    page.get_by_role("button", name="Measure").click()
    expect(page.locator(".toast-body")).to_contain_text("lora_dropout")
    expect(page.locator("span.error")).to_have_count(0)  # a mark over the card, which nothing else would remove
    fill_setting(page, "lora_dropout", "0")
    expect(card).to_contain_text("of 134.5 million weights")


def test_measuring_takes_the_place_of_the_estimate(
    server: Any, quiet_page: Any, home: Path, tiny_model_dir: Path
) -> None:
    page = quiet_page
    card = open_train(page, server.url)
    expect(card).to_contain_text("estimated")
    page.locator("#model input").fill(str(tiny_model_dir))
    page.locator("#model input").press("Enter")
    page.get_by_text("All settings").click()
    fill_setting(page, "per_device_train_batch_size", "1")
    fill_setting(page, "max_length", "128")
    expect(card).to_contain_text("128 tokens")
    page.get_by_role("button", name="Measure").click()
    expect(card).to_contain_text("Measured peak", timeout=180_000)
    expect(card).to_contain_text(re.compile(r"\d\.\d of \d+\.\d GiB"))
    assert list_runs(home) == []
