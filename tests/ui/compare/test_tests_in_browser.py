"""Tests that people write, in a real browser: loaded, edited, suggested, saved, run, read and downloaded."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from bench.browser import open_tab
from sft_app.evaluation.suites.kept import kept_tests
from sft_app.evaluation.suites.tests_file import read_tests
from tests.ui.compare.conftest import Shared

TESTS = """
all: [no_repetition: 1]
tests:
  - {name: always passes, prompt: "Where is <b>it</b>?", checks: [words: [0, 500]]}
  - {name: always fails, prompt: "Why?", checks: [contains: no model says this]}
"""


@pytest.fixture
def written(shared: Shared, quiet_page: Page, tmp_path: Path) -> Iterator[Page]:
    page = quiet_page
    page.goto(shared.url)
    open_tab(page, "Compare")
    expect(page.locator("#compare-right input")).to_have_value(re.compile(shared.run.id), timeout=30_000)
    open_tab(page, "Tests")
    file = tmp_path / "shop.yaml"
    file.write_text(TESTS)
    expect(page.locator("#run-tests")).to_be_visible()
    with page.expect_file_chooser() as caught:
        page.locator("#load-tests").click()
    caught.value.set_files(file)
    expect(page.locator("#tests-result")).to_contain_text("2 tests from shop.yaml")
    yield page
    shared.run.tests_file.unlink(missing_ok=True)


def test_a_file_is_run_and_its_failing_answers_are_read(written: Page, tmp_path: Path) -> None:
    page = written
    page.locator("#run-tests").click()
    result = page.locator("#tests-result")
    expect(result).to_contain_text("Of 2 tests, Base model passes 1", timeout=90_000)
    expect(result).to_contain_text("Both pass and fail the same tests.")
    expect(result).to_contain_text("Failed: 1 test")
    expect(result).to_contain_text("The answer does not contain “no model says this”.")
    with page.expect_download() as caught:
        page.locator("#tests-yaml").click()
    caught.value.save_as(tmp_path / "tests.yaml")
    assert [test.name for test in read_tests(tmp_path / "tests.yaml").tests] == ["always passes", "always fails"]
    with page.expect_download() as caught:
        page.locator("#tests-json").click()
    caught.value.save_as(tmp_path / "results.json")
    assert json.loads((tmp_path / "results.json").read_text())["paired"]["neither"] == 1


def test_recorded_answers_take_the_same_tests(written: Page, tmp_path: Path) -> None:
    page, file = written, tmp_path / "old model.csv"
    file.write_text("prompt,answer\nWhere is <b>it</b>?,It left on Monday.\nWhy?,Because no model says this.\n")
    page.locator("#tests-more-sides-file input[type=file]").set_input_files(file)
    expect(page.locator("#tests-more-sides")).to_contain_text("Recorded: old model.csv")
    page.locator("#run-tests").click()
    result = page.locator("#tests-result")
    expect(result).to_contain_text("Recorded: old model.csv passes 2", timeout=90_000)
    expect(result).to_contain_text("Passed by all sides: 1")


def test_tests_are_saved_with_the_run_and_shown_the_next_time(written: Page, shared: Shared) -> None:
    page = written
    page.locator("#save-tests").click()
    expect(page.locator("#tests-result")).to_contain_text("Saved with the run: 2 tests")
    suite = kept_tests(shared.run)
    assert suite is not None and suite.origin == "the table on the page" and len(suite.tests) == 2
    page.reload()
    open_tab(page, "Compare")
    open_tab(page, "Tests")  # before the right side is known
    expect(page.locator("#tests-result")).to_contain_text("These tests are saved with the run", timeout=30_000)
    expect(page.locator("#tests-table")).to_contain_text("always passes")
    page.locator("#compare-right input").fill("base")
    page.locator("#compare-right input").press("Enter")
    expect(page.locator("#tests-result")).to_contain_text("Write a prompt and a check")
    expect(page.locator("#tests-table")).not_to_contain_text("always passes")


def test_suggested_checks_say_how_many_answers_pass_them(written: Page) -> None:
    page = written
    page.locator("#suggest-tests").click()
    expect(page.locator("#tests-result")).to_contain_text("24 of 24 answers")
    page.locator("#run-tests").click()
    expect(page.locator("#tests-result")).to_contain_text("Of 2 tests", timeout=90_000)
