"""Starts the template when a test first starts a process of the app, and ends it with the tests."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.warm import forked

FOLDER = Path(__file__).parent
PROJECT = FOLDER.parents[1]


class _Starting(forked.Forked):
    """In the tests' own process: the first process of the app that is started calls for the template."""

    template: Any = None

    def __init__(self, args: Any, *positional: Any, **options: Any) -> None:
        is_ours = isinstance(args, list | tuple) and args[0] == sys.executable and forked.ADDRESS in os.environ
        if is_ours and _Starting.template is None:
            _Starting.template = forked.Plain(
                [sys.executable, "-m", "tests.warm.template", os.environ[forked.ADDRESS]],
                cwd=PROJECT,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
            )
            _Starting.template.wait()  # it goes on in the background
        super().__init__(args, *positional, **options)


@pytest.fixture(scope="session", autouse=True)
def _template() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        path = os.pathsep.join(filter(None, [str(FOLDER), str(PROJECT), os.environ.get("PYTHONPATH")]))
        patch.setenv("PYTHONPATH", path)
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv(forked.TEMPLATE_ENVIRONMENT, json.dumps(forked.importing(os.environ)))
        patch.setenv(forked.ADDRESS, f"{folder}/{secrets.token_hex(4)}")
        patch.setattr(subprocess, "Popen", _Starting)
        yield
        if _Starting.template is not None:
            _Starting.template.stdin.close()  # which ends it
            _Starting.template = None


@pytest.fixture(autouse=True)
def _environment_stays(_template: None) -> Iterator[None]:
    """One variable that a test leaves changed, and no process is forked any more: the tests take twice as long."""
    before = forked.importing(os.environ)
    yield
    assert forked.importing(os.environ) == before, "the test has changed variables that libraries read at import"


@pytest.fixture
def plain_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes start as they do outside the tests: what is tested is how they begin, or whose child they are."""
    monkeypatch.delenv(forked.ADDRESS, raising=False)
