"""The judge in a real browser: asked below the blind test, hidden while someone votes, and shown afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from sft_app.evaluation.answer_pairs import add_pairs
from sft_app.runs.folder import Run
from tests.judge_stand_in import Played, chooses, judging
from tests.ui.compare.test_blind_test_in_browser import PAIRS, finish, open_blind_test, press, start


@pytest.fixture
def played() -> Iterator[Played]:
    with judging(Played(chooses(lambda text: text.startswith("warm")))) as played:
        yield played


def test_judge_from_its_address_to_the_result(server: Any, quiet_page: Page, finished_run: Run, played: Played) -> None:
    add_pairs(finished_run, PAIRS)
    page, result = quiet_page, quiet_page.locator("#judge-result")
    open_blind_test(page, server, finished_run)
    page.get_by_role("button", name="Ask a model to judge").click()
    page.locator("#ask-judge").click()
    expect(page.get_by_text("must begin with https://")).to_be_visible()
    page.locator("#judge-address input, #judge-address textarea").fill(played.address)
    page.locator("#judge-model input, #judge-model textarea").fill("small <b>")
    page.locator("#ask-judge").click()
    expect(result).to_contain_text("small <b> compared 3 of 3 pairs, each in both orders.")
    start(page, "Ada")
    expect(result).to_contain_text("once you have finished voting")
    expect(result).not_to_contain_text("compared")
    press(page, "1", "2 of 3")
    finish(page)
    expect(result).to_contain_text("1 pair")
    expect(result).to_contain_text("do not count yet: answer more prompts with both sides")
