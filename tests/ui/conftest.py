"""The real page in its own process, and Chromium to look at it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.waiting import wait_until

PROJECT = Path(__file__).resolve().parents[2]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Server:
    """`python app.py` over one home; `url` is known once the page is open."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.lines: list[str] = []
        self.open = threading.Event()
        self.start()

    def start(self) -> None:
        self.open.clear()
        self.process = subprocess.Popen(
            [sys.executable, "app.py"],
            cwd=PROJECT,
            env={**os.environ, "SFT_APP_HOME": str(self.home), "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        threading.Thread(target=self._read, daemon=True).start()
        assert self.open.wait(60), "".join(self.lines)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(20)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(20)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            if found := re.search(r"open on (http://\S+)", line):
                self.url = found.group(1)
                self.open.set()


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
    return {
        **browser_type_launch_args,
        "executable_path": CHROMIUM,
        "args": ["--no-sandbox", "--disable-dev-shm-usage", "--disable-background-networking"],
    }


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
    run = submit_run(parse_settings({**values, "max_new_tokens": 4}), home)
    wait_until(lambda: run.status().has_ended(), seconds=90)
    assert run.status().state == "finished", run.status()
    return run
