"""Cancel on the page says what is lost, and asks once more."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from sft_app.errors import RunError
from sft_app.runs.folder import Run
from sft_app.runtime.processes import process_started
from sft_app.ui.runs.cancellation import cancel_question
from tests.ui.test_run_panel import make_run


@pytest.fixture
def at_work(home: Path) -> Run:
    """A run that this test's own process would be working on."""
    run = make_run(home)
    run.update_status(
        state="training", step=1200, total_steps=2000, pid=os.getpid(), pid_started=process_started(os.getpid())
    )
    return run


def test_cancel_asks_first_and_then_cancels(at_work: Run, server: Any, quiet_page: Page) -> None:
    page = quiet_page
    page.goto(server.url)
    page.locator("#cancel").click()
    question = page.locator("#cancellation")
    expect(question).to_contain_text(
        "You will lose what it learned in 1,200 steps. To save the adapter, use Stop and keep instead."
    )
    page.get_by_role("button", name="Continue training").click()
    expect(question).to_be_hidden()
    assert not at_work.cancel_is_requested()
    page.locator("#cancel").click()
    page.locator("#really-cancel").click()
    expect(page.locator("#run-status")).to_contain_text("Cancelling. Nothing will be kept.")
    expect(question).to_be_hidden()
    assert at_work.cancel_is_requested()


def test_the_question_names_what_there_is(at_work: Run, home: Path) -> None:
    at_work.update_status(step=1)
    at_work.adapter_dir.mkdir()
    assert cancel_question(at_work).startswith(
        f"Cancel **{at_work.id}**? You will lose what it learned in 1 step and the adapter saved earlier."
    )
    at_work.update_status(step=0)
    assert "You will lose the adapter saved earlier." in cancel_question(at_work)
    at_work.adapter_dir.rmdir()
    assert cancel_question(at_work) == f"Cancel **{at_work.id}**? Nothing has been learned yet."
    at_work.update_status(state="finished")
    with pytest.raises(RunError, match="is not running: it is finished"):
        cancel_question(at_work)
