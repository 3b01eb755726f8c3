"""A page that several tests look at, one after the other, each in a browser page of its own."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench.browser import Server
from sft_app.runs.folder import Run
from sft_app.runtime.home import runs_dir


@dataclass(frozen=True)
class Shared:
    """The page's address, and the one finished run in its home, which no test may change."""

    url: str
    run: Run


@pytest.fixture(scope="module")
def shared(
    tmp_path_factory: pytest.TempPathFactory, trained_run: Run, give_starter: Callable[[Path], None]
) -> Iterator[Shared]:
    home = tmp_path_factory.mktemp("shared")
    give_starter(home)
    run = Run(shutil.copytree(trained_run.path, runs_dir(home) / trained_run.id))
    server = Server(home)
    yield Shared(server.url, run)
    server.stop()
