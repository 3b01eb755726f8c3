"""The real page in its own process, and Chromium to look at it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.browser import CHROMIUM, LAUNCH, Server
from tests.waiting import wait_until


@pytest.fixture
def server(home: Path) -> Iterator[Server]:
    server = Server(home)
    yield server
    if server.process.poll() is None:
        server.stop()


@pytest.fixture
def starter_server(home: Path, starter_home: Path) -> Iterator[Server]:
    """A page whose home already has the converted starter."""
    (home / "models").mkdir()
    (home / "models" / "starter").symlink_to(starter_home / "models" / "starter")
    server = Server(home)
    yield server
    if server.process.poll() is None:
        server.stop()


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, Any]) -> dict[str, Any]:
    """pytest-playwright's hook: Debian's Chromium instead of a download."""
    if CHROMIUM is None:
        pytest.fail("Chromium is missing; `make test` installs it.")
    return {**browser_type_launch_args, **LAUNCH}


@pytest.fixture
def quiet_page(page: Any) -> Iterator[Any]:
    """A browser page on which any uncaught script error fails the test."""
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.set_default_timeout(20_000)
    yield page
    assert not faults, faults


@pytest.fixture
def finished_run(home: Path, tiny_model_dir: Path, data_file: Path) -> Any:
    """A short run of the tiny model, trained by the real processes."""
    from sft_app.settings import parse_settings
    from sft_app.training.launch import submit_run

    values = {"model": str(tiny_model_dir), "data": str(data_file), "max_steps": 2, "max_length": 64}
    run = submit_run(parse_settings({**values, "max_new_tokens": 4, "scorecard_prompts": 0}), home)
    wait_until(lambda: run.status().has_ended(), seconds=90)
    assert run.status().state == "finished", run.status()
    return run
