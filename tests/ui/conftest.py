"""The real page in its own process, and Chromium to look at it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from bench.browser import CHROMIUM, LAUNCH, Server
from sft_app.runs.folder import Run
from sft_app.runtime.home import runs_dir
from tests.conftest import write_data
from tests.waiting import wait_until


@pytest.fixture
def server(home: Path, give_starter: Callable[[Path], None]) -> Iterator[Server]:
    give_starter(home)
    server = Server(home)
    yield server
    if server.process.poll() is None:
        server.stop()


@pytest.fixture(scope="module")
def module_server(tmp_path_factory: pytest.TempPathFactory, give_starter: Callable[[Path], None]) -> Iterator[Server]:
    """One server for the tests of a module that leave nothing behind in its home."""
    home = tmp_path_factory.mktemp("home")
    give_starter(home)
    server = Server(home)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, Any]) -> dict[str, Any]:
    """pytest-playwright's hook: Debian's Chromium instead of a download."""
    if CHROMIUM is None:
        pytest.fail("Chromium is missing; `make test` installs it.")
    return {**browser_type_launch_args, **LAUNCH}


@pytest.fixture
def quiet_page(page: Any) -> Iterator[Any]:
    """A browser page on which any uncaught script error fails the test; beside other work it takes its time."""
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.set_default_timeout(30_000)
    expect.set_options(timeout=30_000)
    yield page
    assert not faults, faults


@pytest.fixture(scope="session")
def trained_run(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A short run of the tiny model, trained once by the real processes; not to be changed."""
    from sft_app.settings import parse_settings
    from sft_app.training.launch import submit_run

    folder = tmp_path_factory.mktemp("trained")
    values = {"model": str(tiny_model_dir), "data": str(write_data(folder)), "max_steps": 2, "max_length": 64}
    run = submit_run(
        parse_settings({**values, "max_new_tokens": 4, "scorecard_prompts": 0, "replay": 0}), folder / "home"
    )
    wait_until(lambda: run.status().has_ended(), seconds=90)
    assert run.status().state == "finished", run.status()
    return run


@pytest.fixture
def finished_run(home: Path, trained_run: Run) -> Run:
    """The same in the test's own home."""
    return Run(shutil.copytree(trained_run.path, runs_dir(home) / trained_run.id))
