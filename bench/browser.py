"""Run the real page in a separate process, and define the browser that opens it, for measurements and browser tests."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
# The headless shell has no windows to draw, which takes a fifth off what a page costs.
BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None)
LAUNCH: dict[str, Any] = {
    "executable_path": CHROMIUM,
    "args": [
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--js-flags=--always-sparkplug",  # a page is too short-lived for scripts to be interpreted first
    ],
}


def open_tab(page: Any, name: str) -> None:
    """Click the page's tab of this name."""
    page.get_by_role("tab", name=name, exact=True).click()


class Server:
    """Runs `python app.py`, or Python with other arguments, with a home folder; `url` is set once the page is open."""

    def __init__(self, home: Path, *arguments: str, **environment: str) -> None:
        self.home, self.arguments, self.environment = home, arguments or ("app.py",), environment
        self.lines: list[str] = []
        self.open = threading.Event()
        self.start()

    def start(self) -> None:
        self.open.clear()
        self.process = subprocess.Popen(
            [sys.executable, *self.arguments],
            cwd=PROJECT,
            env={**os.environ, "SFT_APP_HOME": str(self.home), "PYTHONUNBUFFERED": "1", **self.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        threading.Thread(target=self._read, daemon=True).start()
        assert self.open.wait(60), "".join(self.lines)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(60)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            if match := re.search(r"running at (http://\S+)", line):
                self.url = match.group(1)
                self.open.set()
