"""The blind test in a real browser: from the first ballot to the result, by key and by click."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from bench.browser import open_tab
from sft_app.evaluation.answer_pairs import AnswerPair, add_pairs
from sft_app.evaluation.votes import read_votes
from sft_app.runs.folder import Run

PAIRS = [
    AnswerPair(prompt=f"Question {n}?", base=f"plain {n}", tuned=f"warm {n} <b>", reference=f"given {n}")
    for n in range(3)
]
HINT = re.compile(r"base|tuned|ft-base|ft-tuned|token|given", re.I)


@pytest.fixture
def run(finished_run: Run) -> Run:
    add_pairs(finished_run, PAIRS)
    return finished_run


def open_blind_test(page: Page, server: Any, run: Run) -> None:
    page.goto(server.url)
    open_tab(page, "Compare")
    expect(page.locator("#compare-right input")).to_have_value(re.compile(run.id), timeout=30_000)
    open_tab(page, "Blind test")


def start(page: Page, voter: str) -> None:
    page.locator("#voter input, #voter textarea").fill(voter)
    page.locator("#voter input, #voter textarea").press("Enter")
    expect(page.locator("#blind-progress")).to_contain_text(voter)


def shown(page: Page) -> str:
    """The prompt of the ballot on the page."""
    return page.locator("#blind-test .ft-question").inner_text()


def finish(page: Page) -> None:
    page.locator("#finish-blind").click()
    page.locator("#show-result").click()
    expect(page.locator("#blind-progress strong")).to_contain_text("Finished")


def press(page: Page, key: str, place: str) -> None:
    page.keyboard.press(key)
    expect(page.locator("#blind-progress strong")).to_have_text(place)


def test_blind_vote_from_start_to_result(server: Any, quiet_page: Page, run: Run, tmp_path: Path) -> None:
    page = quiet_page
    open_blind_test(page, server, run)
    expect(page.locator("#blind-invitation")).to_contain_text("3 pairs of answers")
    page.keyboard.press("1")  # no ballot yet
    start(page, "Ada 1")  # digits of a name are no votes
    expect(page.locator("#blind-progress strong")).to_have_text("1 of 3")
    hinting = page.locator("#blind-test").evaluate(
        "room => [...room.querySelectorAll('.ft-columns, .ft-asked, "
        "#vote-buttons')].map(part => part.outerHTML).join('')"
    )
    assert "plain" in hinting and "warm" in hinting and not HINT.search(hinting)
    left = page.locator("#blind-test .ft-blind").first.locator(".ft-text").inner_text()
    press(page, "1", "2 of 3")
    expect(page.locator("#blind-told")).to_have_text("Vote 1 is saved.")
    assert not HINT.search(page.locator("#blind-test").evaluate("room => room.outerHTML").replace("gradio", ""))
    assert [vote.choice for vote in read_votes(run)] == ["tuned" if left.startswith("warm") else "base"]
    press(page, "0", "3 of 3")
    third = shown(page)

    page.reload()
    open_tab(page, "Compare")
    open_tab(page, "Blind test")
    expect(page.locator("#blind-invitation")).to_contain_text("Voted so far: Ada 1")
    start(page, "Ada 1")
    expect(page.locator("#blind-progress strong")).to_have_text("3 of 3")
    assert shown(page) == third
    page.locator("#vote-both-bad").click()
    expect(page.locator("#blind-progress strong")).to_have_text("All pairs voted on")
    expect(page.locator("#vote-buttons")).to_be_hidden()
    expect(page.locator("#blind-result")).to_be_empty()
    page.locator("#undo-vote").click()
    expect(page.locator("#blind-progress strong")).to_have_text("3 of 3")
    press(page, "2", "All pairs voted on")
    finish(page)
    expect(page.locator("#blind-progress strong")).to_have_text("Finished: 3 of 3 pairs voted on")
    expect(page.locator("#blind-result")).to_contain_text("(95% interval")
    expect(page.locator("#undo-vote")).to_be_hidden()
    with page.expect_download() as caught:
        page.locator("#votes-jsonl").click()
    caught.value.save_as(tmp_path / "votes.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "votes.jsonl").read_text().splitlines()]
    assert [row["choice"] in ("base", "tuned") for row in rows] == [True, False, True]
    assert {row["voter"] for row in rows} == {"Ada 1"}


def test_two_pages_of_one_voter_and_a_second_voter(server: Any, quiet_page: Page, run: Run) -> None:
    page = quiet_page
    open_blind_test(page, server, run)
    start(page, "Ada")
    other = page.context.new_page()
    open_blind_test(other, server, run)
    start(other, "Ada")
    assert shown(page) == shown(other)
    press(page, "1", "2 of 3")
    press(other, "2", "2 of 3")  # the same pair once more: the later vote counts
    assert shown(page) == shown(other)
    press(other, "0", "3 of 3")
    press(page, "0", "3 of 3")
    assert [vote.choice for vote in read_votes(run)][1:] == ["tie"]
    page.locator("#leave-blind").click()
    start(page, "Bo <i>")
    expect(page.locator("#blind-progress strong")).to_have_text("1 of 3")
    press(page, "0", "2 of 3")
    page.locator("#finish-blind").click()
    page.locator("#keep-voting").click()
    expect(page.locator("#show-result")).to_be_hidden()
    finish(page)
    expect(page.locator("#blind-result tbody tr")).to_have_count(1)
    expect(page.locator("#blind-result")).to_contain_text("1 person is still voting")
    expect(page.locator("#blind-result")).to_contain_text("Bo <i>")
    finish(other)
    expect(other.locator("#blind-result tbody tr")).to_have_count(3)
    expect(other.locator("#blind-progress strong")).to_have_text("Finished: 2 of 3 pairs voted on")


def test_a_run_without_answers_says_where_they_come_from(server: Any, quiet_page: Page, finished_run: Run) -> None:
    page = quiet_page
    finished_run.pairs_file.unlink(missing_ok=True)
    open_blind_test(page, server, finished_run)
    expect(page.locator("#blind-invitation")).to_contain_text("Answer prompts in “Many prompts”")
    page.locator("#voter input, #voter textarea").fill("Ada")
    page.locator("#start-blind").click()
    expect(page.get_by_text("no answers to vote on yet")).to_be_visible()
